"""Why did the device do nothing, and what did the host do meanwhile?

A gap ends with a kernel. If its launch call began after the gap did, the device waited for the host until then, and
for the launch from then on. If it had been launched before, it was queued: it waited for another stream, or is one of
many short kernels in a row.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hwprof.specs.intervals import Intervals, union
from hwprof.specs.record.trace import TraceCause, TraceIdle
from hwprof.trace.breakdown import NS
from hwprof.trace.calls import LOADER, Calls, Places
from hwprof.trace.grouping import groups
from hwprof.trace.pieces import Pieces
from hwprof.trace.read.columns import HostKind, Ints, Numbers, Trace

BLOCKING = frozenset(
    f"{vendor}{call}"
    for vendor in ("cuda", "hip")
    for call in ("StreamSynchronize", "DeviceSynchronize", "EventSynchronize", "Memcpy", "Memcpy2D", "MemcpyToSymbol")
)
"""Calls that return when the device has finished; a copy to pageable memory waits in a stream synchronisation."""
OUTSIDE = "Python, outside any operator"


@dataclass(frozen=True, slots=True)
class Gaps:
    """Idle time of a GPU by gap: when it began, when the host called for the next kernel, when that started.

    Attributes:
        starts_ns, ends_ns: of each gap.
        until_ns: end of the part in which the host had not called yet; equal to ``starts_ns`` where it had.
        launch: the call; -1 where the trace has none.
    """

    starts_ns: Ints
    ends_ns: Ints
    until_ns: Ints
    launch: Places


def gaps_of(trace: Trace, pieces: Pieces, idle: Intervals) -> Gaps:
    """The gaps before each kernel that ends one."""
    place = np.minimum(np.searchsorted(pieces.start_ns, idle.ends), max(len(pieces) - 1, 0))
    launch = pieces.host[place] if len(pieces) else np.full(len(idle), -1, dtype=np.int32)
    called = trace.host.start_ns[launch] if len(trace.host) else idle.starts
    until = np.where(launch >= 0, np.clip(called, idle.starts, idle.ends), idle.starts)
    return Gaps(idle.starts, idle.ends, until, launch)


def gpu_idle(trace: Trace, gaps: Gaps) -> TraceIdle:
    """The idle time by cause."""
    known = gaps.launch >= 0
    waited = gaps.until_ns - gaps.starts_ns
    late = known & (waited > 0)
    for_input = loading(trace).within(gaps.starts_ns, gaps.until_ns)
    rest = waited - for_input
    after_wait = blocking(trace).holds(gaps.starts_ns)
    launch = gaps.ends_ns - gaps.until_ns
    return TraceIdle(
        input_s=float(for_input.sum()) * NS,
        synchronisation_s=float(rest[after_wait].sum()) * NS,
        host_s=float(rest[~after_wait].sum()) * NS,
        launch_s=float(launch[late].sum()) * NS,
        queued_s=float(launch[known & ~late].sum()) * NS,
        unknown_s=float(launch[~known].sum()) * NS,
    )


def cpu_idle(trace: Trace, idle: Intervals) -> TraceIdle:
    """A CPU's operators wait for the input pipeline or for the program around them."""
    for_input = float(loading(trace).within(idle.starts, idle.ends).sum())
    return TraceIdle(input_s=for_input * NS, host_s=(idle.length - for_input) * NS)


def loading(trace: Trace) -> Intervals:
    """When the program waited for its next batch."""
    return _spans(trace, [LOADER.match(name) is not None for name in trace.names])


def blocking(trace: Trace) -> Intervals:
    """When the host waited for the device to finish."""
    return _spans(trace, [name in BLOCKING for name in trace.names])


def _spans(trace: Trace, chosen: list[bool]) -> Intervals:
    picked = np.array(chosen, dtype=np.bool_)[trace.host.name]
    return union(trace.host.start_ns[picked], trace.host.end_ns[picked])


def causes(trace: Trace, calls: Calls, gaps: Gaps) -> tuple[TraceCause, ...]:
    """What the launching thread did in the middle of each gap that waited for the host, most time first."""
    late = np.flatnonzero((gaps.launch >= 0) & (gaps.until_ns > gaps.starts_ns))
    middle = (gaps.starts_ns[late] + gaps.until_ns[late]) // 2
    around = enclosing(trace, calls, trace.host.thread[gaps.launch[late]], middle)
    waited = (gaps.until_ns - gaps.starts_ns)[late]
    if not len(late):
        return ()
    at = np.maximum(around, 0)
    in_module = (around >= 0) & (trace.host.kind[at] == HostKind.MODULE)
    named = (around >= 0) & ~in_module
    columns = (np.where(named, trace.host.name[at], -1), np.where(around >= 0, calls.label[at], 0))
    first, group = groups(*columns)
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
