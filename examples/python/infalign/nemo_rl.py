# SPDX-License-Identifier: MIT
"""NeMo-RL: rewards of an environment, and an advantage estimator."""

import numpy as np

from . import _core
from .shaped import as_scores, shaper


class shaped_rewards:
    """Shapes the rewards of an environment's step, before it returns them.

        rewards = self.shaped(names, rewards)      # names: of the prompts of this batch; a tensor of shaped rewards
    """

    def __init__(self, table, transform=None, *, rank=None, prior=None):
        self.shaper = shaper(table, transform, rank, prior)

    def __call__(self, names, rewards):
        import torch

        return torch.tensor(self.shaper.many(names, as_scores(rewards)), dtype=torch.float32)


class advantage_estimator:
    """compute_advantage(prompt_ids, rewards, mask) with an estimator of infalign: equal prompt_ids are one group."""

    def __init__(self, estimator):
        self.estimator = estimator

    def compute_advantage(self, prompt_ids, rewards, mask, **kwargs):
        import torch

        ids = np.asarray(prompt_ids).reshape(len(rewards), -1)
        groups = np.unique(ids, axis=0, return_inverse=True)[1].reshape(-1)
        a = _core.advantage(np.asarray(rewards, dtype=np.float64), self.estimator, groups)
        return torch.from_numpy(a).to(mask.device).float().unsqueeze(-1) * mask
