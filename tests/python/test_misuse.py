# SPDX-License-Identifier: MIT
"""Wrong and unusual arguments end in an error or the right answer, never in a crash. More than 1,000 calls."""

import itertools
import unittest

import numpy as np

import infalign as ia

GOOD = np.arange(12.0).reshape(3, 4) / 16


class WithoutGradient:
    """A tensor that requires a gradient refuses to become an array."""

    def __array__(self, *args, **kwargs):
        raise RuntimeError("Can't call numpy() on Tensor that requires grad.")


def arrays():
    """Arrays of every dtype, layout and shape, and things that are none. (name, value, numbers that it stands for or None)"""
    for dtype in "?bBhHiIlLqQefdgFDSUOmM":
        try:
            yield dtype, GOOD.astype(dtype), (GOOD.astype(dtype).astype(float) if dtype in "?bBhHiIlLqQefdgO" else None)
        except (TypeError, ValueError):
            yield dtype, np.zeros((3, 4), dtype), None
    for dtype in (">f4", ">f8", "<f4", ">i4"):
        yield dtype, GOOD.astype(dtype), GOOD.astype(dtype).astype(float)
    yield "fortran", np.asfortranarray(GOOD), GOOD
    yield "backwards", GOOD[:, ::-1][:, ::-1], GOOD
    yield "reversed rows", GOOD[::-1], GOOD[::-1]
    yield "every second", np.repeat(GOOD, 2, axis=1)[:, ::2], GOOD
    yield "broadcast", np.broadcast_to(GOOD[:1], (3, 4)), np.broadcast_to(GOOD[:1], (3, 4))
    unaligned = np.frombuffer(b"x" + GOOD.tobytes(), dtype=np.uint8)[1:].view(np.float64).reshape(3, 4)
    yield "unaligned", unaligned, GOOD
    read_only = GOOD.copy()
    read_only.flags.writeable = False
    yield "read-only", read_only, GOOD
    yield "lists", GOOD.tolist(), GOOD
    yield "tuples", tuple(map(tuple, GOOD)), GOOD
    yield "list of arrays", list(GOOD), GOOD
    yield "masked", np.ma.array(GOOD), GOOD
    yield "matrix", np.matrix(GOOD), GOOD
    for name, value in {
        "0-d": np.array(1.0), "1-d": GOOD[0], "3-d": GOOD[None], "4-d": GOOD[None, None], "empty": np.zeros((0, 4)), "no columns": np.zeros((3, 0)),
        "none": None, "text": "abc", "bytes": b"abc", "number": 1.0, "object": object(), "dictionary": {"a": 1}, "set": {1.0}, "function": len,
        "ragged": [[1, 2], [3]], "deep": [[[1.0]]], "texts": [["a", "b"]], "generator": (x for x in [1.0]), "type": float, "nan": np.full((3, 4), np.nan),
        "inf": np.full((3, 4), np.inf), "huge": np.full((3, 4), 1e300), "structured": np.zeros((3, 4), dtype=[("x", float)]),
        "gradient": WithoutGradient(), "itself": [],
    }.items():
        yield name, value, None


FUNCTIONS = {
    "calibrate, reference": lambda x: ia.calibrate(x, GOOD),
    "calibrate, rewards": lambda x: ia.calibrate(GOOD, x),
    "calibrate, prompt": lambda x: ia.calibrate(GOOD, GOOD[0], x),
    "calibration": lambda x: ia.calibration(x)(GOOD),
    "shape": lambda x: (ia.calibration(GOOD) | ia.power(2))(x),
    "one": lambda x: ia.calibration(GOOD).one(0, x),
    "prior": lambda x: ia.calibration_prior(x),
    "leave one out": lambda x: ia.calibrate_leave_one_out(x),
    "joint": lambda x: ia.joint_calibration(ia.rank_sum(), GOOD, x)(GOOD, GOOD),
    "transform": lambda x: ia.transform(x, ia.power(2)),
    "transform by": lambda x: ia.transform(GOOD, x),
    "tabulated": lambda x: ia.tabulated(x, [0, 1]),
    "advantage": lambda x: ia.advantage(x, ia.group_mean()),
    "win_rate": lambda x: ia.win_rate(x, GOOD, ia.best_of(2)),
    "win_rates": lambda x: ia.win_rates(GOOD, x, ia.best_of(2)),
    "shown_value": lambda x: ia.shown_value(x, GOOD, ia.best_of(2)),
    "exact_win_rate": lambda x: ia.exact_win_rate(x, [0.5, 0.5], [0.5, 0.5], ia.best_of(2)),
    "drift": lambda x: ia.drift(GOOD, x),
    "finite_policies": lambda x: ia.finite_policies(x, beta=1).kl(),
    "optimal_values": lambda x: ia.optimal_values(x, 1),
    "mean_over_prompts": lambda x: ia.mean_over_prompts(x),
    "kl_divergence": lambda x: ia.kl_divergence(x, GOOD),
    "procedure": lambda x: ia.best_exponential(x, kl=0.5),
    "random_best_of": lambda x: ia.random_best_of(x),
    "order_weighted": lambda x: ia.advantage(GOOD, ia.order_weighted(x)),
    "step, rewards": lambda x: ia.policy_gradient(ia.no_kl(), ia.group_mean())(x, log_probabilities=-np.ones((12, 2))),
    "step, now": lambda x: ia.policy_gradient(ia.no_kl(), ia.no_baseline())(GOOD, log_probabilities=x),
    "step, mask": lambda x: ia.policy_gradient(ia.no_kl(), ia.no_baseline())(GOOD[:, :1], log_probabilities=-GOOD, mask=x),
    "loss": lambda x: ia.policy_loss()(x, log_probabilities=-GOOD),
    "kl part": lambda x: ia.policy_gradient(x, ia.group_mean()),
}
# A function of one batch of numbers, whose right answer is that for the same numbers as doubles.
SAME = {"calibrate, rewards": 0, "calibrate, reference": 1e-7, "leave one out": 1e-7, "transform": 1e-6, "advantage": 1e-3}


class Misuse(unittest.TestCase):
    def test_every_function_with_every_argument(self):
        calls = 0
        for (function, call), (name, value, numbers) in itertools.product(FUNCTIONS.items(), arrays()):
            calls += 1
            with self.subTest(function=function, argument=name), np.errstate(all="ignore"):
                try:
                    result = call(value)
                except (ValueError, TypeError, IndexError, OverflowError):
                    continue
                if function in SAME and numbers is not None:
                    expected = call(np.ascontiguousarray(numbers))
                    np.testing.assert_allclose(np.asarray(result, dtype=float), expected, rtol=SAME[function], atol=SAME[function])
        self.assertGreater(calls, 1000)

    def test_arguments_of_other_kinds(self):
        for f in (
            lambda: ia.calibrate(GOOD, GOOD, unscored="ignore"), lambda: ia.calibrate(GOOD, GOOD, rank=3),
            lambda: ia.calibrate(GOOD, GOOD, rank=ia.mid_rank(), prior=ia.calibration_prior(GOOD)),
            lambda: ia.calibrate(GOOD, GOOD[0]), lambda: ia.calibrate(GOOD, GOOD, [0]), lambda: ia.best_of(0), lambda: ia.best_of("4"),
            lambda: ia.best_of(2**40), lambda: ia.order_statistic(4, 3), lambda: ia.exponential(float("nan")), lambda: ia.exponential(0),
            lambda: ia.aligned_policy(ia.identity()), lambda: ia.aligned_policy(ia.identity(), beta=1, kl=1),
            lambda: ia.aligned_policy(ia.identity(), beta=-1), lambda: ia.optimal_transform(ia.best_of(4), kl=100),
            lambda: ia.from_cdf(lambda u: 2 * u), lambda: ia.from_cdf(lambda u: "x"), lambda: ia.from_cdf(3),
            lambda: ia.win_rate(GOOD, GOOD, ia.best_of_poisson(1)), lambda: ia.win_rate_curve(GOOD, GOOD, "median_of"),
            lambda: ia.k1_in_reward(0), lambda: ia.ppo_clip(0.8, 1.2), lambda: ia.order_weighted([0, 1], "mean"),
            lambda: ia.mixed_use([(0.5, ia.best_of(2))]), lambda: ia.mixed_use([(1,)]), lambda: ia.joint_calibration(ia.rank_sum()),
            lambda: ia.joint_calibration(ia.rank_sum(), GOOD)(GOOD, GOOD), lambda: ia.calibration_prior(GOOD, "nothing"),
            lambda: ia.calibration_prior(GOOD, weight=3), lambda: ia.joint_calibration(ia.weighted_rank_sum([1]), GOOD, GOOD),
            lambda: ia.advantage(GOOD, lambda r: r[:1]), lambda: ia.advantage(GOOD, lambda r: "x"), lambda: ia.transform(GOOD, lambda u: u[:1]),
            lambda: ia.policy_loss()(GOOD[0], log_probabilities=-GOOD[:, :1], sequences=3), lambda: ia.adaptive_kl_per_token(0, 1),
            lambda: ia.finite_policies(GOOD, kl=50), lambda: ia.finite_policies(GOOD, beta=1).probability(9),
            lambda: ia.best_of(4).t, lambda: ia.calibrate(GOOD), lambda: ia.calibrate(GOOD, GOOD, sorted=True),
        ):
            with self.assertRaises((ValueError, TypeError, IndexError, AttributeError, OverflowError)):
                f()

    def test_two_dimensions_are_no_list(self):
        for shape in ((0, 4), (3, 0), (1, 4), (2, 2)):
            x = np.full(shape, 0.5)
            for f in (ia.mean_over_prompts, ia.random_best_of, ia.order_weighted, ia.weighted_rank_sum, lambda x: ia.tabulated(x, x)):
                with self.assertRaisesRegex(ValueError, "numbers of one dimension"):
                    f(x)

    def test_an_exception_of_a_python_function_comes_through(self):
        def broken(x):
            raise KeyError("mine")

        for f in (lambda: ia.transform(GOOD, broken), lambda: ia.advantage(GOOD, broken), lambda: ia.from_cdf(broken)):
            with self.assertRaisesRegex(KeyError, "mine"):
                f()


if __name__ == "__main__":
    unittest.main()
