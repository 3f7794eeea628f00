# SPDX-License-Identifier: MIT
"""Train language models for the way they are used: calibrated, transformed rewards for best-of-N and worst-of-N.

    import infalign
    shape = infalign.calibration(reference) | infalign.normalized_exponential(10)   # reference: P x K rewards
    shaped = shape(rewards)                                                        # P x M, or a flat batch with prompt=

Names, numbers and errors are those of the C++ library. A mistake is a ValueError.
"""

from ._core import *  # noqa: F401,F403
from . import checks  # noqa: F401,E402  (after the line above, which has a module of that name)
from .table import reference_table  # noqa: F401
