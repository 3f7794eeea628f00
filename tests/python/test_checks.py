# SPDX-License-Identifier: MIT
"""infalign.checks: right pipelines pass, and planted bugs are found."""

import unittest

import numpy as np

import infalign as ia
from infalign import checks

REFERENCE = np.random.default_rng(1).normal(size=(4, 32)) * 3
SHAPE = ia.calibration(REFERENCE) | ia.normalized_exponential(10)
SHAPED = checks.pipeline(SHAPE, flat=True)
RIGHT_AND_STYLE = [checks.input("right", low=0, high=1, step=1), "style"]
STEP = ia.policy_gradient(ia.no_kl(), ia.leave_one_out(), ia.ppo_clip())


def centred(r):
    return r - r.mean(axis=1, keepdims=True)


def mid_rank(reference, rewards, prompt):
    return ia.calibrate(reference, rewards, prompt)


def weak_rank(reference, rewards, prompt):
    return (reference[prompt] <= rewards[:, None]).mean(axis=1)


def k1(now, reference, mask):
    return ((now - reference) * mask).sum(axis=1)


def k2(now, reference, mask):
    return k1(now, reference, mask) ** 2 / 2


def k3(now, reference, mask):
    delta = k1(now, reference, mask)
    return np.exp(-delta) - 1 + delta


def gradient_of_means(rewards, prompt, log_probabilities, mask, **tokens):
    """A plain step, right but for what its callers change."""
    a = ia.advantage(rewards, ia.leave_one_out(), prompt)
    return -a[:, None] * mask / len(rewards)


def accumulated(parts, own_size):
    """The gradient of micro-batches. own_size: the bug that each is divided by its own number of responses."""
    whole = sum(len(part["rewards"]) for part in parts)
    return np.concatenate([gradient_of_means(**part) * (1 if own_size else len(part["rewards"]) / whole) for part in parts])


# (check, right, wrong)
CASES = {
    "in_range": (lambda f: checks.in_range(f, 0, 1), SHAPED, lambda r: 1.01 * (r > 1)),
    "finite": (checks.finite, SHAPED, lambda r: np.where(r == 0, np.inf, r)),
    "zero_mean": (checks.zero_mean, centred, lambda r: r - r.mean()),
    "zero_for_equal_responses": (checks.zero_for_equal_responses, centred, lambda r: r),
    "keeps_unscored": (checks.keeps_unscored, checks.pipeline(ia.calibration(REFERENCE, unscored="propagate"), flat=True), np.nan_to_num),
    "keeps_unscored, 0": (lambda f: checks.keeps_unscored(f, "reward", 0), np.nan_to_num, lambda r: r),
    "ignores_unscored": (checks.ignores_unscored, lambda r: r - np.nanmean(r, axis=1, keepdims=True), centred),
    "rejects": (checks.rejects, SHAPED, np.nan_to_num),
    "deterministic": (checks.deterministic, centred, lambda r, seen=[]: (seen.append(0), r + len(seen))[1]),
    "increasing": (checks.increasing, SHAPED, lambda r: np.where(r > 2, 4 - r, r)),
    "increasing, strictly": (lambda f: checks.increasing(f, strictly=True), lambda r: r, lambda r: r.clip(-3, 3)),
    "decreasing": (checks.decreasing, lambda r: -r, lambda r: -abs(r)),
    "keeps_order": (checks.keeps_order, SHAPED, lambda r: -r),
    "dominates": (lambda f: checks.dominates(f, "right"), checks.pipeline(lambda x, y: 9 * x + y, RIGHT_AND_STYLE),
                  checks.pipeline(lambda x, y: x + y, RIGHT_AND_STYLE)),
    "keeps_ties": (checks.keeps_ties, SHAPED, lambda r: r.argsort(axis=1).argsort(axis=1)),
    "keeps_distinct": (checks.keeps_distinct, lambda r: r**3, np.round),
    "invariant_to_shift": (checks.invariant_to_shift, centred, lambda r: r),
    "invariant_to_shift, batch": (lambda f: checks.invariant_to_shift(f, scope="batch"), lambda r: r - r.mean(), lambda r: r),
    "invariant_to_scale": (checks.invariant_to_scale, np.sign, centred),
    "invariant_to_monotone_map": (checks.invariant_to_monotone_map, checks.pipeline(ia.calibrate_leave_one_out, smallest_group=2), centred),
    "scales_with": (checks.scales_with, centred, np.sign),
    "invariant_to_order": (checks.invariant_to_order, centred, lambda r: r - r[:, :1]),
    "independent_prompts": (checks.independent_prompts, centred, lambda r: r - r.mean()),
    "independent_responses": (checks.independent_responses, SHAPED, centred),
    "baseline_excludes_itself": (checks.baseline_excludes_itself,
                                 checks.pipeline(lambda r: ia.advantage(r, ia.leave_one_out()), smallest_group=2), centred),
    "unbiased_advantages": (checks.unbiased_advantages, lambda r: ia.advantage(r, ia.leave_one_out()), lambda r: ia.advantage(r, ia.group_mean())),
    "uniform_on_reference": (checks.uniform_on_reference, mid_rank, weak_rank),
    "is_mid_rank": (checks.is_mid_rank, mid_rank, weak_rank),
    "covers_distribution": (checks.covers_distribution, mid_rank, weak_rank),
    "calibration_invariant_to_monotone_map": (checks.calibration_invariant_to_monotone_map, mid_rank,
                                              lambda reference, rewards, prompt: rewards - reference[prompt].mean(axis=1)),
    "estimates_kl": (checks.estimates_kl, k3, lambda *x: -k1(*x)),
    "has_kl_gradient": (checks.has_kl_gradient, k2, k1),
    "has_kl_gradient, forward": (lambda f: checks.has_kl_gradient(f, "forward"), k3, k2),
    "no_gradient_at_masked_tokens": (checks.no_gradient_at_masked_tokens, STEP, lambda *x, mask, **t: gradient_of_means(*x, mask=1 + 0 * mask, **t)),
    "ignores_masked_tokens": (checks.ignores_masked_tokens, STEP,
                              lambda *x, log_probabilities, **t: gradient_of_means(*x, log_probabilities, **t) * log_probabilities.mean()),
    "ignores_padding": (checks.ignores_padding, STEP, lambda *x, mask, **t: gradient_of_means(*x, mask=mask, **t) / mask.shape[1]),
    "ratio_of_one_is_on_policy": (checks.ratio_of_one_is_on_policy, STEP,
                                  lambda *x, **t: gradient_of_means(*x, **t) * (2 if "old_log_probabilities" in t else 1)),
    "step_invariant_to_order": (checks.step_invariant_to_order, STEP, lambda *x, **t: gradient_of_means(*x, **t).cumsum(axis=0)),
    "parts_sum_to_whole": (checks.parts_sum_to_whole, lambda parts: accumulated(parts, False), lambda parts: accumulated(parts, True)),
    "unbiased_step": (lambda f: checks.unbiased_step(f, 2, 0.3), ia.policy_gradient(ia.k1_in_reward(0.3), ia.leave_one_out()),
                      ia.policy_gradient(ia.k1_in_reward(0.3), ia.group_mean())),
    "fresh_table": (lambda r: checks.fresh_table(REFERENCE, r), REFERENCE[:, ::2], REFERENCE[:, ::2] + 5),
    "log_keeps_order": (lambda f: checks.log_keeps_order(REFERENCE[:, :6], f(REFERENCE[:, :6])), SHAPE, lambda r: -r),
    "log_keeps_distinct": (lambda f: checks.log_keeps_distinct(REFERENCE[:, :6], f(REFERENCE[:, :6])), lambda r: r, np.sign),
    "log_keeps_ties": (lambda y: checks.log_keeps_ties([1.0, 1, 2], y, [0, 0, 0]), [0.5, 0.5, 0.5], [0.5, 0.6, 0.7]),
    "log_keeps_unscored": (lambda y: checks.log_keeps_unscored([1.0, None], y, [0, 1]), [0.5, None], [0.5, 0.5]),
}


class Checks(unittest.TestCase):
    def test_right_ones_pass_and_planted_bugs_are_found(self):
        for name, (check, right, wrong) in CASES.items():
            with self.subTest(name):
                report = check(right)
                self.assertTrue(report, report)
                report = check(wrong)
                self.assertFalse(report, report)
                self.assertTrue(report.check.startswith(name.split(",")[0]), report)
                self.assertTrue(report.finding)

    def test_every_check_is_tried(self):
        functions = {name for name in dir(checks) if not name.startswith("_") and not isinstance(getattr(checks, name), type)}
        self.assertEqual(functions, {name.split(",")[0] for name in CASES})

    def test_the_smallest_counterexample(self):
        report = checks.increasing(lambda r: np.where(r > 2, 4 - r, r))
        self.assertEqual((report.prompts, report.responses), (1, 1))
        self.assertEqual(sorted(report.counterexample), ["prompt", "raised", "result", "result then", "reward"])
        self.assertLess(report.counterexample["result then"][0], report.counterexample["result"][0])
        self.assertIn("FAILED: increasing", str(report))
        self.assertIn("Raising the reward of response 0", report.finding)

    def test_options(self):
        report = checks.finite(lambda r: r, seed=7, cases=3)
        self.assertEqual((report.seed, report.cases, report.passed), (7, 3, True))
        drawn = [[], []]
        for numbers in drawn:
            checks.finite(lambda r: (numbers.append(r.copy()), r)[1], seed=3, cases=5)
        for a, b in zip(*drawn):
            np.testing.assert_array_equal(a, b)
        self.assertTrue(checks.keeps_distinct(lambda r: r + 1e-9 * r, cases=20, tolerance=1e-3))

    def test_inputs_that_are_drawn(self):
        seen = []

        def f(reward, length, prompt):
            seen.extend(length)
            self.assertEqual((reward.shape, prompt.dtype), (length.shape, np.int64))
            return reward - 0.01 * length

        inputs = ["reward", checks.input("length", low=1, high=512, step=1)]
        self.assertTrue(checks.decreasing(checks.pipeline(f, inputs, flat=True), "length", cases=20))
        self.assertTrue(all(x == int(x) and 1 <= x <= 512 for x in seen))
        with self.assertRaisesRegex(ValueError, "the name of an input, got width"):
            checks.decreasing(checks.pipeline(f, inputs, flat=True), "width").passed

    def test_an_exception_is_a_finding(self):
        def f(r):
            if (r > 3).any():
                raise KeyError("too large")
            return r

        report = checks.finite(f)
        self.assertEqual(report.finding, "The function throws: KeyError: 'too large'")
        self.assertGreater(report.counterexample["reward"][0], 3)
        self.assertIn("results, one for each response", checks.finite(lambda r: r[0]).finding)
        self.assertIn("real numbers", checks.finite(lambda r: r.astype(str)).finding)

    def test_an_interrupt_ends_the_check(self):
        def f(r):
            raise KeyboardInterrupt

        for check in (checks.finite, checks.unbiased_step):
            with self.assertRaises(KeyboardInterrupt):
                check(lambda *x, **y: f(x))

    def test_wrong_arguments(self):
        with self.assertRaisesRegex(ValueError, 'a scope of "prompt" or "batch"'):
            checks.invariant_to_shift(centred, scope="all")
        with self.assertRaisesRegex(ValueError, 'a divergence of "reverse" or "forward"'):
            checks.estimates_kl(k1, "both")


if __name__ == "__main__":
    unittest.main()
