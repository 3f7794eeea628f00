# SPDX-License-Identifier: MIT
"""python -m infalign on small logs, and reference_table."""

import contextlib
import importlib.util
import io
import json
import os
import pickle
import shutil
import tempfile
import unittest

import numpy as np

import infalign as ia
from infalign.__main__ import main


def run(*arguments):
    out, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        try:
            status = main([str(a) for a in arguments])
        except SystemExit as stop:
            status = stop.code
    return status, out.getvalue(), error.getvalue()


class Commands(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.log = os.path.join(self.folder.name, "log.jsonl")
        random = np.random.default_rng(1)
        self.rewards = random.normal(size=(50, 1)) + random.normal(size=(50, 8))
        self.write(self.log, self.rewards)

    def tearDown(self):
        self.folder.cleanup()

    def write(self, file, rewards):
        with open(file, "w") as lines:
            for p, row in enumerate(rewards):
                print(json.dumps({"prompt": f"p{p}", "rewards": list(row)}), file=lines)

    def test_study(self):
        status, out, _ = run("study", self.log)
        self.assertEqual(status, 0)
        row = next(line for line in out.splitlines() if line.startswith(" 0.50"))
        raw = ia.finite_policies(self.rewards, kl=0.5).win_rates(self.rewards, ia.best_of(4)).mean()
        self.assertIn(f"{raw:.4f}", row)
        u = ia.transform(ia.calibrate(self.rewards, self.rewards), ia.normalized_exponential(10))
        self.assertIn(f"{ia.finite_policies(u, kl=0.5).win_rates(self.rewards, ia.best_of(4)).mean():.4f}", row)

    @unittest.skipIf(importlib.util.find_spec("matplotlib") is None and shutil.which("gnuplot") is None, "neither matplotlib nor gnuplot")
    def test_the_study_draws_its_curves(self):
        picture = os.path.join(self.folder.name, "it's.png")
        self.assertEqual(run("study", self.log, "--picture", picture)[0], 0)
        with open(picture, "rb") as file:
            self.assertEqual(file.read(8), b"\x89PNG\r\n\x1a\n")

    def test_log(self):
        def write(shaped):
            with open(self.log, "w") as lines:
                for p, (x, y) in enumerate(zip([[0, 1, None], [2, 2, 3]], shaped)):
                    print(json.dumps({"prompt": f"p{p}", "before": x, "shaped": y}), file=lines)

        write([[0.1, 0.5, None], [0.2, 0.2, 0.2]])
        status, out, _ = run("log", self.log, "--raw", "before")
        self.assertEqual(status, 0)
        self.assertIn("FAILED: log_keeps_distinct", out)
        self.assertIn("passed: log_keeps_order", out)
        write([[0.1, 0.5, 0.3], [0.2, 0.2, 0.1]])
        status, out, _ = run("log", self.log, "--raw", "before")
        self.assertEqual(status, 1)
        self.assertIn("FAILED: log_keeps_order", out)
        self.assertIn("FAILED: log_keeps_unscored", out)
        self.assertIn("prompt 1 is p1", out)
        write([[0.1, 0.5], [0.2, 0.2, 0.1]])
        status, _, error = run("log", self.log, "--raw", "before")
        self.assertEqual(status, 1)
        self.assertIn("got 3 raw and 2 shaped ones of the prompt 'p0'", error)

    def test_plan(self):
        status, out, _ = run("plan", self.log, "--kl", 0.3)
        plan = ia.plan_rewards(self.rewards, ia.best_of(4), kl=0.3)
        self.assertEqual(status, 0)
        self.assertIn(f"k1_in_reward({plan.beta:.4f})", out)

    def test_table_is_mapped_and_pickled_by_its_path(self):
        base = os.path.join(self.folder.name, "reference")
        self.assertEqual(run("table", self.log, "--out", base)[0], 0)
        with open(base + ".names") as file:
            names = file.read().split("\n")[:-1]
        table = ia.reference_table(names, base + ".npy")
        again = pickle.loads(pickle.dumps(table))
        self.assertLess(len(pickle.dumps(table)), 2000)
        shape = again.calibration() | ia.normalized_exponential(10)
        expected = ia.calibrate(self.rewards.astype(np.float32), self.rewards.astype(np.float32))
        self.assertEqual(again.calibration().one(again.index("p7"), np.float32(self.rewards[7, 2])), expected[7, 2])
        self.assertEqual(shape(self.rewards[3], again.indices(["p3"] * 8)).shape, (8,))
        with self.assertRaisesRegex(KeyError, "no reference rewards for the prompt 'p99'"):
            again.index("p99")

    def test_check(self):
        new = os.path.join(self.folder.name, "new.jsonl")
        self.write(new, self.rewards + 1)
        status, out, _ = run("check", self.log, new)
        self.assertEqual(status, 1)
        self.assertIn("the table is stale", out)
        random = np.random.default_rng(2)
        base = random.normal(size=(50, 1))
        self.write(self.log, base + random.normal(size=(50, 8)))
        self.write(new, base + random.normal(size=(50, 8)))
        self.assertEqual(run("check", self.log, new)[0], 0)

    def test_errors_are_one_line(self):
        bad = os.path.join(self.folder.name, "bad.jsonl")
        for text, message in (
            ("{", "bad.jsonl:1: not JSON"), ("[1]\n", 'expected an object with a "prompt"'), ('{"prompt": 1}\n', 'expected the key "rewards"'),
            ('{"prompt": 1, "rewards": ["x"]}\n', "expected numbers"), ("\n\n", "no lines of rewards"),
        ):
            with open(bad, "w") as f:
                f.write(text)
            status, _, error = run("study", bad)
            self.assertEqual(status, 1)
            self.assertIn(message, error)
            self.assertEqual(error.count("\n"), 1)
        self.assertEqual(run("study", "no such file")[0], 1)
        self.assertEqual(run("study", self.log, "--procedure", "mean-of-4")[0], 2)

    def test_unscored_rewards_and_single_rewards(self):
        with open(self.log, "w") as lines:
            lines.write('{"prompt": "a", "reward": 1}\n{"prompt": "a", "reward": NaN}\n{"prompt": "a", "reward": null}\n{"prompt": "b", "reward": 2}\n')
        table = ia.reference_table.read(self.log)
        self.assertEqual([len(row) for row in table.rewards], [3, 1])
        self.assertEqual(table.calibration(unscored="propagate").one(0, 2.0), 1)

    def test_names_that_do_not_fit(self):
        with self.assertRaisesRegex(ValueError, "names that differ, got 'a' twice"):
            ia.reference_table(["a", "a"], [[1], [2]])
        with self.assertRaisesRegex(ValueError, "expected 1 rows of rewards"):
            ia.reference_table(["a"], [[1], [2]])


if __name__ == "__main__":
    unittest.main()
