"""Why does a device do nothing between two pieces of work? Late calls, queued work that waits, the launch itself.

A gap ends with a piece. Until the host called for it, the device waited for the host. If the call came before the gap,
the piece stood in its queue and waited for something else (another stream, another rank, many short kernels before
it). What lies between a late call and the start is the launch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hwprof.spans.columns import Ints, Trace
from hwprof.spans.intervals import Intervals
from hwprof.spans.nesting import Places, at
from hwprof.spans.pieces import Pieces


@dataclass(frozen=True, slots=True, kw_only=True)
class Gaps:
    """Idle time by gap, and each gap's by cause.

    Attributes:
        starts_ns: of each gap.
        until_ns: end of the part in which the host had not called yet; equal to ``starts_ns`` where it had.
        call: the call for the next piece; -1 where the trace has none.
        waited_ns: until the host called, all of a gap that no piece ends.
        launch_ns: between a late call and the start of its piece.
        queued_ns: before a piece that had been called for.
        unknown_ns: before a piece for which the trace has no call.
    """

    starts_ns: Ints
    until_ns: Ints
    call: Places
    waited_ns: Ints
    launch_ns: Ints
    queued_ns: Ints
    unknown_ns: Ints


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
    return Gaps(
        starts_ns=idle.starts,
        until_ns=until,
        call=call,
        waited_ns=waited,
        launch_ns=np.where((call >= 0) & (waited > 0), rest, 0),
        queued_ns=np.where((call >= 0) & (waited == 0), rest, 0),
        unknown_ns=np.where(call < 0, rest, 0),
    )
