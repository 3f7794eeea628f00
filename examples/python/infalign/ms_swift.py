# SPDX-License-Identifier: MIT
"""ms-swift: an ORM for --external_plugins: orms["shaped"] = infalign.ms_swift.orm(MyORM, table)."""

import inspect

from .shaped import as_scores, shaper, text_of


def orm(base, table, transform=None, *, rank=None, prior=None, name=text_of):
    """A class of reward functions whose rewards are shaped. The prompts are `messages`, or `prompts` if there are none.

    Of an AsyncORM, it makes one.
    """
    shaped = shaper(table, transform, rank, prior)

    def shape(scores, columns):
        prompts = columns.get("messages", columns.get("prompts"))
        if prompts is None:
            raise ValueError("infalign.ms_swift.orm: expected messages or prompts among the columns of the dataset, got neither")
        return shaped.many(map(name, prompts), as_scores(scores)).tolist()

    class shaped_orm(base):
        def __call__(self, completions, **kwargs):
            return shape(super().__call__(completions, **kwargs), kwargs)

    class shaped_async_orm(base):
        async def __call__(self, completions, **kwargs):
            return shape(await super().__call__(completions, **kwargs), kwargs)

    return shaped_async_orm if inspect.iscoroutinefunction(base.__call__) else shaped_orm
