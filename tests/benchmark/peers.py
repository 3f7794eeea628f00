# SPDX-License-Identifier: MIT
"""Times NumPy and Torch on the work of benchmark.cpp, on one thread. Prints a JSON object of nanoseconds per item."""
import json
import math
import time

import numpy
import torch

torch.set_num_threads(1)
torch.manual_seed(1)
result = {}


def measure(name, work, items, repeats=5):
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    result[name] = best / items * 1e9


# Calibration. Torch needs a sorted table. NumPy is fastest if it compares and counts, in blocks of rows that fit in the cache.
def counts(reference, rewards, block=500):
    u = numpy.empty_like(rewards)
    for first in range(0, len(rewards), block):
        z, r = reference[first : first + block, None, :], rewards[first : first + block, :, None]
        u[first : first + block] = ((z < r).sum(2) + 0.5 * (z == r).sum(2)) / z.shape[2]
    return u


def searched(rows, rewards):
    return torch.searchsorted(rows, rewards), torch.searchsorted(rows, rewards, right=True)


P, K, M = 100_000, 128, 8
for name, kind in (("float", torch.float32), ("double", torch.float64)):
    reference, rewards = torch.rand(P, K, dtype=kind), torch.rand(P, M, dtype=kind)
    rows = torch.sort(reference, dim=1).values
    a, b = reference.numpy(), rewards.numpy()
    measure(f"torch.searchsorted, {name}", lambda: searched(rows, rewards), P * M)
    measure(f"numpy counts, {name}", lambda: counts(a, b), P * M, 2)
    if name == "float":
        measure("torch.sort, an element", lambda: torch.sort(reference, dim=1), P * K, 2)
        measure("numpy.sort, an element", lambda: numpy.sort(a, axis=1), P * K, 2)
    for k in (4, 16, 64, 256, 1024, 4096):
        table = torch.sort(torch.rand(1000, k, dtype=kind), dim=1).values
        few = rewards[:1000].contiguous()
        measure(f"torch.searchsorted, {name}, K = {k}", lambda: searched(table, few), 1000 * M)
        measure(f"numpy counts, {name}, K = {k}", lambda: counts(table.numpy(), few.numpy(), max(1, 64_000 // k)), 1000 * M, 2)
    group = b[:10_000]
    measure(f"numpy, leave-one-out, {name}", lambda: (counts(group, group, 2000) * M - 0.5) / (M - 1), group.size)

table, prompt = numpy.random.rand(1_000_000, K).astype("f4"), numpy.random.randint(0, 1_000_000, 200_000)
one = numpy.random.rand(200_000, 1).astype("f4")


def cold_rows():
    for first in range(0, len(prompt), 500):
        counts(table[prompt[first : first + 500]], one[first : first + 500])


measure("numpy counts, cold rows", cold_rows, len(prompt), 2)
del table

# Transforms of 10 million numbers.
for name, kind in (("float", torch.float32), ("double", torch.float64)):
    u = torch.rand(10_000_000, dtype=kind)
    v, out = u.numpy(), numpy.empty(u.numel(), dtype=u.numpy().dtype)
    ten = v.dtype.type(10)
    measure(f"torch.exp(10 u), {name}", lambda: torch.exp(10 * u), u.numel())
    measure(f"numpy.exp(10 u), into a buffer, {name}", lambda: numpy.exp(numpy.multiply(v, ten, out=out), out=out), v.size)
    if name == "float":
        measure("numpy.expm1(10 u)", lambda: numpy.divide(numpy.expm1(numpy.multiply(v, ten, out=out), out=out), 22025, out=out), v.size)
        measure("numpy.log(1 + u)", lambda: numpy.log(numpy.add(v, 1, out=out), out=out), v.size)
        measure("numpy.power(u, 7)", lambda: numpy.power(v, v.dtype.type(7), out=out), v.size)
        knots = numpy.linspace(0, 1, 500)
        measure("numpy.interp, 500 knots", lambda: numpy.interp(v, knots, knots), v.size, 2)

# The step.
B, T = 512, 2048
for name, kind in (("float", torch.float32), ("double", torch.float64)):
    old = torch.rand(B, T, dtype=kind).log()
    before, advantage = old + 0.1 * (torch.rand(B, T, dtype=kind) - 0.5), torch.randn(B, 1, dtype=kind)
    now = (old + 0.4 * (torch.rand(B, T, dtype=kind) - 0.5)).requires_grad_()

    def clip_k3():
        now.grad = None
        ratio = torch.exp(now - old)
        delta = before - now
        clipped = torch.clamp(ratio, 0.8, 1.2)
        loss = -torch.min(ratio * advantage, clipped * advantage) + 0.04 * (torch.exp(delta) - delta - 1)
        loss.mean().backward()

    def reinforce_k1():
        now.grad = None
        kl = (now.detach() - before).sum(1, keepdim=True)
        (-(advantage - 0.04 * (kl - kl.mean())) * now).sum(1).mean().backward()

    measure(f"torch eager, clip + k3, {name}", clip_k3, B * T)
    measure(f"torch eager, reinforce + k1, {name}", reinforce_k1, B * T)

# The unbiased best-of-4 win rate of 64 responses against 128, for 1,000 prompts.
policy, reference = numpy.random.rand(1000, 64).astype("f4"), numpy.random.rand(1000, 128).astype("f4")
shown = numpy.array([math.comb(i, 3) / math.comb(64, 4) for i in range(64)])
at_most = numpy.array([math.comb(i, 4) / math.comb(128, 4) for i in range(129)])


def win_rates():
    y = numpy.sort(policy, axis=1)
    below = (reference[:, None, :] < y[:, :, None]).sum(2)
    tied = (reference[:, None, :] == y[:, :, None]).sum(2)
    return (shown * 0.5 * (at_most[below] + at_most[below + tied])).sum(1)


measure("numpy, best-of-4 win rates", win_rates, 1000)
print(json.dumps(result))
