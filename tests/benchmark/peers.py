# SPDX-License-Identifier: MIT
"""The same work as benchmark.cpp, done by NumPy and Torch on one thread: prints a JSON object of nanoseconds per item."""
import json
import time

import numpy
import torch

torch.set_num_threads(1)
torch.manual_seed(1)
P, K, M, B, T = 100_000, 128, 8, 512, 2048


def nanoseconds(work, items, repeats=5):
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return best / items * 1e9


reference, rewards = torch.rand(P, K), torch.rand(P, M)
rows = torch.sort(reference, dim=1).values
result = {
    "torch.sort of the table, an element": nanoseconds(lambda: torch.sort(reference, dim=1), P * K, 2),
    "numpy.sort of the table, an element": nanoseconds(lambda: numpy.sort(reference.numpy(), axis=1), P * K, 2),
    "torch.searchsorted, both sides": nanoseconds(
        lambda: (torch.searchsorted(rows, rewards), torch.searchsorted(rows, rewards, right=True)), P * M
    ),
}


def numpy_counts():  # the best NumPy way: compare and count, a block of rows that fits in the cache at a time
    a, b = reference.numpy(), rewards.numpy()
    u = numpy.empty_like(b)
    for first in range(0, P, 500):
        z, r = a[first : first + 500, None, :], b[first : first + 500, :, None]
        u[first : first + 500] = ((z < r).sum(2) + 0.5 * (z == r).sum(2)) / K


result["numpy, compare and count"] = nanoseconds(numpy_counts, P * M, 2)

u = torch.rand(10_000_000)
v, out = u.numpy(), numpy.empty(u.numel(), dtype="f4")
result["torch.exp(10 u)"] = nanoseconds(lambda: torch.exp(10 * u), u.numel())
result["numpy.exp(10 u), into a buffer"] = nanoseconds(
    lambda: numpy.exp(numpy.multiply(v, numpy.float32(10), out=out), out=out), u.numel()
)

old = torch.rand(B, T).log()
before, advantage = old + 0.1 * (torch.rand(B, T) - 0.5), torch.randn(B, 1)
now = (old + 0.4 * (torch.rand(B, T) - 0.5)).requires_grad_()


def step():
    now.grad = None
    ratio = torch.exp(now - old)
    delta = before - now
    clipped = torch.clamp(ratio, 0.8, 1.2)
    loss = -torch.min(ratio * advantage, clipped * advantage) + 0.04 * (torch.exp(delta) - delta - 1)
    loss.mean().backward()


result["torch eager, clip + k3 with autograd"] = nanoseconds(step, B * T)
print(json.dumps(result))
