# SPDX-License-Identifier: MIT
"""The step in processes of torch.distributed (c10d; gloo, and NCCL if there is a GPU): the shards add up to the whole batch, and one that
fails ends all."""

import multiprocessing
import tempfile
import unittest

import numpy as np

import infalign as ia

try:
    import torch
    import torch.distributed as dist
except ImportError:
    dist = None

STEP = ia.policy_gradient(ia.k1_in_reward(0.1), ia.batch_standardized(), ia.ppo_clip(), ia.token_mean())
PROMPTS, RESPONSES, TOKENS = 5, 4, 6


def batch():
    random = np.random.default_rng(7)
    rows = PROMPTS * RESPONSES
    now, before = -random.random((2, rows, TOKENS))
    mask = (np.arange(TOKENS) < random.integers(1, TOKENS + 1, rows)[:, None]).astype(float)
    return random.normal(size=(PROMPTS, RESPONSES)), {
        "log_probabilities": now, "old_log_probabilities": now + 0.3 * random.normal(size=now.shape),
        "reference_log_probabilities": before, "mask": mask}


def work(rank, ranks, file, backend, broken, results):
    """One rank: its share of the prompts. The last of four ranks has none."""
    import infalign.torch

    dist.init_process_group(backend, init_method=f"file://{file}", rank=rank, world_size=ranks)
    cuts = {1: [0, 5], 2: [0, 2, 5], 4: [0, 2, 3, 5, 5]}[ranks]
    first, last = cuts[rank], cuts[rank + 1]
    rewards, tokens = batch()
    if broken:
        rewards[4] = np.nan  # of the second rank
    share = {name: x[first * RESPONSES : last * RESPONSES] for name, x in tokens.items()}
    try:
        out = STEP(rewards[first:last], reduce=infalign.torch.all_reduce(), **share)
        results.put((rank, out.loss, out.gradient, out.metrics.kl, out.metrics.reward))
    except ValueError as error:
        results.put((rank, str(error)))
    dist.destroy_process_group()


def of_ranks(ranks, backend="gloo", broken=False):
    """What each rank has put, in their order. Fails after a minute."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    with tempfile.TemporaryDirectory() as folder:
        processes = [context.Process(target=work, args=(r, ranks, folder + "/store", backend, broken, results)) for r in range(ranks)]
        for p in processes:
            p.start()
        try:
            got = [results.get(timeout=60) for _ in processes]
        finally:
            for p in processes:
                p.join(timeout=10)
                p.kill()
    return sorted(got, key=lambda x: x[0])


@unittest.skipUnless(dist is not None and dist.is_available() and dist.is_gloo_available(), "no torch with gloo")
class Shards(unittest.TestCase):
    def test_shards_add_up_to_the_whole(self):
        rewards, tokens = batch()
        whole = STEP(rewards, **tokens)
        got = of_ranks(4)
        self.assertAlmostEqual(sum(g[1] for g in got), whole.loss, delta=1e-14)
        np.testing.assert_allclose(np.concatenate([g[2] for g in got]), whole.gradient, rtol=1e-12, atol=1e-15)
        for g in got:  # metrics are of the whole batch on each rank
            np.testing.assert_allclose(g[3:], (whole.metrics.kl, whole.metrics.reward), rtol=1e-12)

    @unittest.skipUnless(dist is not None and torch.cuda.is_available() and dist.is_nccl_available(), "no GPU with NCCL")
    def test_totals_go_through_a_gpu(self):
        rewards, tokens = batch()
        whole = STEP(rewards, **tokens)
        ((_, loss, gradient, kl, reward),) = of_ranks(1, "nccl")
        np.testing.assert_array_equal(gradient, whole.gradient)
        self.assertEqual((loss, kl, reward), (whole.loss, whole.metrics.kl, whole.metrics.reward))

    def test_a_rank_that_fails_ends_all(self):
        first, second = of_ranks(2, broken=True)
        self.assertIn("expected all shards to succeed, got an error in another shard", first[1])
        self.assertIn("expected rewards that are numbers, got NaN at row 2, column 0", second[1])


if __name__ == "__main__":
    unittest.main()
