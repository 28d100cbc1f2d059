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
from hwprof.spans.nesting import Mask, Places, at
from hwprof.spans.pieces import Pieces


@dataclass(frozen=True, slots=True, kw_only=True)
class Gaps:
    """Idle time by gap.

    Attributes:
        starts_ns, ends_ns: of each gap.
        until_ns: end of the part in which the host had not called yet; equal to ``starts_ns`` where it had.
        launch: the call for the next piece; -1 where the trace has none.
        last: where no piece follows, so that the whole gap is the host's.
    """

    starts_ns: Ints
    ends_ns: Ints
    until_ns: Ints
    launch: Places
    last: Mask

    @property
    def waited_ns(self) -> Ints:
        """How long the device waited for the host to call."""
        return self.until_ns - self.starts_ns

    @property
    def launch_ns(self) -> Ints:
        """Between late calls and the next pieces."""
        return np.where(self.waited_ns > 0, self.ends_ns - self.until_ns, 0)

    @property
    def queued_ns(self) -> Ints:
        """Gaps before pieces that were called for before."""
        return np.where((self.launch >= 0) & (self.waited_ns == 0), self.ends_ns - self.starts_ns, 0)

    @property
    def unknown_ns(self) -> Ints:
        """Gaps before pieces for which the trace has no call."""
        return np.where((self.launch < 0) & ~self.last, self.ends_ns - self.starts_ns, 0)


def gaps_of(trace: Trace, pieces: Pieces, idle: Intervals) -> Gaps:
    """The gaps, each with the first piece that starts at its end or later.

    Args:
        trace: which has the calls.
        pieces: of the device, by start.
        idle: when the device did nothing.
    """
    place = np.searchsorted(pieces.start_ns, idle.ends)
    last = place == len(pieces)
    launch = np.append(pieces.host, np.int32(-1))[place]
    called = np.clip(at(trace.host.start_ns, launch), idle.starts, idle.ends)
    until = np.where(last, idle.ends, np.where(launch >= 0, called, idle.starts))
    return Gaps(starts_ns=idle.starts, ends_ns=idle.ends, until_ns=until, launch=launch, last=last)
