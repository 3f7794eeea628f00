# SPDX-License-Identifier: MIT
"""python -m infalign: what your rewards gain, before any training."""

import argparse
import sys

import numpy as np

import infalign
from infalign import checks
from infalign.picture import draw

PROCEDURES = "best-of-N or worst-of-N, for example best-of-4"


def procedure(text):
    """best-of-4 or worst-of-4."""
    kind, _, n = text.rpartition("-")
    if kind not in ("best-of", "worst-of") or not n.isdigit() or int(n) < 1:
        raise argparse.ArgumentTypeError(f"expected {PROCEDURES}, got {text!r}")
    return infalign.best_of(int(n)) if kind == "best-of" else infalign.worst_of(int(n))


def scored_rows(table):
    """The scored rewards of each prompt that has any."""
    rows = [np.asarray(row, dtype=float) for row in table.rewards]
    rows = [row[~np.isnan(row)] for row in rows]
    return [row for row in rows if len(row)]


def z_score(row):
    return (row - row.mean()) / row.std() if row.std() > 0 else np.zeros_like(row)


def study(arguments):
    """Win rates at mean KLs of the policies that maximise four rewards, in closed form."""
    rows = scored_rows(infalign.reference_table.read(arguments.file))
    used = arguments.procedure
    t = 10 if arguments.t is None else arguments.t
    if arguments.t is None and repr(used).startswith("worst_of"):
        t = -10
    ranks = [infalign.calibrate(row[None, :], row[None, :])[0] for row in rows]
    columns = {
        "raw": rows,
        "z-score": [z_score(row) for row in rows],
        "calibrated": ranks,
        f"exponential t={t:g}": [infalign.transform(u, infalign.normalized_exponential(t)) for u in ranks],
    }
    print(f"{len(rows)} prompts, {used}: win rate against the reference policy [95 % interval]")
    print(f"{'KL':>5}  " + "  ".join(f"{name:>24}" for name in columns))
    curves = {name: [] for name in columns}
    for kl in (0.1, 0.25, 0.5, 1.0):
        cells = []
        for name, scores in columns.items():
            try:
                w = infalign.mean_over_prompts(infalign.finite_policies(scores, kl=kl).win_rates(rows, used))
            except ValueError:
                cells.append(f"{'-':>24}")  # so few responses, or ties, do not reach this KL
                continue
            curves[name].append((kl, w.mean))
            cells.append(f"{w.mean:8.4f} [{w.low:.4f}, {w.high:.4f}]" if len(rows) > 1 else f"{w.mean:24.4f}")
        print(f"{kl:5.2f}  " + "  ".join(cells))
    if arguments.picture:
        draw(arguments.picture, {name: points for name, points in curves.items() if points}, "KL to the reference (nats)", f"win rate, {used}")


def table(arguments):
    """Writes the rewards of a log as a .npy file that reference_table maps, and the prompts beside it."""
    read = infalign.reference_table.read(arguments.file)
    if not isinstance(read.rewards, np.ndarray):
        raise ValueError(f"{arguments.file}: expected as many rewards for each prompt, to write them as one array")
    np.save(arguments.out + ".npy", read.rewards.astype(np.float32))
    with open(arguments.out + ".names", "w", encoding="utf-8") as names:
        names.writelines(name.replace("\n", "\\n") + "\n" for name in read.names)
    print(f"wrote {arguments.out}.npy, {read.rewards.shape[0]} x {read.rewards.shape[1]}, and {arguments.out}.names")


def plan(arguments):
    """Which prior, t and beta to train with, measured on a half of each prompt's rewards."""
    if sys.stderr.isatty():
        print("planning: 2 to 10 seconds", file=sys.stderr)
    made = infalign.plan_rewards(scored_rows(infalign.reference_table.read(arguments.file)), arguments.procedure, kl=arguments.kl)
    print(f"train with: prior {made.prior.model} of weight {made.prior.weight:.2f}, normalized_exponential({made.t:.2f}), "
          f"k1_in_reward({made.beta:.4f})")
    print(f"\nmeasured with a half of each prompt's rewards, against the other half\n{'K':>6} {'raw':>8} {'calibrated':>11} "
          f"{'with prior':>11}   gain over raw [95 % interval]")
    for m in made.measured:
        print(f"{m['count']:6.1f} {m['raw'].mean:8.4f} {m['plain'].mean:11.4f} {m['prior'].mean:11.4f}   "
              f"{m['gain'].mean:+.4f} [{m['gain'].low:+.4f}, {m['gain'].high:+.4f}]")


def check(arguments):
    """Is a table of reference rewards still right for the rewards of a new log?"""
    old, new = infalign.reference_table.read(arguments.file), infalign.reference_table.read(arguments.new)
    shared = [name for name in new.names if name in old]
    if not shared:
        raise ValueError(f"{arguments.new}: expected prompts of {arguments.file}, got none of them")
    prompt = [old.index(name) for name in shared for _ in new.rewards[new.index(name)]]
    rewards = np.concatenate([np.asarray(new.rewards[new.index(name)], dtype=float) for name in shared])
    d = infalign.drift(old.rewards, rewards, prompt, unscored="propagate")
    print(f"{len(shared)} prompts, {len(rewards)} rewards: mean rank {d.mean:.4f} (0.5 without drift), p = {d.p_value:.3g}")
    stale = d.p_value < 0.01
    print("the table is stale: score the reference policy again" if stale else "no drift is seen")
    return 1 if stale else 0


def log(arguments):
    """Are the shaped rewards of a trainer's log in the order of the raw ones, prompt by prompt?"""
    raw = infalign.reference_table.read(arguments.file, key=arguments.raw)
    shaped = infalign.reference_table.read(arguments.file, key=arguments.shaped)
    for name, before, after in zip(raw.names, raw.rewards, shaped.rewards):
        if len(before) != len(after):
            raise ValueError(f"{arguments.file}: expected as many shaped as raw rewards, got {len(before)} raw and {len(after)} shaped ones "
                             f"of the prompt {name[:80]!r}")
    prompt = np.repeat(np.arange(len(raw)), [len(row) for row in raw.rewards])
    batch = np.concatenate([*raw.rewards]), np.concatenate([*shaped.rewards]), prompt
    order, scored = checks.log_keeps_order(*batch), checks.log_keeps_unscored(*batch)
    for report in (order, checks.log_keeps_distinct(*batch), checks.log_keeps_ties(*batch), scored):
        print(report, end="")
    for report in (order, scored):
        if not report:
            p = int(report.counterexample["prompt"][0])
            print(f"prompt {p} is {raw.names[p][:200]}")
    return 0 if order and scored else 1


def main(arguments=None):
    parser = argparse.ArgumentParser(
        prog="infalign", description="What calibrated, transformed rewards gain on your own log, before any training.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="A log has lines {\"prompt\": ..., \"rewards\": [...]} of the reference policy; null and NaN are unscored.\n\n"
               "examples:\n"
               "  python -m infalign study rewards.jsonl --procedure best-of-4 --picture gain.png\n"
               "  python -m infalign plan rewards.jsonl --procedure best-of-4 --kl 0.5\n"
               "  python -m infalign table rewards.jsonl --out reference\n"
               "  python -m infalign check rewards.jsonl new.jsonl\n"
               "  python -m infalign log training.jsonl --raw reward --shaped shaped_reward")
    commands = parser.add_subparsers(required=True, metavar="study|plan|table|check|log")

    def command(name, function, file="the log of the reference policy"):
        c = commands.add_parser(name, help=function.__doc__, description=function.__doc__)
        c.add_argument("file", help=file)
        c.set_defaults(run=function)
        return c

    s = command("study", study)
    s.add_argument("--procedure", type=procedure, default=infalign.best_of(4), help=PROCEDURES)
    s.add_argument("--t", type=float, help="the rate of the exponential (10, or -10 for worst-of-N)")
    s.add_argument("--picture", metavar="FILE.png", help="draws the curves (needs matplotlib or gnuplot)")
    p = command("plan", plan)
    p.add_argument("--procedure", type=procedure, default=infalign.best_of(4), help=PROCEDURES)
    p.add_argument("--kl", type=float, default=0.5, help="the KL to train to, in nats per response (0.5)")
    command("table", table).add_argument("--out", required=True, help="the name of the files, without an ending")
    command("check", check).add_argument("new", help="a log of the same prompts, scored now")
    of_log = command("log", log, 'lines {"prompt": ..., "raw": [...], "shaped": [...]}, or one number each')
    of_log.add_argument("--raw", default="raw", help="the key of the rewards before shaping (raw)")
    of_log.add_argument("--shaped", default="shaped", help="the key of the rewards after shaping (shaped)")
    chosen = parser.parse_args(arguments)
    try:
        return chosen.run(chosen) or 0
    except (ValueError, OSError, ImportError) as error:
        print(f"infalign: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
