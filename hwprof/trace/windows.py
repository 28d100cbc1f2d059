"""Which steps does a trace hold, and when did the device work on each?"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import numpy as np

from hwprof.spans.columns import HostKind, Ints, Trace
from hwprof.spans.intervals import Intervals
from hwprof.spans.marks import OPTIMIZER, WINDOW
from hwprof.spans.nesting import named
from hwprof.spans.pieces import Pieces

_PROFILER_STEP = re.compile(r"ProfilerStep\s*#\s*(\d+)")
REST = "after the last step"


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """Steps in order; ``basis`` says how they were found."""

    names: tuple[str, ...]
    starts_ns: Ints
    ends_ns: Ints
    basis: str

    @property
    def spans(self) -> Intervals:
        """The windows as intervals; neighbours may touch."""
        return Intervals(self.starts_ns, self.ends_ns)


def host_steps(trace: Trace) -> Windows | None:
    """The steps as the host ran them; None where nothing in the trace marks one."""
    return _profiler_steps(trace) or _optimizer_steps(trace)


def _profiler_steps(trace: Trace) -> Windows | None:
    host = trace.host
    places = np.flatnonzero(named(trace, _PROFILER_STEP.match) & (host.kind != HostKind.RUNTIME))
    if not len(places):
        return None
    _, first = np.unique(host.name[places], return_index=True)
    places = places[np.sort(first)]
    places = places[np.argsort(host.start_ns[places], kind="stable")]
    names = tuple(trace.names[name] for name in host.name[places])
    return Windows(
        names=names,
        starts_ns=host.start_ns[places],
        ends_ns=host.end_ns[places],
        basis="ProfilerStep annotations",
    )


def _optimizer_steps(trace: Trace) -> Windows | None:
    """From the end of one optimizer step to that of the next; the first from the trace's first event, and the rest."""
    host = trace.host
    is_update = named(trace, lambda name: name.startswith(OPTIMIZER))
    places = np.flatnonzero(is_update & (host.kind == HostKind.ANNOTATION))
    if not len(places):
        return None
    names, counts = np.unique(host.name[places], return_counts=True)
    places = places[host.name[places] == names[np.argmax(counts)]]
    first, last = _bounds(trace)
    ends = np.sort(host.end_ns[places])
    ends = ends[(ends > first) & (ends <= last)]
    steps = [f"step {number}" for number in range(1, len(ends) + 1)]
    if not len(ends) or ends[-1] < last:
        ends, steps = np.append(ends, last), [*steps, REST]
    starts = np.concatenate([[first], ends[:-1]])
    basis = f"ends of {trace.names[host.name[places[0]]]}"
    return Windows(names=tuple(steps), starts_ns=starts, ends_ns=ends, basis=basis)


def _bounds(trace: Trace) -> tuple[int, int]:
    """The window of hwprof's own recorder where there is one, else all host events."""
    place = np.flatnonzero(named(trace, WINDOW.__eq__))[:1]
    chosen = place if len(place) else slice(None)
    return int(trace.host.start_ns[chosen].min()), int(trace.host.end_ns[chosen].max())


def device_windows(trace: Trace, pieces: Pieces, steps: Windows | None) -> tuple[Windows, Pieces]:
    """The steps on a GPU, and the pieces that were launched in them.

    A step runs from the start of its first kernel to that of the next step's; the last one to the end of all kernels.
    A kernel belongs to the step that launched it, one without a launch to the step at its own start.
    """
    if steps is None:
        return _whole(pieces), pieces
    known = pieces.host >= 0
    moment = pieces.start_ns.copy()
    moment[known] = trace.host.start_ns[pieces.host[known]]
    step = np.searchsorted(steps.starts_ns, moment, side="right") - 1
    inside = (step >= 0) & (moment <= steps.ends_ns[-1])
    if not inside.any():
        return _whole(pieces), pieces
    kept, step = pieces.where(inside), step[inside]
    present, first = np.unique(step, return_index=True)  # pieces are ordered by start: the first is the earliest
    starts = np.maximum.accumulate(kept.start_ns[first])
    ends = np.concatenate([starts[1:], [kept.end_ns.max()]])
    names = tuple(steps.names[number] for number in present)
    return replace(steps, names=names, starts_ns=starts, ends_ns=ends), kept


def cpu_windows(pieces: Pieces, steps: Windows | None) -> tuple[Windows, Pieces]:
    """The steps on a CPU, and the pieces that begin in them."""
    if steps is None:
        return _whole(pieces), pieces
    inside = (pieces.end_ns > steps.starts_ns[0]) & (pieces.start_ns < steps.ends_ns[-1])
    return (steps, pieces.where(inside)) if inside.any() else (_whole(pieces), pieces)


def _whole(pieces: Pieces) -> Windows:
    return Windows(
        names=("whole trace",),
        starts_ns=np.array([pieces.start_ns.min()]),
        ends_ns=np.array([pieces.end_ns.max()]),
        basis="no marks: the whole trace",
    )
