"""What did the host do while the device did nothing?"""

from __future__ import annotations

import re

import numpy as np

from hwprof.spans.columns import NS, HostKind, Ints, Numbers, Trace
from hwprof.spans.idle import Gaps
from hwprof.spans.intervals import Intervals, join, subtract, union
from hwprof.spans.marks import LOADER
from hwprof.spans.nesting import Mask, Places, named
from hwprof.spans.pieces import Pieces
from hwprof.specs.distinct import distinct
from hwprof.specs.record.trace import TimePart, TraceCause, TraceGap, TraceIdle
from hwprof.trace.calls import Calls

BLOCKING = frozenset(
    f"{vendor}{call}"
    for vendor in ("cuda", "hip")
    for call in (
        "StreamSynchronize",
        "DeviceSynchronize",
        "EventSynchronize",
        "Memcpy",
        "Memcpy2D",
        "MemcpyToSymbol",
        "MemcpyWithStream",
    )
)
"""Calls that return when the device has finished; a copy to pageable memory waits in a stream synchronisation."""
_ALLOCATES = re.compile(r"(cuda|hip|cu)(Host)?(Malloc|Alloc|Free|MemAlloc|MemFree|MemCreate|MemMap|MemRelease)")
"""Calls in which the driver finds or returns memory; those of a stream's own pool (``Async``) are none."""
_COMPILES = re.compile(
    r"compile_inner|entire_frame_compile|backend_compile|compile_fx|inductor_codegen|dynamo_timed|async_compile|"
    r"aot_dispatcher|compile_to_module|GraphLowering"
)
"""What dynamo and inductor call their work in a trace (torch._dynamo.utils.dynamo_timed)."""
OUTSIDE = "Python, outside any operator"


def gpu_idle(trace: Trace, gaps: Gaps) -> TraceIdle:
    """The idle time by cause."""
    parts = _host_parts(trace, gaps)
    rest = gaps.waited_ns - sum(parts.values())
    after_wait = blocking(trace).holds(gaps.starts_ns)
    return TraceIdle(
        **{f"{name}_s": float(part.sum()) * NS for name, part in parts.items()},
        call_s=float(gaps.call_ns.sum()) * NS,
        synchronisation_s=float(rest[after_wait].sum()) * NS,
        host_s=float(rest[~after_wait].sum()) * NS,
        launch_s=float(gaps.launch_ns.sum()) * NS,
        queued_s=float(gaps.queued_ns.sum()) * NS,
        unknown_s=float(gaps.unknown_ns.sum()) * NS,
    )


def _host_parts(trace: Trace, gaps: Gaps) -> dict[TimePart, Ints]:
    """What of each gap's waiting for the host has a cause of its own."""
    inputs = loading(trace)
    compiles = subtract(_spans(trace, named(trace, _COMPILES.search)), inputs)
    allocates = named(trace, lambda name: _ALLOCATES.match(name) and not name.endswith("Async"))
    memory = subtract(_spans(trace, allocates), join(inputs, compiles))
    parts: dict[TimePart, Intervals] = {"input": inputs, "recompilation": compiles, "allocation": memory}
    return {name: part.within(gaps.starts_ns, gaps.until_ns) for name, part in parts.items()}


def largest_gap(trace: Trace, calls: Calls, gaps: Gaps, pieces: Pieces) -> TraceGap | None:
    """The longest gap, what most of it was, and what the host was in then; None where the device was never idle."""
    if not len(gaps.starts_ns):
        return None
    lengths = gaps.waited_ns + gaps.call_ns + gaps.launch_ns + gaps.queued_ns + gaps.unknown_ns
    place = int(np.argmax(lengths))
    start, length, until = int(gaps.starts_ns[place]), int(lengths[place]), int(gaps.until_ns[place])
    parts: dict[TimePart, int] = {name: int(part[place]) for name, part in _host_parts(trace, gaps).items()}
    waits: TimePart = "synchronisation" if blocking(trace).holds([start])[0] else "host"
    parts[waits] = int(gaps.waited_ns[place]) - sum(parts.values())
    for name in ("call", "launch", "queued", "unknown"):
        parts[name] = int(getattr(gaps, f"{name}_ns")[place])
    cause = max(parts, key=lambda name: parts[name])
    call = int(gaps.call[place])
    moment = (until + start + length) // 2 if cause in {"call", "launch", "queued"} else (start + until) // 2
    after = np.searchsorted(pieces.start_ns, start + length)
    return TraceGap(
        start_s=start * NS,
        duration_s=length * NS,
        cause=cause,
        host=_stack(trace, calls, call, moment) if call >= 0 else (),
        then=trace.names[int(pieces.name[after])] if after < len(pieces) else "",
    )


def _stack(trace: Trace, calls: Calls, call: int, moment: int) -> tuple[str, ...]:
    """What the thread of a call was in at a time, outermost first; the call itself where it was that."""
    host = trace.host
    place = int(enclosing(trace, calls, host.thread[[call]], np.array([moment]))[0])
    names: list[str] = []
    while place >= 0:
        names.append(trace.names[int(host.name[place])])
        place = int(calls.parent[place])
    return tuple(reversed(names))


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
