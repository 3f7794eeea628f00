# SPDX-License-Identifier: MIT
"""The module as a user meets it: arguments, attributes, pickles, threads and errors."""

import pickle
import threading
import time
import unittest

import numpy as np

import infalign as ia
from pace import pace

REFERENCE = np.array([[0.1, 0.2, 0.3, 0.4, 0.5], [-90, -10, -10, 20, 70]])
REWARDS = np.array([[0.45, 0.6], [-10, 30]])


def call_in_thread(x):
    return 2 * x


class Calibration(unittest.TestCase):
    def test_values_of_the_readme(self):
        np.testing.assert_array_equal(ia.calibrate(REFERENCE, REWARDS), [[0.8, 1], [0.4, 0.8]])

    def test_lists_and_missing_rewards(self):
        u = ia.calibrate(REFERENCE.tolist(), [[0.45, None], [-10, float("nan")]], unscored="propagate")
        np.testing.assert_array_equal(u, [[0.8, np.nan], [0.4, np.nan]])
        with self.assertRaisesRegex(ValueError, "expected rewards that are numbers, got NaN at row 0, column 1"):
            ia.calibrate(REFERENCE, [[0.45, None], [1, 2]])
        ragged = [[1, 2], [3], [5, 6, 7]]
        np.testing.assert_array_equal(ia.calibrate(ragged, [2.5, 3, 6.5], [0, 1, 2]), [1, 0.5, 2 / 3])

    def test_flat_batch_and_one(self):
        shape = ia.calibration(REFERENCE) | ia.normalized_exponential(10)
        flat = shape([0.45, 30, 0.6], [0, 1, 0])
        np.testing.assert_array_equal(flat, [shape.one(0, 0.45), shape.one(1, 30), shape.one(0, 0.6)])
        self.assertTrue(np.isnan(ia.calibration(REFERENCE, unscored="propagate").one(0, float("nan"))))
        with self.assertRaisesRegex(ValueError, "prompt indices from 0 to 1, got 2"):
            shape.one(2, 0.5)

    def test_every_way_to_call_one(self):
        shape = ia.calibration(REFERENCE) | ia.normalized_exponential(10)
        expected = shape.one(1, 30.0)
        for value in (shape.one(1, 30), shape.one(np.int64(1), np.float32(30)), shape.one(1, reward=30.0), shape.one(prompt=1, reward=30.0)):
            self.assertEqual(value, expected)
        for wrong in (2, -1, 2**70):
            with self.assertRaises((ValueError, TypeError)) as caught:
                shape.one(wrong, 0.5)
            self.assertIn("prompt" if wrong < 2**70 else "one(): incompatible function arguments", str(caught.exception))
        with self.assertRaisesRegex(TypeError, r"^one\(\): incompatible function arguments"):
            shape.one(1)
        with self.assertRaisesRegex(TypeError, "calibration"):
            ia.calibration.one(3, 1, 0.5)
        calls = []

        def failing(u):
            calls.append(u)
            raise KeyError("mine")

        with self.assertRaisesRegex(KeyError, "mine"):
            (ia.calibration(REFERENCE) | failing).one(1, 0.5)
        self.assertEqual(len(calls), 1)

    def test_dtype_of_the_reference_decides(self):
        for reference, dtype in ((REFERENCE, np.float64), (REFERENCE.astype(np.float32), np.float32), ([[1, 2], [3, 4]], np.float64)):
            for rewards in (REWARDS, REWARDS.astype(np.float32), [[1, 2], [3, 4]]):
                self.assertEqual(ia.calibrate(reference, rewards).dtype, dtype)

    def test_row_strides_are_read_in_place_and_others_are_copied(self):
        wide = np.zeros((2, 9))
        wide[:, :5] = REFERENCE
        expected = ia.calibrate(REFERENCE, REWARDS)
        for reference in (wide[:, :5], np.asfortranarray(REFERENCE), REFERENCE[::-1][::-1], REFERENCE.astype(">f8")):
            np.testing.assert_array_equal(ia.calibrate(reference, REWARDS), expected)

    def test_python_functions_are_transforms(self):
        u = ia.calibrate(REFERENCE, REWARDS)
        np.testing.assert_allclose(ia.transform(u, lambda x: x**2), u**2)
        np.testing.assert_allclose((ia.calibration(REFERENCE) | np.sqrt | ia.power(2))(REWARDS), u)
        rows = lambda x: np.hstack([np.sqrt(x).reshape(-1, 2)] * 2)[:, :2]  # noqa: E731  (with other numbers between its rows)
        np.testing.assert_array_equal(ia.transform(u, rows), np.sqrt(u))
        with self.assertRaisesRegex(ValueError, "calibrated rewards in \\[0, 1\\]"):
            ia.transform([2.0], np.sqrt)


class Theory(unittest.TestCase):
    def test_published_values(self):
        best = ia.best_exponential(ia.best_of(4), kl=0.5)
        self.assertAlmostEqual(best.win_rate, 0.8727, places=4)
        self.assertAlmostEqual(ia.optimal_transform(ia.best_of(4), beta=0.2).win_rate, 0.88056945, places=7)
        self.assertAlmostEqual(ia.aligned_policy(ia.exponential(10), kl=0.5).win_rate(ia.best_of(4)), 0.8715, places=4)
        self.assertAlmostEqual(ia.log_partition(ia.normalized_exponential(10), 0.2), 1.56849490691, places=10)
        mixed = ia.optimal_transform(ia.mixed_use([(0.5, ia.plain_sampling()), (0.5, ia.best_of(8))]), beta=0.2)
        self.assertGreater(mixed.win_rate, 0.7)

    def test_a_procedure_from_a_python_cdf(self):
        own = ia.optimal_transform(ia.from_cdf(lambda u: u**4), beta=0.2)
        self.assertAlmostEqual(own.win_rate, ia.optimal_transform(ia.best_of(4), beta=0.2).win_rate, places=6)

    def test_finite_policies_and_plan(self):
        log = np.random.default_rng(1).normal(size=(60, 8)) + np.random.default_rng(2).normal(size=(60, 1))
        policies = ia.finite_policies(ia.calibrate(log, log), kl=0.3)
        self.assertAlmostEqual(policies.kl().mean(), 0.3, places=8)
        self.assertEqual(policies.means(log).shape, (60,))
        plan = ia.plan_rewards(log, ia.best_of(4), kl=0.3)
        self.assertEqual(plan.shape(log).shape, log.shape)
        self.assertGreater(plan.beta, 0)


class Measures(unittest.TestCase):
    def test_win_rate_and_shown_value(self):
        w = ia.win_rate([[3.0, 4.0]] * 3, [[1.0, 2.0]] * 3, ia.best_of(2))
        self.assertEqual((w.mean, w.prompts), (1, 3))
        shown = ia.shown_value([[0.1, 0.4, 0.4, 0.8, 0.9, 0.9]] * 2, [[1, 2, 5, 3, 0, 4]] * 2, ia.best_of(3))
        self.assertAlmostEqual(shown.mean, 2.225)
        self.assertEqual(len(ia.win_rate_curve([[3.0, 4.0]] * 2, [[1.0, 2.0]] * 2)), 2)


class Step(unittest.TestCase):
    def setUp(self):
        random = np.random.default_rng(3)
        self.now = -random.random((6, 5))
        self.batch = dict(log_probabilities=self.now, reference_log_probabilities=self.now - 0.1)
        self.rewards = random.random((2, 3))
        self.step = ia.policy_gradient(ia.k1_in_reward(0.05), ia.leave_one_out())

    def test_masks_of_every_type(self):
        mask = (np.arange(30).reshape(6, 5) % 3 > 0).astype(float)
        expected = self.step(self.rewards, mask=mask, **self.batch)
        for dtype in (bool, np.uint8, np.int8, np.int32, np.int64, np.float32):
            out = self.step(self.rewards, mask=mask.astype(dtype), **self.batch)
            np.testing.assert_array_equal(out.gradient, expected.gradient)
            self.assertTrue((out.gradient[mask == 0] == 0).all())
        for wrong in (2 * mask, mask * 0.5, mask.astype(np.uint8) * 2):
            with self.assertRaises(ValueError):
                self.step(self.rewards, mask=wrong, **self.batch)

    def test_shards_add_up(self):
        whole = self.step(self.rewards, **self.batch)
        step = ia.policy_gradient(ia.k1_in_reward(0.05), ia.leave_one_out())
        barrier, totals, out = threading.Barrier(2), [None, None], [None, None]

        def shard(k):
            def reduce(values, op):
                totals[k] = values.copy()
                barrier.wait()
                values[:] = totals[0] + totals[1] if op == "sum" else np.maximum(totals[0], totals[1])
                barrier.wait()

            rows = slice(3 * k, 3 * k + 3)
            out[k] = step(self.rewards[k : k + 1], reduce=reduce, **{name: x[rows] for name, x in self.batch.items()})

        threads = [threading.Thread(target=shard, args=(k,)) for k in range(2)]
        [t.start() for t in threads], [t.join() for t in threads]
        self.assertAlmostEqual(out[0].loss + out[1].loss, whole.loss, places=14)
        np.testing.assert_array_equal(np.concatenate([out[0].gradient, out[1].gradient]), whole.gradient)
        self.assertAlmostEqual(out[0].metrics.reward, whole.metrics.reward, places=14)

    def test_micro_batches_and_metrics(self):
        a = ia.policy_advantages(ia.k1_in_reward(0.05), ia.leave_one_out())(self.rewards, **self.batch)
        loss = ia.policy_loss()
        parts = [loss(a[k : k + 3], sequences=6, tokens=30, **{n: x[k : k + 3] for n, x in self.batch.items()}) for k in (0, 3)]
        whole = self.step(self.rewards, **self.batch)
        np.testing.assert_array_equal(np.concatenate([p.gradient for p in parts]), whole.gradient)
        metrics = parts[0].metrics
        metrics += parts[1].metrics
        self.assertAlmostEqual(metrics.kl, whole.metrics.kl, places=14)
        self.assertEqual(whole.metrics.to_dict()["sequences"], 6)

    def test_an_estimator_in_python(self):
        own = ia.policy_gradient(ia.no_kl(), lambda r: r - r.mean())(self.rewards, **self.batch)
        np.testing.assert_allclose(own.gradient, ia.policy_gradient(ia.no_kl(), ia.group_mean())(self.rewards, **self.batch).gradient)

    def test_parts_that_do_not_go_together(self):
        for kl, surrogate, mean in (
            (ia.k3_loss(1), ia.reinforce(), ia.token_mean()),
            (ia.no_kl(), ia.gspo_clip(), ia.token_mean()),
            (ia.k1_reward_to_go(1), ia.sequence_clip(), ia.sequence_mean_of_token_sums()),
            (ia.k1_in_reward(1), ia.regression(1), ia.sequence_mean_of_token_sums()),
        ):
            with self.assertRaisesRegex(ValueError, "parts that go together"):
                ia.policy_gradient(kl, ia.no_baseline(), surrogate, mean)(self.rewards, **self.batch)

    def test_controller(self):
        control = ia.adaptive_kl_per_sequence(0.1, target=1)
        control.update(self.step(self.rewards, **self.batch).metrics)
        self.assertLess(control.beta, 0.1)


class Pickles(unittest.TestCase):
    def test_everything_is_picklable(self):
        parts = [
            ia.identity(), ia.exponential(3), ia.normalized_exponential(10) | ia.power(2), ia.soft_logarithm(4, 10),
            ia.tabulated([0, 0.5, 1], [0, 0.1, 1]), ia.power(2) | call_in_thread,
            ia.mid_rank(), ia.unbiased_power(3), ia.win_probability(ia.best_of(4)),
            ia.best_of(4), ia.order_statistic(2, 5), ia.random_best_of([0.5, 0.5]), ia.soft_best_of(4, 2),
            ia.no_kl(), ia.k3_token_loss(0.1), ia.ppo_clip(0.1, 0.2), ia.token_mean(), ia.max_at_n(4), ia.order_weighted([0, 1]),
            ia.weighted_rank_sum([1, 2]),
        ]
        for part in parts:
            again = pickle.loads(pickle.dumps(part))
            self.assertEqual(repr(again), repr(part))
        log = np.random.default_rng(1).normal(size=(20, 6))
        prior = ia.calibration_prior(log)
        for shape in (
            ia.calibration(log), ia.calibration(log, ia.add_one_rank()) | ia.logarithm(),
            ia.calibration(log, prior=prior) | ia.exponential(2),
        ):
            np.testing.assert_array_equal(pickle.loads(pickle.dumps(shape))(log), shape(log))
        joint = ia.joint_calibration(ia.rank_sum(), log, log) | ia.power(2)
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(joint))(log, log), joint(log, log))
        use = pickle.loads(pickle.dumps(ia.mixed_use([(0.5, ia.plain_sampling()), (0.5, ia.best_of(4))])))
        self.assertEqual(ia.optimal_transform(use, beta=0.3).win_rate, ia.optimal_transform(
            ia.mixed_use([(0.5, ia.plain_sampling()), (0.5, ia.best_of(4))]), beta=0.3).win_rate)
        step = pickle.loads(pickle.dumps(ia.policy_gradient(ia.k1_in_reward(0.1), ia.group_mean(), ia.ppo_clip())))
        self.assertIsInstance(step, ia.policy_gradient)
        control = pickle.loads(pickle.dumps(ia.adaptive_kl_per_token(0.1, 1, 100, least=0.01, most=2)))
        self.assertEqual((control.beta, control.most), (0.1, 2))


class Threads(unittest.TestCase):
    def test_another_thread_goes_on_while_a_batch_is_calibrated(self):
        reference = np.random.default_rng(1).random((20000, 512), dtype=np.float32)
        rewards = np.random.default_rng(2).random((20000, 64), dtype=np.float32)

        # With the GIL held, the thread would count in the few milliseconds before the call only.
        alone = pace(lambda: time.sleep(0.3))
        self.assertGreater(pace(lambda: ia.calibrate(reference, rewards)), 0.3 * alone)


class Documentation(unittest.TestCase):
    def test_every_public_function_has_a_docstring(self):
        for module in (ia._core, ia.checks):
            for name in dir(module):
                thing = getattr(module, name)
                if callable(thing) and not name.startswith("_"):
                    self.assertTrue(thing.__doc__, name)


if __name__ == "__main__":
    unittest.main()
