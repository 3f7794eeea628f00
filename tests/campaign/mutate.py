#!/usr/bin/env python3
"""Mutation testing: breaks the headers in one place at a time, and counts how often a test notices.

    tests/campaign/mutate.py [--count 300] [--header PATTERN] [--seed 1] [--jobs 2]

Each mutant is compiled with the header's own test, and if that passes, with tests of headers that include it and with some
of tests/whole. One that no test notices shows a gap in the tests, or changes nothing that can be seen: then it is listed in
tests/campaign/equivalent_mutants.txt with the reason, and not counted. Mutants that do not compile are not counted either.
Results go to .build/mutants/results.jsonl; a later run with the same seed goes on from there.
"""
import argparse
import collections
import concurrent.futures
import fnmatch
import functools
import json
import pathlib
import random
import re
import shutil
import subprocess
import tempfile
import threading
import time

root = pathlib.Path(__file__).resolve().parents[2]
include, build = root / "include" / "infalign", root / ".build" / "mutants"
clang = shutil.which("clang++") or shutil.which("clang++-14")  # takes half of the time of g++
trap = "-fsanitize-trap=bounds" if clang else "-fsanitize-undefined-trap-on-error"
compiler = [clang or "g++", trap, "-std=c++20", "-w", "-D_GLIBCXX_ASSERTIONS", "-fsanitize=bounds", f"-I{root}/tests/support", "-isystem", "/usr/include/eigen3"]
whole = ["whole/plain_step", "whole/properties", "whole/other_trainers", "whole/exactness"]
options_of = {"whole/properties": ["-lrapidcheck"]}
# The own tests of headers that have none of their name, because they are a part of another.
own_tests = {"calibration/prior_state": "calibration/prior", "calibration/rank_combination": "calibration/joint", "detail/credit": "step/policy_loss", "detail/dispatch": "instruction_set",
             "detail/parallel": "whole/parallel", "detail/shooting": "theory/optimal_transform", "workspace": "detail/scratch"}

# What is replaced, in code without its comments and strings. Each group is a place; each replacement a mutant.
operators = [
    (r"(?<=[\w)\] ])<=(?=[ \w(])", ["<"]), (r"(?<= )<(?= )", ["<="]), (r"(?<= )>=(?= )", [">"]), (r"(?<= )>(?= )", [">="]),
    (r"==", ["!="]), (r"!=", ["=="]), (r"&&", ["||"]), (r"(?<!\|)\|\|(?!\|)", ["&&"]),
    (r"(?<= )\+(?= )", ["-"]), (r"(?<= )-(?= )", ["+"]), (r"(?<=[\w)\]] )\*(?= [\w(])", ["/"]), (r"(?<= )/(?= )", ["*"]),
    (r"\+=", ["-="]), (r"(?<![-<])-=", ["+="]), (r"\*=", ["/="]), (r"/=", ["*="]), (r"\|=", ["&="]),
    (r"\+\+(?=\w)", ["--"]), (r"(?<=[=(?:,&|] )!(?=[\w(])", [""]), (r"(?<=\()!(?=[\w(])", [""]), (r"(?<=[(,=?:{] )-(?=\w)", [""]),
    (r"\bstd::min\b", ["std::max"]), (r"\bstd::max\b", ["std::min"]), (r"\btrue\b", ["false"]), (r"\bfalse\b", ["true"]),
    (r"(?<![\w.'])0(?![\w.'])", ["1"]), (r"(?<![\w.'])1(?![\w.'])", ["0", "2"]), (r"(?<![\w.'])0\.5(?![\w.'])", ["0.25"]),
    (r"(?<![\w.'])([2-9]|[1-9]\d+)(?![\w.'])", [lambda number: str(2 * int(number))]),
    (r"\bbreak;", [";"]), (r"\bcontinue;", [";"]),
]
not_mutated = re.compile(r"^\s*(#|//|template|concept|requires|namespace|using|typedef|static_assert|friend|public:|private:|\}?;?$|struct|class|enum)")
statement = re.compile(r"^\s+[\w:.\[\]\->*]+(\(.*\)|\s*[-+*/|]?=\s.*|\+\+|--);$")


def code_of(line):
    """The line with comments and strings blanked, of the same length."""
    line = re.sub(r'"(\\.|[^"\\])*"', lambda m: " " * len(m.group()), line)
    return re.sub(r"//.*", lambda m: " " * len(m.group()), line)


def mutants_of(header):
    """(line number, mutated line) for each mutant of a header."""
    lines = header.read_text().split("\n")
    skipping = False  # inside a concept or a static_assert of several lines
    for number, line in enumerate(lines):
        code = code_of(line)
        skipping = skipping or re.match(r"\s*(concept|static_assert)", code) is not None
        if skipping:
            skipping = not code.rstrip().endswith(";")
            continue
        if not_mutated.match(code) or not code.strip():
            continue
        for pattern, replacements in operators:
            for match in re.finditer(pattern, code):
                for replacement in replacements:
                    text = replacement(match.group()) if callable(replacement) else replacement
                    yield number, line[: match.start()] + text + line[match.end():]
        if statement.match(code) and not re.match(r"\s*(return|const|auto|static|delete)\b", code):
            yield number, re.match(r"\s*", line).group() + ";"


def header_name(path):
    return str(path.relative_to(include))


def tests_for(header):
    """The header's own test, and then others, the likeliest first."""
    name = header_name(header)[: -len(".hpp")]
    users = [name]  # then the headers that include it, then those that include these
    for used in users:
        users += [h for h, text in texts().items() if f"<infalign/{used}.hpp>" in text and h not in users and "/" in h]
    own, found = own_tests.get(name, name), []
    for test in [own, *whole[:1], *users[1:], *whole[1:]]:
        if (root / "tests" / f"{test}.cpp").exists() and test not in found and test not in ("adapters/gzip", "adapters/torch"):
            found.append(test)
    return (own if own in found else None), [t for t in found if t != own][:6]


@functools.cache
def texts():
    return {header_name(h)[: -len(".hpp")]: h.read_text() for h in sorted(include.rglob("*.hpp"))}


usual, locks = {}, collections.defaultdict(threading.Lock)


def usual_of(test):
    """(optimisation, seconds, and with compilation) with which a test passes without a mutant; None if it does not. Slow
    tests are optimised."""
    with locks[test]:
        if test not in usual:
            usual[test] = None
            for level in ("-O0", "-O1"):
                begin = time.monotonic()
                with tempfile.TemporaryDirectory() as folder:
                    outcome, seconds = run_test(test, root / "include", folder, level, limit=60 if level == "-O0" else 600)
                if outcome == "survived":
                    usual[test] = level, seconds, time.monotonic() - begin
                if outcome == "survived" and seconds < 5:
                    break
        return usual[test]


def run_test(test, overlay, folder, level, limit, sanitizers=()):
    """'no compile', 'killed' or 'survived', and the seconds that its program ran."""
    program = pathlib.Path(folder) / "test"
    command = [*compiler, level, *(["-include", str(build / "precompiled.hpp")] if level == "-O0" else [])]
    if test == "whole/parallel":  # g++ comes with OpenMP
        command = ["g++", "-std=c++20", "-w", "-O1", "-fopenmp", f"-I{root}/tests/support", "-isystem", "/usr/include/eigen3"]
    command = [*command, f"-I{overlay}", f"-I{root}/include", str(root / "tests" / f"{test}.cpp"), str(build / "main.o"),
               "-o", str(program), *sanitizers, *options_of.get(test, [])]
    if subprocess.run(command, capture_output=True).returncode:
        return "no compile", 0
    begin = time.monotonic()
    try:
        done = subprocess.run([str(program)], capture_output=True, timeout=limit, cwd=folder)
    except subprocess.TimeoutExpired:
        return "killed", limit
    return "killed" if done.returncode else "survived", time.monotonic() - begin


def try_mutant(mutant):
    header, number, line = mutant
    lines = header.read_text().split("\n")
    original, lines[number] = lines[number], line
    with tempfile.TemporaryDirectory() as folder:
        overlay = pathlib.Path(folder) / "overlay"
        target = overlay / "infalign" / header_name(header)
        target.parent.mkdir(parents=True)
        target.write_text("\n".join(lines))
        own, others = tests_for(header)
        tried = None
        result = {"header": header_name(header), "line": number + 1, "from": original.strip(), "to": line.strip(), "killed_by": None}
        for test in ([own] if own else []) + others:
            if usual_of(test) is None:
                continue
            level, seconds, whole_seconds = usual_of(test)
            if whole_seconds > 15 and test != own:
                continue  # too slow to try with each mutant
            outcome, _ = run_test(test, overlay, folder, level, limit=10 + 3 * seconds)
            if outcome == "no compile":
                if run_test(test, root / "include", folder, level, limit=10 + 3 * seconds)[0] == "no compile":
                    raise RuntimeError(f"{test} does not compile any more, without a mutant too: was a file changed?")
                return {**result, "killed_by": "compiler"}
            if outcome == "killed":
                return {**result, "killed_by": test, "own": test == own}
            tried = tried or test
        # No test fails. Is the line code of another compiler or of OpenMP? Do the sanitizers see something?
        if tried and tried != "whole/parallel":
            target.write_text("\n".join([*lines[:number], "@ not C++", *lines[number + 1:]]))
            if run_test(tried, overlay, folder, "-O0", limit=60)[0] != "no compile":
                return {**result, "killed_by": "compiler"}
            target.write_text("\n".join(lines))
            if run_test(tried, overlay, folder, "-O1", limit=120, sanitizers=["-fsanitize=address,undefined", "-fno-sanitize-recover=all"])[0] == "killed":
                return {**result, "killed_by": f"{tried}, with sanitizers", "own": tried == own}
        return result


def equivalents():
    """The listed mutants, as (header, from, to)."""
    path, found = root / "tests" / "campaign" / "equivalent_mutants.txt", set()
    if path.exists():
        blocks = [b.split("\n") for b in path.read_text().split("\n\n") if not b.startswith("#")]
        found = {(b[0], b[1][2:].strip(), b[2][2:].strip()) for b in blocks if len(b) > 3}
    return found


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--count", type=int, default=300)
    options.add_argument("--header", default="*")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--jobs", type=int, default=2)
    options = options.parse_args()

    build.mkdir(parents=True, exist_ok=True)
    (build / "precompiled.hpp").write_text("#include \"catch.hpp\"\n#include <Eigen/Core>\n")
    precompiled = build / ("precompiled.hpp.pch" if clang else "precompiled.hpp.gch")
    subprocess.run([*compiler, "-O0", f"-I{root}/include", "-x", "c++-header", str(build / "precompiled.hpp"), "-o", str(precompiled)], check=True)
    subprocess.run([*compiler, f"-I{root}/include", "-c", str(root / "tests/support/main.cpp"), "-o", str(build / "main.o")], check=True)

    left_out = {"adapters/gzip.hpp", "adapters/torch.hpp", "detail/begin.hpp", "detail/end.hpp"}
    headers = [h for h in sorted(include.rglob("*.hpp")) if fnmatch.fnmatch(header_name(h), options.header) and header_name(h) not in left_out]
    mutants = [(h, n, line) for h in headers for n, line in mutants_of(h)]
    print(f"{len(mutants)} mutants in {len(headers)} headers; {min(options.count, len(mutants))} are tried", flush=True)
    random.Random(options.seed).shuffle(mutants)
    def key(mutant):
        return header_name(mutant[0]), mutant[0].read_text().split("\n")[mutant[1]].strip(), mutant[2].strip()
    same = equivalents()
    equivalent = [m for m in mutants[: options.count] if key(m) in same]
    mutants = [m for m in mutants[: options.count] if key(m) not in same]

    log = build / "results.jsonl"
    known = {}
    if log.exists():
        for line in log.read_text().splitlines():
            result = json.loads(line)
            known[result["header"], result["from"], result["to"]] = result
    results = [known[key(m)] for m in mutants if key(m) in known]
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool, log.open("a") as out:
        running = [pool.submit(try_mutant, m) for m in mutants if key(m) not in known]
        for future in concurrent.futures.as_completed(running):
            result = future.result()
            results.append(result)
            out.write(json.dumps(result) + "\n")
            out.flush()

    counted = [r for r in results if r["killed_by"] != "compiler"]
    killed, own = [r for r in counted if r["killed_by"]], [r for r in counted if r.get("own")]
    for r in counted:
        if not r["killed_by"]:
            print(f'survived: {r["header"]}:{r["line"]}\n  - {r["from"]}\n  + {r["to"]}')
    n = max(1, len(counted))
    print(f"{len(results) - len(counted)} mutants do not compile, {len(equivalent)} are equivalent; of the other {len(counted)}, {len(killed)} "
          f"({100 * len(killed) / n:.1f} %) are noticed by a test and {len(own)} ({100 * len(own) / n:.1f} %) by the header's own")


if __name__ == "__main__":
    main()
