# SPDX-License-Identifier: MIT
"""Reference rewards by the name of a prompt: what trainers need that call a reward function for one response at a time."""

import json
import os

import numpy as np

from . import _core


class reference_table:
    """Rewards of the reference policy, a row for each prompt, found by name.

        table = reference_table(names, rewards)               # P names, P x K rewards
        table = reference_table(names, "reference.npy")       # mapped: read when used, pickled by its path
        table = reference_table.read("rewards.jsonl")         # {"prompt": ..., "rewards": [...]} or one "reward" a line

        table.index("a prompt")                               # its row; KeyError if it is unknown
        shape = table.calibration() | infalign.normalized_exponential(10)
        shape.one(table.index("a prompt"), 0.7)
    """

    def __init__(self, names, rewards):
        self.names = [str(name) for name in names]
        self.path = None
        if isinstance(rewards, (str, os.PathLike)):
            self.path = os.path.abspath(os.fspath(rewards))
            rewards = np.load(self.path, mmap_mode="r")
        self.rewards = rewards
        if len(rewards) != len(self.names):
            raise ValueError(f"reference_table: expected {len(self.names)} rows of rewards, one for each name, got {len(rewards)}")
        self._rows = {name: row for row, name in enumerate(self.names)}
        if len(self._rows) != len(self.names):
            twice = next(name for row, name in enumerate(self.names) if self._rows[name] != row)
            raise ValueError(f"reference_table: expected names that differ, got {_short(twice)} twice")

    @classmethod
    def read(cls, file, key="rewards"):
        """Reads JSON lines: "rewards", a list, or one "reward"; null and NaN are unscored (NaN)."""
        rows = {}
        with open(file, encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                try:
                    entry = json.loads(line)
                except ValueError as error:
                    raise ValueError(f"{file}:{number}: not JSON: {error}") from None
                if not isinstance(entry, dict) or "prompt" not in entry:
                    raise ValueError(f"{file}:{number}: expected an object with a \"prompt\"")
                values = entry.get(key, entry.get("reward") if key == "rewards" else None)
                if key not in entry and not (key == "rewards" and "reward" in entry):
                    raise ValueError(f"{file}:{number}: expected the key \"{key}\"")
                name = entry["prompt"] if isinstance(entry["prompt"], str) else json.dumps(entry["prompt"], sort_keys=True)
                for value in values if isinstance(values, list) else [values]:
                    if value is not None and (isinstance(value, (str, list, dict)) or isinstance(value, bool)):
                        raise ValueError(f"{file}:{number}: expected numbers at \"{key}\", got {_short(str(value))}")
                    rows.setdefault(name, []).append(float("nan") if value is None else float(value))
        if not rows:
            raise ValueError(f"{file}: no lines of rewards")
        values = list(rows.values())
        return cls(rows, np.array(values) if len({len(row) for row in values}) == 1 else values)

    def __len__(self):
        return len(self.names)

    def __contains__(self, name):
        return str(name) in self._rows

    def index(self, name):
        """The row of a prompt."""
        try:
            return self._rows[str(name)]
        except KeyError:
            raise KeyError(f"reference_table: no reference rewards for the prompt {_short(str(name))}") from None

    def indices(self, names):
        """The rows of the prompts of a flat batch."""
        return np.array([self.index(name) for name in names], dtype=np.int64)

    def calibration(self, rank=None, *, prior=None, unscored="error"):
        """The calibration with this table: `infalign.calibration`."""
        return _core.calibration(self.rewards, rank, prior=prior, unscored=unscored)

    def __reduce__(self):
        return reference_table, (self.names, self.path if self.path else self.rewards)


def _short(text):
    return repr(text if len(text) <= 80 else text[:50] + "..." + text[-27:])
