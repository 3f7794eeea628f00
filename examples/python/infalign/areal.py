# SPDX-License-Identifier: MIT
"""AReaL: a reward function that runs in a process pool. It is pickled: the reward must be a function of a module."""

from .shaped import shaper


class reward_fn:
    """Shapes a reward function of AReaL.

        reward = infalign.areal.reward_fn(my_reward, table)

    The name of a prompt is its text. reward_clip: that of the actor, 20 by default. A transform that it would cut is an error.
    """

    def __init__(self, reward, table, transform=None, *, rank=None, prior=None, reward_clip=20.0):
        self.reward = reward
        self.shaper = shaper(table, transform, rank, prior)
        self.shaper.check_clip(-reward_clip, reward_clip, "AReaL (actor.reward_clip)")

    def __call__(self, prompt, completions, prompt_ids, completion_ids, **columns):
        return self.shaper.one(prompt, self.reward(prompt, completions, prompt_ids, completion_ids, **columns))
