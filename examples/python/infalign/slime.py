# SPDX-License-Identifier: MIT
"""slime: --custom-reward-post-process-path, for a whole rollout."""

from .shaped import as_scores, shaper


class post_process:
    """Shapes the rewards of a rollout by a table.

        post_process = infalign.slime.post_process(table)      # --custom-reward-post-process-path module.post_process

    The name of a prompt is sample.label (`name` makes another one of a sample).
    """

    def __init__(self, table, transform=None, *, rank=None, prior=None, name=lambda sample: sample.label):
        self.shaper = shaper(table, transform, rank, prior)
        self.name = name

    def __call__(self, args, samples):
        raw = as_scores([sample.get_reward_value(args) for sample in samples])
        return raw, self.shaper.many(map(self.name, samples), raw).tolist()
