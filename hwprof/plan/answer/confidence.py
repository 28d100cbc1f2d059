"""How sure is it that one plan beats another? From the intervals of both."""

from __future__ import annotations

import math

from hwprof.specs.record.run import Interval

SHARED_ERROR = 0.08
"""Correlation of the errors (in logarithms) of two layouts of one model on one machine.

Variance between sweeps over all variance is 0.15 in 11 published sweeps of 132 layouts, 0.19 where their source was
held out of the fit (benchmarks/planner_evidence.py). The value is lower, towards being less sure, since the planner was
right in 71 % of the pairs that it told apart with 75 to 90 %.
"""

_NINETY_PERCENT = 1.645
"""Standard deviations from the median to either end of a 90 % interval."""


def chance_of_being_faster(one_s: float, one_interval: Interval, other_s: float, other_interval: Interval) -> float:
    """Probability that the first step is shorter than the second; log-normal errors.

    >>> chance_of_being_faster(1.0, (0.8, 1.25), 1.0, (0.8, 1.25))
    0.5
    """
    one, other = _deviation(one_interval), _deviation(other_interval)
    spread = math.sqrt(one**2 + other**2 - 2 * SHARED_ERROR * one * other)
    ahead = math.log(other_s / one_s)
    if spread == 0:
        return 0.5 if ahead == 0 else float(ahead > 0)
    return 0.5 * (1 + math.erf(ahead / spread / math.sqrt(2)))


def _deviation(interval: Interval) -> float:
    return math.log(interval[1] / interval[0]) / (2 * _NINETY_PERCENT)
