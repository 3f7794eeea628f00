# SPDX-License-Identifier: MIT
"""TRL (GRPOTrainer, RLOOTrainer) and Axolotl: a reward function that is shaped."""

from .shaped import maybe_await, shaper, text_of


class shaped:
    """Wraps a reward function of TRL.

        table = infalign.reference_table.read("reference.jsonl")
        trainer = GRPOTrainer(model=..., reward_funcs=infalign.trl.shaped(my_reward, table), ...)

    The prompts of the dataset are the names of the table (`name` makes another name of a prompt). TRL may give a process a
    part of a group, so the ranks are those among reference rewards, not among the group. An async reward function gives an
    async one: use `shaped_async`.
    """

    def __init__(self, reward, table, transform=None, *, rank=None, prior=None, name=text_of):
        self.reward = reward
        self.shaper = shaper(table, transform, rank, prior)
        self.name = name
        self.__name__ = getattr(reward, "__name__", type(reward).__name__) + "_shaped"

    def _shape(self, scores, prompts, kwargs):
        result = [None if r != r else r for r in self.shaper.many(map(self.name, prompts), scores).tolist()]
        if kwargs.get("log_metric"):
            scored = [s for s in scores if s is not None and s == s]
            if scored:
                kwargs["log_metric"](self.__name__ + "/raw", sum(scored) / len(scored))
        return result

    def __call__(self, prompts, completions, **kwargs):
        return self._shape(self.reward(prompts=prompts, completions=completions, **kwargs), prompts, kwargs)


class shaped_async(shaped):
    """`shaped` for an async reward function. Pass its method: reward_funcs=shaped_async(my_reward, table).call."""

    async def call(self, prompts, completions, **kwargs):
        scores = await maybe_await(self.reward(prompts=prompts, completions=completions, **kwargs))
        return self._shape(scores, prompts, kwargs)
