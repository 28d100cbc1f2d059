"""Which part of a trace was profiled, and in which phase of the step is each moment of it?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hwprof.spans.columns import DeviceEvents, HostEvents, HostKind, Ints, Trace
from hwprof.spans.intervals import Intervals, union
from hwprof.spans.marks import PHASE, WINDOW
from hwprof.spans.nesting import Mask, named
from hwprof.specs.job.settings import PhaseName

PHASES: tuple[PhaseName, ...] = get_args(PhaseName)


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The profiled window of a trace, and the phases in it, disjoint and in order.

    Attributes:
        phase: of each its place in ``PHASES``.
    """

    trace: Trace
    start_ns: int
    end_ns: int
    phase: NDArray[np.int8]
    starts_ns: Ints
    ends_ns: Ints

    @property
    def whole(self) -> Intervals:
        """All of its time."""
        return union([self.start_ns], [self.end_ns])

    @property
    def in_phases(self) -> Intervals:
        """When it is in any phase."""
        return union(self.starts_ns, self.ends_ns)

    def holds(self, events: HostEvents | DeviceEvents) -> Mask:
        """Which events begin and end in it."""
        return (events.start_ns >= self.start_ns) & (events.end_ns <= self.end_ns)

    def phases_at(self, times_ns: ArrayLike) -> NDArray[np.int8]:
        """The place in ``PHASES`` of the phase at each time; -1 for none."""
        place = np.searchsorted(self.starts_ns, times_ns, side="right") - 1
        inside = (place >= 0) & (times_ns <= np.append(self.ends_ns, 0)[place])
        return np.where(inside, np.append(self.phase, np.int8(-1))[place], np.int8(-1))

    def intervals(self, *names: PhaseName) -> Intervals:
        """When the window is in these phases."""
        chosen = np.isin(self.phase, [PHASES.index(name) for name in names])
        return union(self.starts_ns[chosen], self.ends_ns[chosen])


def window_of(trace: Trace) -> Window:
    """The window that the recorder marked in a trace of its own."""
    host = trace.host
    marked = host.kind == HostKind.ANNOTATION
    place = np.flatnonzero(marked & named(trace, WINDOW.__eq__))[0]
    start_ns, end_ns = int(host.start_ns[place]), int(host.end_ns[place])
    inside = marked & (host.start_ns >= start_ns) & (host.end_ns <= end_ns)
    phases = np.flatnonzero(inside & named(trace, lambda name: name.startswith(PHASE)))
    phases = phases[np.argsort(host.start_ns[phases], kind="stable")]
    names = [cast("PhaseName", trace.names[name].removeprefix(PHASE)) for name in host.name[phases]]
    return Window(
        trace=trace,
        start_ns=start_ns,
        end_ns=end_ns,
        phase=np.array([PHASES.index(name) for name in names], dtype=np.int8),
        starts_ns=host.start_ns[phases],
        ends_ns=host.end_ns[phases],
    )
