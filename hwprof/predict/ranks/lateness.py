"""Which rank came late to the collectives, by how much, and what had it done instead?

A collective ends for all its ranks at once: the one that spends least time in it came last, and the others waited for
it. All left the collective before together, so what the late rank did longer than the middle one of the others is why.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from hwprof.specs.record.stragglers import LateCause

_Name = TypeVar("_Name", bound=str)

STANDS_OUT = 2.0
"""A rank is named if the others wait for it this many times as long as for the next, and at least this share:"""
MATTERS = 0.02
_MOST_OF_IT = 0.5
"""A cause is named where it is at least this share of what was done longer."""


@dataclass(frozen=True, slots=True)
class Stay:
    """One rank in one collective.

    Attributes:
        time_s: from its arrival until it went on.
        before_s: what it did since it left the one before, seconds by cause.
        delayed_s: how much of that it could have run and had no processor.
        where_s: the same time by phase of the step.
    """

    time_s: float
    before_s: Mapping[LateCause, float] = field(default_factory=dict)
    delayed_s: float = 0.0
    where_s: Mapping[str, float] = field(default_factory=dict)

    @property
    def own_s(self) -> float:
        """From leaving the collective before until it arrived."""
        return sum(self.before_s.values()) + self.delayed_s


Met = Mapping[int, Stay]
"""Rank -> its stay in one collective; at least two."""


@dataclass(slots=True)
class Waits:
    """Sums over collectives, by rank. Mutable: they are added up.

    Attributes:
        waited_s: for the last rank.
        caused_s: what all others waited for this one, together.
        last: how often it came last.
        more_s: what it did more of than the others when it came last, by cause; ``where_s`` by phase.
    """

    waited_s: dict[int, float]
    caused_s: dict[int, float]
    last: dict[int, int]
    more_s: dict[int, dict[LateCause, float]]
    where_s: dict[int, dict[str, float]]
    transfer_s: float = 0.0


def waits_of(meetings: Iterable[Met], ranks: Iterable[int]) -> Waits:
    """Who waited for whom in some collectives."""
    order = sorted(ranks)
    found = Waits(
        dict.fromkeys(order, 0.0),
        dict.fromkeys(order, 0.0),
        dict.fromkeys(order, 0),
        {rank: defaultdict(float) for rank in order},
        {rank: defaultdict(float) for rank in order},
    )
    for met in meetings:
        least_s, late = latest(met)
        found.transfer_s += least_s
        found.last[late] += 1
        for rank, stay in met.items():
            found.waited_s[rank] += stay.time_s - least_s
            found.caused_s[late] += stay.time_s - least_s
        others = [stay for rank, stay in met.items() if rank != late]
        _add_excess(found.more_s[late], met[late].before_s, [other.before_s for other in others])
        _add_excess(found.where_s[late], met[late].where_s, [other.where_s for other in others])
    return found


def latest(met: Met) -> tuple[float, int]:
    """The least time that any rank was in a collective, and the rank, which came last."""
    return min((stay.time_s, rank) for rank, stay in met.items())


def alone_late_s(met: Met) -> tuple[int, float, float]:
    """The rank that came last, how long all others were there, and the same without what it had no processor for."""
    least_s, late = latest(met)
    others = [stay for rank, stay in met.items() if rank != late]
    late_s = min(other.time_s for other in others) - least_s
    delayed_s = met[late].delayed_s - statistics.median(other.delayed_s for other in others)
    return late, late_s, max(late_s - max(delayed_s, 0.0), 0.0)


def _add_excess(total: dict[_Name, float], own: Mapping[_Name, float], others: Sequence[Mapping[_Name, float]]) -> None:
    for name, time_s in own.items():
        total[name] += max(time_s - statistics.median(other.get(name, 0.0) for other in others), 0.0)


def cause_of(more_s: Mapping[LateCause, float]) -> LateCause | None:
    """What most of a rank's lateness was; None where nothing is."""
    total = sum(more_s.values())
    cause = max(more_s, key=lambda each: more_s[each], default=None)
    return cause if cause is not None and more_s[cause] >= _MOST_OF_IT * total > 0 else None


def stands_out(caused_s: Mapping[int, float], span_s: float) -> int | None:
    """The rank for which the others waited much longer than for any other, and long enough to matter.

    Args:
        caused_s: by rank, what all others waited for it, together.
        span_s: of the steps.
    """
    order = sorted(caused_s, key=lambda rank: caused_s[rank], reverse=True)
    if len(order) < 2:
        return None
    first, second = order[:2]
    each_s = caused_s[first] / (len(order) - 1)
    return first if caused_s[first] >= STANDS_OUT * caused_s[second] and each_s >= MATTERS * span_s > 0 else None
