"""How much may a recommendation promise? Never more than the share of the step that it is about."""

from __future__ import annotations

from collections.abc import Callable

from hwprof.plan.advice.facts import Facts
from hwprof.specs.record.run import Interval, Recommendation

Rule = Callable[[Facts], Recommendation | None]
"""A recommendation from the facts of a run; None where the rule has nothing to say."""

WORTH_SAYING = 0.01
"""A gain of less than this share of the step is not recommended."""

SURE = 0.5
"""Share of a gain that stands at its low end, where half of what it rests on may fail to come true; an assumption."""


def gain_within(stake: float, *, low: float, high: float) -> Interval:
    """The interval, kept between 0 and what is at stake."""
    top = min(max(high, 0.0), stake, 1.0)
    return min(max(low, 0.0), top), top
