"""How long is a union of time intervals, and what of it lies inside or outside another? Columns of numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

_IN_FIRST, _IN_SECOND = 1, 2


@dataclass(frozen=True, slots=True, eq=False)
class Intervals:
    """Disjoint, ordered intervals from ``starts`` (inside) to ``ends`` (outside), in any one unit of time."""

    starts: NDArray[Any]
    ends: NDArray[Any]

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def length(self) -> float:
        """Total length; exact where the unit is a whole number."""
        return float((self.ends - self.starts).sum())

    def within(self, starts: ArrayLike, ends: ArrayLike) -> NDArray[Any]:
        """How much of these intervals lies in each of some windows, which may overlap."""
        until: NDArray[Any] = self.until(ends) - self.until(starts)
        return until

    def until(self, times: ArrayLike) -> NDArray[Any]:
        """How much of these intervals lies before each time."""
        moments = np.asarray(times)
        if not len(self):
            return np.zeros_like(moments)
        before = np.concatenate([[0], np.cumsum(self.ends - self.starts)])
        place = np.searchsorted(self.starts, moments, side="right") - 1
        inside = np.minimum(moments, self.ends[place]) - self.starts[place]
        found: NDArray[Any] = np.where(place < 0, 0, before[np.maximum(place, 0)] + inside)
        return found

    def holds(self, times: ArrayLike) -> NDArray[np.bool_]:
        """Which of some times lie inside."""
        moments = np.asarray(times)
        if not len(self):
            return np.zeros(moments.shape, dtype=np.bool_)
        place = np.searchsorted(self.starts, moments, side="right") - 1
        found: NDArray[np.bool_] = (place >= 0) & (moments < self.ends[place])
        return found


def union(starts: ArrayLike, ends: ArrayLike) -> Intervals:
    """The disjoint union of any intervals; those that touch become one, those without length go."""
    first, last = np.asarray(starts), np.asarray(ends)
    long = last > first
    if not long.all():
        first, last = first[long], last[long]
    if not len(first):
        return Intervals(first, last)
    if (first[1:] < first[:-1]).any():
        order = np.argsort(first, kind="stable")
        first, last = first[order], last[order]
        del order
    last = np.maximum.accumulate(last)
    opens = np.concatenate([[True], first[1:] > last[:-1]])
    closes = np.concatenate([opens[1:], [True]])
    return Intervals(first[opens], last[closes])


def intersect(first: Intervals, second: Intervals) -> Intervals:
    """What both cover."""
    return _where(first, second, _IN_FIRST | _IN_SECOND)


def subtract(whole: Intervals, part: Intervals) -> Intervals:
    """What of ``whole`` lies outside ``part``."""
    return _where(whole, part, _IN_FIRST)


def join(first: Intervals, second: Intervals) -> Intervals:
    """What either covers."""
    return union(np.concatenate([first.starts, second.starts]), np.concatenate([first.ends, second.ends]))


def _where(first: Intervals, second: Intervals, wanted: int) -> Intervals:
    """The stretches between neighbouring ends that lie in just the ``wanted`` sets."""
    times = np.concatenate([first.starts, first.ends, second.starts, second.ends])
    changes = np.array([_IN_FIRST, -_IN_FIRST, _IN_SECOND, -_IN_SECOND], dtype=np.int8)
    sets = np.repeat(changes, [len(first), len(first), len(second), len(second)])
    order = np.argsort(times, kind="stable")
    times, sets = times[order], sets[order]
    del order
    chosen = np.cumsum(sets, dtype=np.int8)[:-1] == wanted
    starts, ends = times[:-1][chosen], times[1:][chosen]
    del times, sets, chosen
    return union(starts, ends)
