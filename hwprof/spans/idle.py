"""Why does a device do nothing between two pieces of work? Late calls, queued work that waits, the launch itself.

A gap ends with a piece. Until the host called for it, the device waited for the host. If the call came before the gap,
the piece stood in its queue and waited for something else (another stream, another rank, many short kernels before
it). What lies between a late call and the start is the launch, but for time in which the thread that called was inside
one long call.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hwprof.spans.columns import HostKind, Ints, Trace
from hwprof.spans.intervals import Intervals, union
from hwprof.spans.nesting import Places, at, named
from hwprof.spans.pieces import Pieces


@dataclass(frozen=True, slots=True, kw_only=True)
class Gaps:
    """Idle time by gap, and each gap's by cause.

    Attributes:
        starts_ns: of each gap.
        until_ns: end of the part in which the host had not called yet; equal to ``starts_ns`` where it had.
        call: the call for the next piece; -1 where the trace has none.
        waited_ns: until the host called, all of a gap that no piece ends.
        call_ns: between a late call and the start of its piece, while its thread was inside a long call.
        launch_ns: the rest of that.
        queued_ns: before a piece that had been called for.
        unknown_ns: before a piece for which the trace has no call.
    """

    starts_ns: Ints
    until_ns: Ints
    call: Places
    waited_ns: Ints
    call_ns: Ints
    launch_ns: Ints
    queued_ns: Ints
    unknown_ns: Ints


LONG_CALL_NS = 1_000_000
"""A call into the runtime that takes longer does something beside starting work: it loads code, allocates, waits."""


def _in_long_calls(trace: Trace, call: Places, starts_ns: Ints, ends_ns: Ints) -> Ints:
    """How much of each window the thread of its call spent in long calls; other threads hold up nothing."""
    host = trace.host
    waits = named(trace, lambda name: name.endswith("Synchronize"))  # for what was launched, whenever that starts
    long = (host.kind == HostKind.RUNTIME) & (host.end_ns - host.start_ns > LONG_CALL_NS) & ~waits
    found, threads = np.zeros(len(call), dtype=np.int64), at(host.thread, call)
    for thread in np.unique(host.thread[long]).tolist():
        mine, own = threads == thread, long & (host.thread == thread)
        found[mine] = union(host.start_ns[own], host.end_ns[own]).within(starts_ns[mine], ends_ns[mine])
    return found


def gaps_of(trace: Trace, pieces: Pieces, idle: Intervals) -> Gaps:
    """The gaps, each with the first piece that starts at its end or later.

    Args:
        trace: which has the calls.
        pieces: of the device, by start.
        idle: when the device did nothing.
    """
    place = np.searchsorted(pieces.start_ns, idle.ends)
    call = np.append(pieces.host, np.int32(-1))[place]
    called = np.where(call >= 0, np.clip(at(trace.host.start_ns, call), idle.starts, idle.ends), idle.starts)
    until = np.where(place == len(pieces), idle.ends, called)
    waited, rest = until - idle.starts, idle.ends - until
    late = (call >= 0) & (waited > 0)
    inside = np.where(late, _in_long_calls(trace, call, until, idle.ends), 0)
    return Gaps(
        starts_ns=idle.starts,
        until_ns=until,
        call=call,
        waited_ns=waited,
        call_ns=inside,
        launch_ns=np.where(late, rest - inside, 0),
        queued_ns=np.where((call >= 0) & (waited == 0), rest, 0),
        unknown_ns=np.where(call < 0, rest, 0),
    )
