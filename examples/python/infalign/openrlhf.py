# SPDX-License-Identifier: MIT
"""OpenRLHF: a `reward_func` for --reward.remote_url FILE.py."""

from .shaped import as_scores, shaper


class reward_func:
    """Shapes the rewards of a reward function of OpenRLHF.

        reward_func = infalign.openrlhf.reward_func(my_reward, table)      # in FILE.py

    The labels are the names of the prompts. "scores", by which OpenRLHF filters groups, are the calibrated rewards.
    clip_range: that of --reward.clip_range, 10 by default. A transform that it would cut is an error.
    """

    def __init__(self, reward, table, transform=None, *, rank=None, prior=None, clip_range=(-10, 10)):
        self.reward = reward
        self.shaper = shaper(table, transform, rank, prior)
        self.shaper.check_clip(*clip_range, "OpenRLHF (--reward.clip_range)")

    def __call__(self, queries, prompts, labels, **kwargs):
        import torch

        result = self.reward(queries, prompts, labels, **kwargs)
        extra = dict(result.get("extra_logs", {})) if isinstance(result, dict) else {}
        raw = as_scores(result["rewards"] if isinstance(result, dict) else result)
        rows = self.shaper.table.indices(labels)
        return {
            "rewards": torch.tensor(self.shaper.shape(raw, rows)),
            "scores": torch.tensor(self.shaper.calibrated(raw, rows)),
            "extra_logs": {**extra, "raw_reward": torch.tensor(raw)},
        }
