#!/usr/bin/env python3
"""Sums what gcov says of a build folder: lines and branches of include/ that no test reaches.

    tests/campaign/coverage.py BUILD_FOLDER

A header is compiled into many programs and for several types. A line is reached if any of them reaches it; a branch is the
k-th branch of its line, in whichever of them. Branches that compilers add for exceptions are not counted. A line that no
test can reach has the words `not covered:` and the reason in a comment.
"""
import collections
import json
import pathlib
import subprocess
import sys

build = pathlib.Path(sys.argv[1]).resolve()
headers = pathlib.Path(__file__).resolve().parents[2] / "include" / "infalign"
lines, branches = collections.defaultdict(int), collections.defaultdict(int)
for data in build.rglob("*.gcda"):
    text = subprocess.run(["gcov", "--json-format", "--branch-probabilities", "--stdout", str(data)], capture_output=True, text=True, cwd=build).stdout
    for file in (f for part in text.splitlines() if part.startswith("{") for f in json.loads(part)["files"]):
        path = (build / file["file"]).resolve()
        if headers not in path.parents:
            continue
        for line in file["lines"]:
            place = path.relative_to(headers), line["line_number"]
            lines[place] += line["count"]
            for k, branch in enumerate(b for b in line["branches"] if not b["throw"]):
                branches[*place, k] += branch["count"]

def excused(path, number):
    text = (headers / path).read_text().splitlines()[number - 1]
    return "not covered:" in text or text.strip() == "}"  # a brace stands for destructors after an exception

missed = sorted(place for place, count in lines.items() if count == 0 and not excused(*place))
for path, number in missed:
    print(f"{path}:{number}: {(headers / path).read_text().splitlines()[number - 1].strip()}")
half = collections.Counter((path, number) for (path, number, _), count in branches.items() if count == 0 and lines[path, number])
if "--branches" in sys.argv:
    for (path, number), count in sorted(half.items()):
        print(f"{path}:{number}: {count} branches: {(headers / path).read_text().splitlines()[number - 1].strip()}")
taken = sum(count > 0 for count in branches.values())
line_share, branch_share = 100 * (1 - len(missed) / len(lines)), 100 * taken / len(branches)
print(f"{line_share:.2f} % of {len(lines)} lines, {branch_share:.2f} % of {len(branches)} branches")
sys.exit(0 if not missed and branch_share >= 90 else 1)
