#!/usr/bin/env python3
"""Coverage of include/ by the tests: lines and branches that no test reaches.

    tests/campaign/coverage.py [--branches] [--jobs 2]

Needs clang++ with llvm-profdata and llvm-cov of the same version. A header is compiled into many programs and for several
types: a line or a branch is reached if any of them reaches it. A branch is one outcome of a condition in the source. The
branches that compilers add for exceptions are none, and neither is a condition that is a constant in each of its types. A
line that no test can reach has the words `not covered:` and the reason in a comment. Fails below 100 % of lines or 90 % of
branches. adapters/torch.hpp is left out.
"""
import argparse
import collections
import concurrent.futures
import json
import pathlib
import re
import shutil
import subprocess
import sys

root = pathlib.Path(__file__).resolve().parents[2]
headers, build = root / "include" / "infalign", root / ".build" / "coverage"
version = next((v for v in ("-19", "-16", "-15", "-14", "") if all(shutil.which(t + v) for t in ("clang++", "llvm-profdata", "llvm-cov"))), None)
flags = ["-std=c++20", "-w", "-fprofile-instr-generate", "-fcoverage-mapping", f"-I{root}/tests/support", f"-I{root}/include",
         "-isystem", "/usr/include/eigen3"]
wrap = ["-Wl,--wrap=malloc", "-Wl,--wrap=free"]
options_of = {"adapters/gzip": ["-lz"], "whole/properties": ["-lrapidcheck"], "whole/threads": ["-pthread"], "whole/allocation": wrap, "whole/failing_allocations": wrap}
not_run = {"adapters/torch", "whole/mpi", "whole/compile_fail", "whole/macros", "whole/mixed_flags", "whole/parent", "whole/two_units_a", "whole/two_units_b"}


def run(*command, **options):
    return subprocess.run([str(c) for c in command], capture_output=True, text=True, **options)


def covered_by(test):
    """The test's (lines, branches): how often each was reached, by (header, line) and (header, line, column, outcome)."""
    program = build / test.replace("/", "_")
    compiled = run(f"clang++{version}", "-O1" if test.startswith("whole/") else "-O0", *flags, root / "tests" / f"{test}.cpp", build / "main.o",
                   "-o", program, *options_of.get(test, []))
    if compiled.returncode:
        return f"{test}: does not compile: {compiled.stderr[:300]}"
    done = run(program, cwd=build, env={"LLVM_PROFILE_FILE": f"{program}.profraw", "RC_PARAMS": "seed=1 max_success=100"})
    if done.returncode:
        return f"{test}: fails: {done.stdout[-300:]}"
    run(f"llvm-profdata{version}", "merge", f"{program}.profraw", "-o", f"{program}.profdata", check=True)
    export = [f"llvm-cov{version}", "export", f"-instr-profile={program}.profdata", program]
    lines, branches = collections.Counter(), collections.Counter()
    for row in run(*export, "-format=lcov", check=True).stdout.splitlines():
        if row.startswith("SF:"):
            path = pathlib.Path(row[3:])
            name = str(path.relative_to(headers)) if headers in path.parents else None
        elif row.startswith("DA:") and name:
            number, count = row[3:].split(",")[:2]
            lines[name, int(number)] += int(count)
    for file in json.loads(run(*export, check=True).stdout)["data"][0]["files"]:
        path = pathlib.Path(file["filename"])
        if headers in path.parents:
            for line, column, _, _, taken, not_taken, *_ in file["branches"]:
                branches[str(path.relative_to(headers)), line, column, True] += taken
                branches[str(path.relative_to(headers)), line, column, False] += not_taken
    return lines, branches


def excused(name, number):
    line = (headers / name).read_text().splitlines()[number - 1]
    return "not covered:" in line or re.match(r"\s*(#|if constexpr|else$)", line)  # the compiler's choices are not code that runs


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--branches", action="store_true", help="list the branches that no test takes")
    options.add_argument("--jobs", type=int, default=2)
    options = options.parse_args()
    if version is None:
        sys.exit("clang++, llvm-profdata and llvm-cov of one version are needed (Debian: clang and llvm)")
    build.mkdir(parents=True, exist_ok=True)
    run(f"clang++{version}", *flags, "-c", root / "tests/support/main.cpp", "-o", build / "main.o", check=True)
    tests = sorted(str(t.relative_to(root / "tests"))[:-4] for t in (root / "tests").rglob("*.cpp")
                   if t.parent.name not in ("benchmark", "programs", "package", "campaign", "support"))
    lines, branches, failed = collections.Counter(), collections.Counter(), False
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for result in pool.map(covered_by, [t for t in tests if t not in not_run]):
            if isinstance(result, str):
                print(result)
                failed = True
            else:
                # `update` keeps counts of zero.
                lines.update(result[0]), branches.update(result[1])

    def source(name, number):
        return (headers / name).read_text().splitlines()[number - 1].strip()
    lines = {place: count for place, count in lines.items() if place[0] != "adapters/torch.hpp" and not excused(*place)}
    constant = {place[:3] for place in branches if lines.get(place[:2]) and not any(branches[*place[:3], outcome] for outcome in (True, False))}
    branches = {place: count for place, count in branches.items()
                if place[0] != "adapters/torch.hpp" and place[:3] not in constant and not excused(*place[:2])}
    missed = sorted(place for place, count in lines.items() if count == 0)
    for name, number in missed:
        print(f"{name}:{number}: {source(name, number)}")
    if options.branches:
        for name, number, column, outcome in sorted(p for p, count in branches.items() if count == 0 and lines.get(p[:2])):
            print(f"{name}:{number}:{column} is never {str(outcome).lower()}: {source(name, number)}")
    taken = sum(count > 0 for count in branches.values())
    line_share, branch_share = 100 * (1 - len(missed) / len(lines)), 100 * taken / len(branches)
    print(f"{line_share:.2f} % of {len(lines)} lines, {branch_share:.2f} % of {len(branches)} branches")
    sys.exit(1 if failed or missed or branch_share < 90 else 0)


if __name__ == "__main__":
    main()
