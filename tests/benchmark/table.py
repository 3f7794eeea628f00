# SPDX-License-Identifier: MIT
"""table.py PEERS.json NAME=BENCHMARK.json ...: prints the tables of README.md in Markdown: the library's times, those of the peers and their
ratio; the library's share of the memory's bandwidth; and the growth of time with size."""
import json
import math
import sys

peers = json.load(open(sys.argv[1]))
builds = {}
for argument in sys.argv[2:]:
    name, path = argument.split("=")
    builds[name] = {b["name"]: 1e9 / b["items_per_second"] for b in json.load(open(path))["benchmarks"]}
flags = {"baseline": "-O2", "O2": "-O2", "O3": "-O3", "native": "-O3 -march=native", "openmp": "-O2 -fopenmp"}
notes = {"baseline": ", SSE2 alone", "openmp": ", 2 threads"}
columns = " | ".join(f"`{flags[b]}`{notes.get(b, '')}" for b in builds)


def ratio(x):
    return f"{x:.1f}x" if x >= 1 else f"{x:.2g}x"


def line(title, ours, theirs):
    cells = " | ".join(f"{t[ours]:.3g}" + (f" ({ratio(peers[theirs] / t[ours])})" if theirs else "") for t in builds.values())
    print(f"| {title} | {cells} | " + (f"{peers[theirs]:.3g} {theirs.split(', K =')[0]} |" if theirs else "– |"))


print(f"| ns an item (times as fast) | {columns} | peer |\n|---|" + "---|" * (len(builds) + 1))
for kind in ("float", "double"):
    line(f"calibrate {kind}, 100,000 × 128, 8 responses", f"calibrate_rows<{kind}>/100000/128/8", f"torch.searchsorted, {kind}")
    line("as above, a peer that needs no sorted table", f"calibrate_rows<{kind}>/100000/128/8", f"numpy counts, {kind}")
for model in ("pooled", "location", "location_scale"):
    line(f"calibrate float with a prior, {model}", f"calibrate_with_prior<prior_model::{model}>", None)
line("make a prior, 100,000 × 128, a reward", "make_prior", None)
for kind in ("float", "double"):
    for k in (4, 16, 64, 256, 1024, 4096):
        best = min((f"{p}, {kind}, K = {k}" for p in ("torch.searchsorted", "numpy counts")), key=peers.get)
        line(f"calibrate {kind}, 1,000 × {k:,}", f"calibrate_rows<{kind}>/1000/{k}/8", best)
    for k in (256, 1024, 4096):
        line(f"sorted rows, calibrate {kind}, 1,000 × {k:,}", f"calibrate_sorted_rows<{kind}>/{k}", f"torch.searchsorted, {kind}, K = {k}")
line("sort a table, 1,000 × 4,096, a reward", "sort_table", "numpy.sort, an element")
line("cold rows, 1,000,000 × 128", "calibrate_cold_rows", "numpy counts, cold rows")
for kind in ("float", "double"):
    line(f"leave-one-out {kind}, 10,000 × 8", f"leave_one_out_ranks<{kind}>", f"numpy, leave-one-out, {kind}")
for kind in ("float", "double"):
    line(f"exponential {kind}, 10 million", f"exponential_into<{kind}>", f"numpy.exp(10 u), into a buffer, {kind}")
    line("as above, another peer", f"exponential_into<{kind}>", f"torch.exp(10 u), {kind}")
line("normalized_exponential float", "normalized_exponential_into<float>", "numpy.expm1(10 u)")
line("a lambda, log(1 + u), float", "lambda_into<float>", "numpy.log(1 + u)")
line("as above, with std::log", "lambda_with_a_call_into<float>", "numpy.log(1 + u)")
line("power 7, float", "power_into<float>", "numpy.power(u, 7)")
line("tabulated (the optimum), float", "tabulated_into<float>", "numpy.interp, 500 knots")
for kind in ("float", "double"):
    line(f"step {kind}, clip + k3, 512 × 2,048", f"step_clip_k3<{kind}>/512/2048", f"torch eager, clip + k3, {kind}")
line("step float, reinforce + k1, 512 × 2,048", "step_reinforce_k1<float>/512/2048", "torch eager, reinforce + k1, float")
line("win rates, best-of-4, 64 against 128", "win_rate_best_of_4", "numpy, best-of-4 win rates")
line("optimal transform, best-of-4, at a β", "solve_best_of_4", None)
line("optimal transform, best-of-4, at a KL", "solve_best_of_4_at_kl", None)

print(f"\n| share of the machine's bandwidth | {columns} |\n|---|" + "---|" * len(builds))
for title, limit, ours in (
    ("exponential float, of a copy", "copy<float>", "exponential_into<float>"),
    ("exponential double, of a copy", "copy<double>", "exponential_into<double>"),
    ("cold rows, of a gather that reads them", "gather_cold_rows", "calibrate_cold_rows"),
    ("step, of 3 in 1 out, 512 × 2,048", "three_in_one_out<float>/512/2048", "step_clip_k3<float>/512/2048"),
    ("step, of 3 in 1 out, 8,000 × 1,250", "three_in_one_out<float>/8000/1250", "step_clip_k3<float>/8000/1250"),
):
    print(f"| {title} | " + " | ".join(f"{t[limit] / t[ours]:.2f}" for t in builds.values()) + " |")
print("| bytes a nanosecond in a copy | " + " | ".join(f"{8 / t['copy<float>']:.1f}" for t in builds.values()) + " |")

print(f"\n| slope of log time over log size | {columns} |\n|---|" + "---|" * len(builds))
for title, prefix, size in (
    ("P, 100 to 100,000", "calibrate_rows<float>/{}/32/8", (100, 1000, 10000, 100000)),
    ("M, 1 to 1,000", "calibrate_rows<float>/1000/128/{}", (1, 10, 100, 1000)),
    ("B·T, 10,000 to 10,000,000", "step_clip_k3<float>/{}/1250", (8, 80, 800, 8000)),
):
    def slope(times):
        x = [math.log(n) for n in size]
        y = [math.log(n * times[prefix.format(n)]) for n in size]
        mx, my = sum(x) / len(x), sum(y) / len(y)
        return sum((a - mx) * (b - my) for a, b in zip(x, y)) / sum((a - mx) ** 2 for a in x)

    print(f"| {title} | " + " | ".join(f"{slope(t):.2f}" for t in builds.values()) + " |")
