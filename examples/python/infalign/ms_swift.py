# SPDX-License-Identifier: MIT
"""ms-swift: an ORM for --external_plugins: orms["shaped"] = infalign.ms_swift.orm(MyORM, table)."""

from .shaped import as_scores, shaper, text_of


def orm(base, table, transform=None, *, rank=None, prior=None, name=text_of):
    """A class of reward functions whose rewards are shaped. The prompts are `messages`, or `prompts` if there are none."""
    shaped = shaper(table, transform, rank, prior)

    class shaped_orm(base):
        def __call__(self, completions, **kwargs):
            scores = as_scores(super().__call__(completions, **kwargs))
            prompts = kwargs.get("messages", kwargs.get("prompts"))
            if prompts is None:
                raise ValueError("infalign.ms_swift.orm: expected messages or prompts among the columns of the dataset, got neither")
            return shaped.many(map(name, prompts), scores).tolist()

    return shaped_orm
