# SPDX-License-Identifier: MIT
"""What the adapters to trainers share: a score becomes a shaped reward by the reference rewards of its prompt."""

import inspect

from . import _core


def default_transform():
    """normalized_exponential(10): for best-of-4, in [0, 1], so that no trainer clips it."""
    return _core.normalized_exponential(10)


class shaper:
    """Shapes scores of prompts that a reference_table knows by name. Picklable."""

    def __init__(self, table, transform=None, rank=None, prior=None):
        self.table = table
        self.transform = default_transform() if transform is None else transform
        self.rank = rank
        self.prior = prior
        self._build()

    def _build(self):
        self.calibrated = self.table.calibration(self.rank, prior=self.prior, unscored="propagate")
        self.shape = self.calibrated | self.transform

    def one(self, name, score):
        """The shaped reward of one response. None and NaN stay unscored."""
        return self.shape.one(self.table.index(name), float("nan") if score is None else score)

    def many(self, names, scores):
        """The shaped rewards of a flat batch, as an array. None and NaN stay NaN."""
        return self.shape(as_scores(scores), self.table.indices(names))

    def check_clip(self, low, high, where):
        """Throws if a trainer that clips rewards to [low, high] would cut the transform's range."""
        ends = [self.transform(u) if callable(self.transform) else 0.0 for u in (1e-6, 0.5, 1.0)]
        worst = max(ends, key=abs)
        if not low <= worst <= high:
            raise ValueError(
                f"{where} clips rewards to [{low}, {high}], and this transform reaches {worst:.6g}: its best responses would all get "
                "the same reward. Use infalign.normalized_exponential, whose rewards are in [0, 1], or widen the clip"
            )

    def __reduce__(self):
        return shaper, (self.table, self.transform, self.rank, self.prior)


def as_scores(scores):
    """Scores as a list of floats: None is NaN, a tensor is read."""
    if hasattr(scores, "tolist"):
        scores = scores.tolist()
    return [float("nan") if s is None else float(s) for s in scores]


def weighted(advantages, weights, kl, expected):
    """Advantages times the weights of their tokens, if there are any. A KL loss has no advantages to multiply, so they are refused with one."""
    if weights is None:
        return advantages
    if kl is not None:
        raise ValueError(f"{expected} with a KL loss, got some")
    return advantages * weights


def text_of(prompt):
    """The name of a prompt: its text, or that of the last user message of a conversation."""
    if isinstance(prompt, str):
        return prompt
    if isinstance(prompt, (list, tuple)) and prompt and isinstance(prompt[-1], dict):
        for message in reversed(prompt):
            if message.get("role") == "user":
                return message["content"]
        return prompt[-1]["content"]
    return str(prompt)


async def maybe_await(value):
    """The result of a function that may be async."""
    return await value if inspect.isawaitable(value) else value
