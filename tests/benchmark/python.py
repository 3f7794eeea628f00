# SPDX-License-Identifier: MIT
"""The cost of a call of the Python module, beside NumPy and PyTorch, and the pace of another thread meanwhile.

PYTHONPATH=.build/default/examples/python python3 tests/benchmark/python.py
"""

import os
import sys
import time

import numpy as np

import infalign as ia

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "python"))
from pace import pace  # noqa: E402

try:
    import torch
except ImportError:
    torch = None


def microseconds(f, repeats=20000):
    """Processor time of a call: the least of seven means."""
    best = float("inf")
    for _ in range(7):
        start = time.process_time()
        for _ in range(repeats):
            f()
        best = min(best, (time.process_time() - start) / repeats * 1e6)
    return best


random = np.random.default_rng(1)
reference = random.random((4, 128), dtype=np.float32)
rewards = random.random((4, 8), dtype=np.float32)
flat, prompt = rewards.ravel(), np.repeat(np.arange(4), 8)
shape = ia.calibration(reference) | ia.normalized_exponential(10)
phi = ia.normalized_exponential(10)
step = ia.policy_gradient(ia.k1_in_reward(0.05), ia.leave_one_out())
now = -random.random((32, 16), dtype=np.float32)

print("microseconds a call, 4 x 128 references, 4 x 8 rewards, float32")
for name, f in {
    "shape.one(prompt, reward)": lambda: shape.one(1, 0.5),
    "calibrate(reference, rewards)": lambda: ia.calibrate(reference, rewards),
    "shape(rewards)": lambda: shape(rewards),
    "shape(flat, prompt)": lambda: shape(flat, prompt),
    "transform(u, phi)": lambda: ia.transform(rewards, phi),
    "step, 32 x 16 tokens": lambda: step(rewards, log_probabilities=now, reference_log_probabilities=now),
    "numpy: the same ranks": lambda: ((reference[:, None, :] < rewards[:, :, None]) + 0.5 * (reference[:, None, :] == rewards[:, :, None])).mean(axis=2),
    "numpy.exp(10 * u)": lambda: np.exp(10 * rewards),
}.items():
    print(f"{name:32} {microseconds(f):7.2f}")

large, batch = random.random((20000, 512), dtype=np.float32), random.random((20000, 64), dtype=np.float32)
alone = pace(lambda: time.sleep(1))
print(f"another thread's pace during calibrate: {100 * pace(lambda: ia.calibrate(large, batch)) / alone:.0f} % of its pace alone")
if torch is not None:
    import infalign.torch

    def by_infalign():
        x = log_p.detach().requires_grad_()
        infalign.torch.loss(step, r, log_probabilities=x, reference_log_probabilities=log_p)[0].backward()

    def by_torch():
        x = log_p.detach().requires_grad_()
        a = r - 0.05 * (x.detach() - log_p).sum(1).view(8, 8)
        a = (a - (a.sum(1, keepdim=True) - a) / 7).view(64, 1)
        (-(a * x).sum(1).mean()).backward()

    log_p, r = -torch.rand(64, 512), torch.rand(8, 8)
    torch.set_num_threads(1)
    print(f"reinforce + k1, 64 x 512 tokens, loss and backward: {microseconds(by_infalign, 300):.0f} us, in torch {microseconds(by_torch, 300):.0f} us")
