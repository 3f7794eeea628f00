# SPDX-License-Identifier: MIT
"""How objects of the module are pickled: by these functions and the arguments that they were made from."""

from . import _core


def make(parts):
    """A part from its constructor's name and arguments; several are joined by |."""
    result = None
    for name, arguments in parts:
        one = arguments["f"] if name == "function" else getattr(_core, name)(**arguments)
        result = one if result is None else result | one
    return result


def mixed_use(shares):
    return _core.mixed_use(shares)


def calibration(reference, rank, prior, unscored, transform):
    made = _core.calibration(reference, rank, prior=prior, unscored=unscored)
    return made if transform is None else made | transform


def joint_calibration(combine, reference, rank, unscored, transform):
    made = _core.joint_calibration(combine, *reference, rank=rank, unscored=unscored)
    return made if transform is None else made | transform
