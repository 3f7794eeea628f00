# SPDX-License-Identifier: MIT
"""The module's numbers are those of the C++ library, bit for bit: the files of expected.cpp, in the folder EXPECTED."""

import os
import unittest

import numpy as np

import infalign as ia

FOLDER = os.environ["EXPECTED"]


class Numbers(unittest.TestCase):
    def check(self, suffix, dtype):
        load = lambda name: np.load(os.path.join(FOLDER, f"{name}_{suffix}.npy"))  # noqa: E731

        def same(found, name):
            expected = load(name)
            self.assertEqual(found.dtype, dtype, name)
            self.assertEqual(found.shape, expected.shape, name)
            self.assertTrue(np.array_equal(found, expected), name)

        reference, other, rewards, more, flat, prompt = map(load, ["reference", "other", "rewards", "more", "flat", "prompt"])
        u = ia.calibrate(reference, rewards)
        same(u, "u")
        same(ia.calibrate(reference, flat, prompt, rank=ia.add_one_rank()), "u_flat")
        same(ia.calibrate(reference, rewards, rank=ia.strict_rank()), "u_strict")
        same(ia.calibrate(reference, rewards, rank=ia.weak_rank()), "u_weak")
        same(ia.calibrate(reference, rewards, rank=ia.unbiased_power(3)), "u_power")
        same(ia.calibrate(reference, rewards, prior=ia.calibration_prior(reference)), "u_prior")
        same(ia.calibrate_leave_one_out(rewards), "u_out")
        same(ia.joint_calibration(ia.rank_minimum(), reference, other)(rewards, more), "joint")
        weighted = ia.joint_calibration(ia.weighted_rank_sum([0.3, 1, 0.2]), reference, other, reference, rank=ia.add_one_rank())
        same(weighted(rewards, more, more), "joint_of_three")
        same(ia.transform(u, ia.exponential(-3)), "exponential")
        shape = ia.calibration(reference) | ia.normalized_exponential(10) | ia.power(2)
        same(shape(rewards), "shaped")
        expected = load("shaped")
        for p in range(7):
            self.assertEqual(shape.one(p, rewards[p, 3]), expected[p, 3])
        same(ia.advantage(rewards, ia.group_standardized()), "advantage")
        same(ia.advantage(flat, ia.order_weighted(ia.order_weights(ia.soft_best_of(2, 3))), prompt), "credit")

        now, before, old, mask = map(load, ["now", "before", "old", "mask"])
        batch = dict(log_probabilities=now, reference_log_probabilities=before, mask=mask)
        off_policy = dict(batch, old_log_probabilities=old)

        def step(name, out):
            same(out.gradient, "gradient_" + name)
            self.assertEqual([out.loss, out.metrics.kl, out.metrics.ratio, out.metrics.advantage_std], load("loss_" + name).tolist(), name)

        step("reinforce", ia.policy_gradient(ia.k1_in_reward(0.1), ia.leave_one_out())(u, **batch))
        step("to_go", ia.policy_gradient(ia.k1_reward_to_go(0.1), ia.group_mean())(u, **batch))
        ppo = ia.policy_gradient(ia.k3_token_loss(0.1), ia.group_standardized(), ia.ppo_clip(0.2, 0.28), ia.token_mean())
        step("ppo", ppo(u, **off_policy))
        step("sequence", ia.policy_gradient(ia.k2_loss(0.1), ia.max_at_n(2), ia.sequence_clip())(flat, prompt, **off_policy))
        step("regression", ia.policy_gradient(ia.no_kl(), ia.no_baseline(), ia.regression(0.3))(u, **batch))
        step("raw", ia.policy_gradient(ia.no_kl(), ia.no_baseline())(u, **batch))
        step("k3", ia.policy_gradient(ia.k3_loss(0.1), ia.group_mean(), ia.gspo_clip())(u, **off_policy))
        step("k2_token", ia.policy_gradient(ia.k2_token_loss(0.1), ia.no_baseline(), ia.cispo(), ia.token_mean())(u, **off_policy))
        to_go = ia.policy_advantages(ia.k1_reward_to_go(0.1), ia.leave_one_out())(u, **batch)
        same(to_go, "advantages_to_go")
        step("tokens", ia.policy_loss(surrogate=ia.ppo_clip())(to_go, sequences=100, tokens=5000, **off_policy))
        a = ia.policy_advantages(ia.k1_in_reward(0.1), ia.leave_one_out())(u, **batch)
        same(a, "advantages")
        loss = ia.policy_loss(surrogate=ia.cispo(), aggregation=ia.sequence_mean_of_token_means())
        step("part", loss(a, sequences=100, tokens=5000, **off_policy))

    def test_float(self):
        self.check("float", np.float32)

    def test_double(self):
        self.check("double", np.float64)


if __name__ == "__main__":
    unittest.main()
