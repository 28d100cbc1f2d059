"""What was each gap of a device? Its time by cause, each by what the trace shows of the host meanwhile."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from hwprof.spans.columns import HostKind, Ints, Trace
from hwprof.spans.idle import Gaps
from hwprof.spans.intervals import Intervals, join, subtract, union
from hwprof.spans.marks import COLLECTS, GRAPH_LAUNCH, LOADER, LOCKS
from hwprof.spans.nesting import Mask, Places, at, named, nearest
from hwprof.spans.pieces import Pieces
from hwprof.specs.record.trace import TimePart
from hwprof.trace.calls import Calls

_VENDORS = ("cuda", "hip")
_COPIES = frozenset(
    vendor + call for vendor in _VENDORS for call in ("Memcpy", "Memcpy2D", "MemcpyToSymbol", "MemcpyWithStream")
)
"""Copies that return when they are done; one to pageable memory waits in a stream synchronisation."""
BLOCKING = _COPIES | {
    vendor + call for vendor in _VENDORS for call in ("StreamSynchronize", "DeviceSynchronize", "EventSynchronize")
}
"""Calls that return when the device has finished."""
_COPIES_INSIDE = re.compile(r"aten::(copy_|_to_copy|_local_scalar_dense|nonzero)$")
"""Operators whose synchronisations wait for a copy to the host, or from its pageable memory."""
_ALLOCATES = re.compile(r"(cuda|hip|cu)(Host)?(Malloc|Alloc|Free|MemAlloc|MemFree|MemCreate|MemMap|MemRelease)")
"""Calls in which the driver finds or returns memory; those of a stream's own pool (``Async``) are none."""
_LOADS_CODE = re.compile(r"(cuda|hip|cu)(Module|Library)\w*Load|cuLibraryGetKernel")
_COMPILES = re.compile(
    r"compile_inner|entire_frame_compile|backend_compile|compile_fx|inductor_codegen|dynamo_timed|async_compile|"
    r"aot_dispatcher|compile_to_module|GraphLowering|benchmark_all_configs"
)
"""What dynamo and inductor call their work in a trace (torch._dynamo.utils.dynamo_timed)."""

Parts = dict[TimePart, Ints]
"""Time of each gap by cause; the causes of a gap add up to it."""


def gap_parts(trace: Trace, calls: Calls, gaps: Gaps, pieces: Pieces) -> Parts:
    """Every gap's time by cause."""
    parts = dict(_of_host(trace, gaps))
    rest = gaps.waited_ns - sum(parts.values())
    after_copy, after_wait = _after_waiting(trace, calls, gaps)
    graph, within = _graphs(trace, gaps, pieces)
    locked = np.where(graph, 0, np.minimum(_behind_others(trace, gaps), gaps.call_ns))
    parts["lock"] += locked
    none = np.zeros_like(rest)
    return parts | {
        "blocking_copy": np.where(after_copy, rest, none),
        "synchronisation": np.where(after_wait & ~after_copy, rest, none),
        "host": np.where(after_wait, none, rest),
        "call": np.where(graph, none, gaps.call_ns - locked),
        "launch": np.where(graph, none, gaps.launch_ns),
        "graph": np.where(graph, gaps.call_ns + gaps.launch_ns, none) + np.where(within, gaps.queued_ns, none),
        "queued": np.where(within, none, gaps.queued_ns),
        "unknown": gaps.unknown_ns,
    }


def _of_host(trace: Trace, gaps: Gaps) -> Iterator[tuple[TimePart, Ints]]:
    """What of each gap's waiting for the host has a cause of its own; what stands first goes before."""
    taken = loading(trace)
    yield "input", taken.within(gaps.starts_ns, gaps.until_ns)
    causes: tuple[tuple[TimePart, Mask], ...] = (
        ("recompilation", named(trace, _COMPILES.search)),
        ("allocation", named(trace, _allocates)),
        ("garbage_collection", named(trace, COLLECTS.match)),
    )
    for part, chosen in causes:
        spans = spans_of(trace, chosen)
        yield part, subtract(spans, taken).within(gaps.starts_ns, gaps.until_ns)
        taken = join(taken, spans)
    yield "lock", _locks(trace, gaps, taken)


def _allocates(name: str) -> bool:
    return _ALLOCATES.match(name) is not None and not name.endswith("Async")


def _locks(trace: Trace, gaps: Gaps, taken: Intervals) -> Ints:
    """How long the thread of each gap's next call waited for a lock: those of other threads hold nothing up."""
    found = np.zeros(len(gaps.starts_ns), dtype=np.int64)
    waits = named(trace, LOCKS.match)
    threads = at(trace.host.thread, gaps.call)
    for thread in np.unique(trace.host.thread[waits]).tolist():
        mine = threads == thread
        spans = subtract(spans_of(trace, waits & (trace.host.thread == thread)), taken)
        found[mine] = spans.within(gaps.starts_ns[mine], gaps.until_ns[mine])
    return found


def _behind_others(trace: Trace, gaps: Gaps) -> Ints:
    """For how long of each long call another thread was in the driver, for memory or to load code: it has one lock."""
    found = np.zeros(len(gaps.starts_ns), dtype=np.int64)
    holds = (trace.host.kind == HostKind.RUNTIME) & named(
        trace, lambda name: _allocates(name) or _LOADS_CODE.match(name)
    )
    long = gaps.call_ns > 0
    threads = at(trace.host.thread, gaps.call)
    for thread in np.unique(threads[long]).tolist():
        mine = long & (threads == thread)
        spans = spans_of(trace, holds & (trace.host.thread != thread))
        found[mine] = spans.within(gaps.until_ns[mine], gaps.until_ns[mine] + gaps.call_ns[mine])
    return found


def _after_waiting(trace: Trace, calls: Calls, gaps: Gaps) -> tuple[Mask, Mask]:
    """Which gaps began while the host waited for a copy, and which while it waited for the device at all."""
    waits = named(trace, BLOCKING.__contains__)
    operator = nearest(calls.parent, trace.host.kind == HostKind.OPERATOR)
    in_copy = np.append(named(trace, _COPIES_INSIDE.match), [False])[operator]  # -1 is the last
    copies = waits & (in_copy | named(trace, _COPIES.__contains__))
    return spans_of(trace, copies).holds(gaps.starts_ns), spans_of(trace, waits).holds(gaps.starts_ns)


def _graphs(trace: Trace, gaps: Gaps, pieces: Pieces) -> tuple[Mask, Mask]:
    """Which gaps end with a kernel of a graph, and which lie between two kernels of one launch of it."""
    is_graph = np.append(named(trace, lambda name: GRAPH_LAUNCH in name), [False])[gaps.call]
    by_end: Places = np.argsort(pieces.end_ns, kind="stable").astype(np.int32)
    place = np.searchsorted(pieces.end_ns[by_end], gaps.starts_ns, side="right") - 1
    before = np.where(place >= 0, pieces.host[by_end[np.maximum(place, 0)]], np.int32(-1))
    return is_graph, is_graph & (before == gaps.call)


def loading(trace: Trace) -> Intervals:
    """When the program waited for its next batch."""
    return spans_of(trace, named(trace, LOADER.match))


def blocking(trace: Trace) -> Intervals:
    """When the host waited for the device to finish."""
    return spans_of(trace, named(trace, BLOCKING.__contains__))


def spans_of(trace: Trace, chosen: Mask) -> Intervals:
    """When any of the chosen host events ran."""
    return union(trace.host.start_ns[chosen], trace.host.end_ns[chosen])
