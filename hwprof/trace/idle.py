"""What did the host do while the device did nothing?"""

from __future__ import annotations

import numpy as np

from hwprof.spans.columns import NS, HostKind, Ints, Numbers, Trace
from hwprof.spans.idle import Gaps
from hwprof.spans.intervals import Intervals, union
from hwprof.spans.marks import LOADER
from hwprof.spans.nesting import Mask, Places, named
from hwprof.specs.distinct import distinct
from hwprof.specs.record.trace import TraceCause, TraceIdle
from hwprof.trace.calls import Calls

BLOCKING = frozenset(
    f"{vendor}{call}"
    for vendor in ("cuda", "hip")
    for call in ("StreamSynchronize", "DeviceSynchronize", "EventSynchronize", "Memcpy", "Memcpy2D", "MemcpyToSymbol")
)
"""Calls that return when the device has finished; a copy to pageable memory waits in a stream synchronisation."""
OUTSIDE = "Python, outside any operator"


def gpu_idle(trace: Trace, gaps: Gaps) -> TraceIdle:
    """The idle time by cause."""
    for_input = loading(trace).within(gaps.starts_ns, gaps.until_ns)
    rest = gaps.waited_ns - for_input
    after_wait = blocking(trace).holds(gaps.starts_ns)
    return TraceIdle(
        input_s=float(for_input.sum()) * NS,
        synchronisation_s=float(rest[after_wait].sum()) * NS,
        host_s=float(rest[~after_wait].sum()) * NS,
        launch_s=float(gaps.launch_ns.sum()) * NS,
        queued_s=float(gaps.queued_ns.sum()) * NS,
        unknown_s=float(gaps.unknown_ns.sum()) * NS,
    )


def cpu_idle(trace: Trace, idle: Intervals) -> TraceIdle:
    """A CPU's operators wait for the input pipeline or for the program around them."""
    for_input = float(loading(trace).within(idle.starts, idle.ends).sum())
    return TraceIdle(input_s=for_input * NS, host_s=(idle.length - for_input) * NS)


def loading(trace: Trace) -> Intervals:
    """When the program waited for its next batch."""
    return _spans(trace, named(trace, LOADER.match))


def blocking(trace: Trace) -> Intervals:
    """When the host waited for the device to finish."""
    return _spans(trace, named(trace, BLOCKING.__contains__))


def _spans(trace: Trace, chosen: Mask) -> Intervals:
    return union(trace.host.start_ns[chosen], trace.host.end_ns[chosen])


def causes(trace: Trace, calls: Calls, gaps: Gaps) -> tuple[TraceCause, ...]:
    """What the launching thread did in the middle of each gap that waited for the host, most time first."""
    late = np.flatnonzero((gaps.call >= 0) & (gaps.waited_ns > 0))
    middle = (gaps.starts_ns[late] + gaps.until_ns[late]) // 2
    around = enclosing(trace, calls, trace.host.thread[gaps.call[late]], middle)
    waited = gaps.waited_ns[late]
    if not len(late):
        return ()
    at = np.maximum(around, 0)
    in_module = (around >= 0) & (trace.host.kind[at] == HostKind.MODULE)
    named = (around >= 0) & ~in_module
    columns = (np.where(named, trace.host.name[at], -1), np.where(around >= 0, calls.label[at], 0))
    first, group = distinct(*columns)
    times, counts = np.bincount(group, weights=waited).tolist(), np.bincount(group).tolist()
    rows = [
        TraceCause(
            what=trace.names[columns[0][row]] if columns[0][row] >= 0 else OUTSIDE,
            module=calls.labels[columns[1][row]],
            time_s=time_ns * NS,
            gaps=count,
        )
        for row, time_ns, count in zip(first.tolist(), times, counts, strict=True)
    ]
    return tuple(sorted(rows, key=lambda row: -row.time_s))


def enclosing(trace: Trace, calls: Calls, threads: Numbers, times_ns: Ints) -> Places:
    """The innermost host event on each thread at each time; -1 where there is none."""
    host = trace.host
    found = np.full(len(times_ns), -1, dtype=np.int32)
    for thread in np.unique(threads).tolist():
        mine = threads == thread
        low, high = np.searchsorted(host.thread, [thread, thread + 1])
        found[mine] = low + np.searchsorted(host.start_ns[low:high], times_ns[mine], side="right") - 1
        found[mine & (found < low)] = -1
    while True:
        over = (found >= 0) & (host.end_ns[found] <= times_ns)
        if not over.any():
            return found
        found[over] = calls.parent[found[over]]
