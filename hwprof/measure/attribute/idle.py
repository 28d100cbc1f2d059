"""Why does a GPU do nothing between two kernels? Late launches, queued work that waits, and the launch itself.

A gap ends with a kernel. Until the host called for it, the device waited for the host. If the call came before the gap,
the kernel stood in its queue and waited for something else (another stream, another rank, a slot): a dependency. What
lies between a late call and the kernel's start is the launch.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass

from hwprof.specs.intervals import Intervals, of_pairs


@dataclass(frozen=True, slots=True, kw_only=True)
class IdleCauses:
    """Idle time by cause, disjoint; together all of it."""

    host: Intervals
    dependency: Intervals
    other: Intervals


def causes(idle: Intervals, starts: Sequence[tuple[float, float | None]]) -> IdleCauses:
    """Split idle time by what ended it.

    Args:
        idle: when the device did nothing.
        starts: of each piece of device work its start, and when the host called for it (None where the trace has no
            call), ordered by start. A gap that no work ends is the host's.
    """
    times = [start for start, _ in starts]
    host: list[tuple[float, float]] = []
    dependency: list[tuple[float, float]] = []
    other: list[tuple[float, float]] = []
    for begin, end in zip(idle.starts.tolist(), idle.ends.tolist(), strict=True):
        place = bisect.bisect_left(times, end)
        if place == len(times):
            host.append((begin, end))
            continue
        called = starts[place][1]
        if called is None:
            other.append((begin, end))
        elif called <= begin:
            dependency.append((begin, end))
        else:
            middle = min(called, end)
            host.append((begin, middle))
            other.append((middle, end))
    return IdleCauses(host=of_pairs(host), dependency=of_pairs(dependency), other=of_pairs(other))
