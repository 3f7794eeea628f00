# SPDX-License-Identifier: MIT
"""Checks for unit tests of your own reward pipeline: they draw batches, and report the smallest counterexample that they find.

    from infalign import checks

    report = checks.increasing(my_pipeline)      # my_pipeline: rewards, P x M, to shaped rewards
    assert report, report

A function that takes prompts too is a `pipeline(f, flat=True)`: f(rewards, prompt). An exception of the function is a finding.
"""

from ._core.checks import *  # noqa: F401,F403
