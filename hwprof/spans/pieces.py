"""What does a device spend its time on? Pieces of one kind each: a GPU's kernels, the own time of a CPU's operators."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from hwprof.spans.collectives import ISSUES, KERNEL, LIBRARY, OPERATOR, PREPARES
from hwprof.spans.columns import DeviceEvents, DeviceKind, HostKind, Ints, Numbers, Trace
from hwprof.spans.intervals import Intervals, intersect, join, subtract, union
from hwprof.spans.marks import runs_hooks
from hwprof.spans.nesting import Mask, Places, at, by_name, named, nearest


class Kind(IntEnum):
    """What a piece does; the order is that in which one hides another."""

    COMPUTE = 0
    COMMUNICATION = 1
    COPY = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Pieces:
    """Columns of pieces by start.

    Attributes:
        start_ns, end_ns: since the first event of the trace.
        kind: a ``Kind``.
        name: place in the names of the trace.
        host: the call that launched the kernel (without one the operator that asked for it), or the operator itself;
            -1 if the trace has none.
        stream: of the kernel; of a CPU, the thread.
        collective: place of what a collective says of itself; -1 for none.
        size_bytes: of a copy, 0 where the trace does not say.
        counted: place of what a compiler says of a kernel's work; -1 for none.
        captured: place of the operator behind a kernel of a graph; -1 if unknown.
    """

    start_ns: Ints
    end_ns: Ints
    kind: NDArray[np.int8]
    name: Numbers
    host: Places
    stream: Numbers
    collective: Numbers
    size_bytes: Ints
    counted: Numbers
    captured: Numbers

    def __len__(self) -> int:
        return len(self.start_ns)

    def where(self, chosen: Mask) -> Pieces:
        """Only the chosen pieces; these themselves if they are all."""
        if chosen.all():
            return self
        return Pieces(**{name: getattr(self, name)[chosen] for name in self.__slots__})

    def of(self, *kinds: Kind) -> Intervals:
        """When pieces of these kinds run."""
        chosen = np.isin(self.kind, kinds)
        return union(self.start_ns[chosen], self.end_ns[chosen])


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Disjoint parts of some time: what hides behind computation counts as that, copies hide behind both."""

    compute: Intervals
    communication: Intervals
    copies: Intervals
    idle: Intervals


def split(pieces: Pieces, time: Intervals) -> Split:
    """What the device did in some time; neighbours in it may touch."""
    compute = intersect(pieces.of(Kind.COMPUTE), time)
    communication = subtract(intersect(pieces.of(Kind.COMMUNICATION), time), compute)
    busy = join(compute, communication)
    copies = subtract(intersect(pieces.of(Kind.COPY), time), busy)
    idle = subtract(time, join(busy, copies))
    return Split(compute=compute, communication=communication, copies=copies, idle=idle)


def gpu_pieces(trace: Trace, parent: Places, events: DeviceEvents) -> Pieces:
    """The kernels, copies and fills of a device, or of all.

    A kernel communicates by its own words, by its name, or by the call that it was launched in, whatever it is called.
    """
    host = _launches(trace, events)
    around = at(nearest(parent, named(trace, ISSUES.search)), host)
    said = at(trace.host.collective, around)
    collective = np.where(events.collective >= 0, events.collective, said)
    by_its_name = by_name(trace, KERNEL.search)[events.name]
    prepares = by_name(trace, PREPARES.search)[events.name]
    kind = np.zeros(len(events), dtype=np.int8)
    kind[(collective >= 0) | by_its_name | (around >= 0) & ~prepares] = Kind.COMMUNICATION
    kind[events.kind != DeviceKind.KERNEL] = Kind.COPY
    return Pieces(
        start_ns=events.start_ns,
        end_ns=events.end_ns,
        kind=kind,
        name=events.name,
        host=host,
        stream=events.stream,
        collective=collective,
        size_bytes=events.size_bytes,
        counted=events.counted,
        captured=events.captured,
    )


def _launches(trace: Trace, events: DeviceEvents) -> Places:
    """The call into the runtime with the same correlation id; that of a graph launch stands at all its kernels.

    Numbers begin at 1. Where a kernel or all calls have none, older releases for AMD link both by ``External id``;
    that is the operator's, where the call itself is not in the trace.
    """
    host = trace.host
    calls, operators = host.kind == HostKind.RUNTIME, host.kind == HostKind.OPERATOR
    found = _linked(host.correlation, calls & (host.correlation > 0), events.correlation)
    own = np.where(events.external == events.correlation, -1, events.external)
    for numbered in (calls & (host.correlation <= 0), operators):
        if (found < 0).any():
            found = np.where(found < 0, _linked(host.external, numbered & (host.external > 0), own), found)
    return found


def _linked(number: Numbers, numbered: Mask, wanted: Numbers) -> Places:
    """The place of the event that has each wanted number, among those that are numbered; -1 for none."""
    places = np.flatnonzero(numbered).astype(np.int32)
    if not len(places):
        return np.full(len(wanted), -1, dtype=np.int32)
    places = places[np.argsort(number[places], kind="stable")]
    known = number[places]
    place = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    return np.where(known[place] == wanted, places[place], np.int32(-1))


def cpu_pieces(trace: Trace, parent: Places, operators: Mask) -> Pieces:
    """The own time of some operators, and the spans of collectives on their threads.

    What the autograd engine does around an operator is none: hooks run there, and may wait.
    """
    host = trace.host
    is_call = communicates(trace)
    annotated = np.flatnonzero((host.kind == HostKind.ANNOTATION) & is_call)
    spans = (host.start_ns[annotated], host.end_ns[annotated], annotated)
    segments = [*own_segments(trace, parent, operators & ~named(trace, runs_hooks)), spans]
    start, end, place = (np.concatenate(column) for column in zip(*segments, strict=True))
    within_call = nearest(parent, is_call) >= 0
    kind = np.where(within_call[place], Kind.COMMUNICATION, Kind.COMPUTE).astype(np.int8)
    order = np.argsort(start, kind="stable")
    place = place[order]
    return Pieces(
        start_ns=start[order],
        end_ns=end[order],
        kind=kind[order],
        name=host.name[place],
        host=place,
        stream=host.thread[place],
        collective=host.collective[place],
        size_bytes=np.zeros(len(place), dtype=np.int64),
        counted=np.full(len(place), -1, dtype=np.int8),
        captured=np.full(len(place), -1, dtype=np.int8),
    )


def communicates(trace: Trace) -> Mask:
    """Which host events are collectives by their names."""
    return named(trace, lambda name: OPERATOR.match(name) or LIBRARY.match(name))


def own_segments(trace: Trace, parent: Places, chosen: Mask) -> Iterator[tuple[Ints, Ints, Places]]:
    """Start, end and event of every stretch in which a chosen event runs itself and no chosen event inside it does.

    They come in portions of whole calls, so that they need not all stand in memory.
    """
    above = at(nearest(parent, chosen), parent)
    ends = np.flatnonzero(chosen)[_PORTION::_PORTION].copy()
    outermost = np.flatnonzero(chosen & (above < 0)).astype(np.int32)
    cuts = np.unique(outermost[np.searchsorted(outermost, ends, side="right") - 1]).tolist()
    del outermost
    for low, high in itertools.pairwise([0, *(cut for cut in cuts if cut > 0), len(chosen)]):
        places = np.flatnonzero(chosen[low:high]).astype(np.int32) + np.int32(low)
        yield _segments(trace, places, above[places])


_PORTION = 1 << 16


def _segments(trace: Trace, places: Places, above: Places) -> tuple[Ints, Ints, Places]:
    """Before each of the events in a parent, back to the last one or to the parent's start; and after the last one."""
    start, end = trace.host.start_ns[places], trace.host.end_ns[places]
    inner = above >= 0
    parent = np.searchsorted(places, above[inner])
    child_end = np.minimum(end[inner], end[parent])
    family = np.lexsort((start[inner], parent))
    parent, child_start, child_end = parent[family], start[inner][family], child_end[family]
    opens = np.concatenate([[True], parent[1:] != parent[:-1]])[: len(parent)]
    before = np.where(opens, start[parent], np.concatenate([[0], child_end[:-1]])[: len(parent)])
    closes = np.concatenate([opens[1:], [True]])[: len(parent)]
    after = start.copy()
    after[parent[closes]] = child_end[closes]
    first, last = np.concatenate([before, after]), np.concatenate([child_start, end])
    place = np.concatenate([places[parent], places])
    long = last > first
    return first[long], last[long], place[long]
