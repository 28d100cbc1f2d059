"""How long is a union of time intervals, and what of it lies outside another?"""

from __future__ import annotations

from collections.abc import Iterable

Intervals = list[tuple[float, float]]
"""Disjoint, ordered (start_s, end_s) pairs."""


def union(intervals: Iterable[tuple[float, float]]) -> Intervals:
    """The disjoint, ordered union of any intervals."""
    merged: Intervals = []
    for start, end in sorted(intervals):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        elif end > start:
            merged.append((start, end))
    return merged


def subtract(whole: Intervals, part: Intervals) -> Intervals:
    """What of ``whole`` lies outside ``part``; both disjoint and ordered."""
    rest: Intervals = []
    index = 0
    for start, end in whole:
        here = start
        while index < len(part) and part[index][1] <= here:
            index += 1
        probe = index
        while probe < len(part) and part[probe][0] < end:
            if part[probe][0] > here:
                rest.append((here, part[probe][0]))
            here = max(here, part[probe][1])
            probe += 1
        if here < end:
            rest.append((here, end))
    return rest


def intersect(left: Intervals, right: Intervals) -> Intervals:
    """What both cover; both disjoint and ordered."""
    return subtract(left, subtract(left, right))


def length_s(intervals: Intervals) -> float:
    """Total length."""
    return sum(end - start for start, end in intervals)


def clip(intervals: Iterable[tuple[float, float]], window: tuple[float, float]) -> Intervals:
    """The union of the intervals, cut to the window."""
    start, end = window
    return union((max(a, start), min(b, end)) for a, b in intervals if a < end and b > start)
