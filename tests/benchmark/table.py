# SPDX-License-Identifier: MIT
"""table.py PEERS.json NAME=BENCHMARK.json ...: one table of the library's times, as ratios to the peers', and whether time is linear."""
import json
import math
import sys

peers = json.load(open(sys.argv[1]))
builds = {}
for argument in sys.argv[2:]:
    name, path = argument.split("=")
    builds[name] = {b["name"]: 1e9 / b["items_per_second"] for b in json.load(open(path))["benchmarks"]}

rows = [
    ("calibrate, K = 128, 8 responses a prompt", "calibrate_rows<float>/100000/128/8", "torch.searchsorted, both sides"),
    ("the same, the peer's table made ready too", "calibrate_rows<float>/100000/128/8", "numpy, compare and count"),
    ("exponential, 10 million floats", "exponential_into<float>", "torch.exp(10 u)"),
    ("", "exponential_into<float>", "numpy.exp(10 u), into a buffer"),
    ("step, clip + k3, 512 x 2048 tokens", "step_clip_k3<float>/512/2048", "torch eager, clip + k3 with autograd"),
]
print(f"{'nanoseconds an item':44}" + "".join(f"{b:>9}" for b in builds) + "   peer")
for title, ours, theirs in rows:
    print(f"{title:44}" + "".join(f"{t[ours]:9.2f}" for t in builds.values()) + f"{peers[theirs]:9.2f}  {theirs}")
    print(f"{'  times as fast':44}" + "".join(f"{peers[theirs] / t[ours]:8.1f}x" for t in builds.values()))

print("\nalone")
for name in next(iter(builds.values())):
    print(f"{name:44}" + "".join(f"{t[name]:9.2f}" for t in builds.values()))
for name, value in peers.items():
    print(f"{name:44}{'':{9 * len(builds)}}{value:9.2f}")

print("\nof the memory's bandwidth")
for title, limit, ours in (
    ("exponential: of a copy", "copy", "exponential_into<float>"),
    ("cold rows: of a gather", "gather_cold_rows", "calibrate_cold_rows"),
):
    print(f"{title:44}" + "".join(f"{t[limit] / t[ours]:9.2f}" for t in builds.values()))
print(f"{'bytes a nanosecond in a copy':44}" + "".join(f"{8 / t['copy']:9.1f}" for t in builds.values()))

print("\nslope of log time over log size")
for title, prefix, size in (
    ("P, 100 to 100,000", "calibrate_rows<float>/{}/32/8", (100, 1000, 10000, 100000)),
    ("M, 1 to 1,000", "calibrate_rows<float>/1000/128/{}", (1, 10, 100, 1000)),
    ("B T, 10,000 to 10,000,000", "step_clip_k3<float>/{}/1250", (8, 80, 800, 8000)),
):
    def slope(times):
        x = [math.log(n) for n in size]
        y = [math.log(n * times[prefix.format(n)]) for n in size]
        mx, my = sum(x) / len(x), sum(y) / len(y)
        return sum((a - mx) * (b - my) for a, b in zip(x, y)) / sum((a - mx) ** 2 for a in x)

    print(f"{title:44}" + "".join(f"{slope(t):9.2f}" for t in builds.values()))
