"""What did the host do while the device did nothing?"""

from __future__ import annotations

import numpy as np

from hwprof.spans.columns import NS, HostKind, Ints, Numbers, Trace
from hwprof.spans.idle import Gaps
from hwprof.spans.nesting import Places
from hwprof.spans.pieces import Pieces
from hwprof.specs.distinct import distinct
from hwprof.specs.record.trace import TimePart, TraceCause, TraceGap, TraceIdle
from hwprof.trace.calls import Calls
from hwprof.trace.gap_parts import Parts

OUTSIDE = "Python, outside any operator"
_LATE: tuple[TimePart, ...] = ("call", "launch", "graph", "queued")
"""Causes of what follows the call for the next piece."""


def idle_by_cause(parts: Parts) -> TraceIdle:
    """The idle time of all gaps by cause."""
    return TraceIdle(**{f"{name}_s": float(part.sum()) * NS for name, part in parts.items()})


def largest_gap(trace: Trace, calls: Calls, gaps: Gaps, parts: Parts, pieces: Pieces) -> TraceGap | None:
    """The longest gap, what most of it was, and what the host was in then; None where the device was never idle."""
    if not len(gaps.starts_ns):
        return None
    lengths = np.stack(list(parts.values())).sum(axis=0)
    place = int(np.argmax(lengths))
    start, length, until = int(gaps.starts_ns[place]), int(lengths[place]), int(gaps.until_ns[place])
    cause = _main_causes(parts)[place]
    call = int(gaps.call[place])
    moment = (until + start + length) // 2 if cause in _LATE else (start + until) // 2
    after = np.searchsorted(pieces.start_ns, start + length)
    return TraceGap(
        start_s=start * NS,
        duration_s=length * NS,
        cause=cause,
        host=_stack(trace, calls, call, moment) if call >= 0 else (),
        then=trace.names[int(pieces.name[after])] if after < len(pieces) else "",
    )


def _main_causes(parts: Parts) -> list[TimePart]:
    """What takes most of each gap."""
    names = list(parts)
    return [names[place] for place in np.argmax(np.stack(list(parts.values())), axis=0).tolist()]


def _stack(trace: Trace, calls: Calls, call: int, moment: int) -> tuple[str, ...]:
    """What the thread of a call was in at a time, outermost first; the call itself where it was that."""
    host = trace.host
    place = int(enclosing(trace, calls, host.thread[[call]], np.array([moment]))[0])
    names: list[str] = []
    while place >= 0:
        names.append(trace.names[int(host.name[place])])
        place = int(calls.parent[place])
    return tuple(reversed(names))


def causes(trace: Trace, calls: Calls, gaps: Gaps, parts: Parts) -> tuple[TraceCause, ...]:
    """What the launching thread did in the middle of each gap that waited for the host, most time first."""
    late = np.flatnonzero((gaps.call >= 0) & (gaps.waited_ns > 0))
    if not len(late):
        return ()
    of_host = {name: part[late] for name, part in parts.items() if name not in {*_LATE, "unknown"}}
    main = np.argmax(np.stack(list(of_host.values())), axis=0)
    middle = (gaps.starts_ns[late] + gaps.until_ns[late]) // 2
    around = enclosing(trace, calls, trace.host.thread[gaps.call[late]], middle)
    at = np.maximum(around, 0)
    in_module = (around >= 0) & (trace.host.kind[at] == HostKind.MODULE)
    named = (around >= 0) & ~in_module
    columns = (np.where(named, trace.host.name[at], -1), np.where(around >= 0, calls.label[at], 0), main)
    first, group = distinct(*columns)
    times = np.bincount(group, weights=gaps.waited_ns[late]).tolist()
    rows = [
        TraceCause(
            what=trace.names[columns[0][row]] if columns[0][row] >= 0 else OUTSIDE,
            module=calls.labels[columns[1][row]],
            cause=list(of_host)[columns[2][row]],
            time_s=time_ns * NS,
            gaps=count,
        )
        for row, time_ns, count in zip(first.tolist(), times, np.bincount(group).tolist(), strict=True)
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
