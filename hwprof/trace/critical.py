"""Which chain of work decides when the last step ends? Found backwards: what had each piece waited for?

From the end of the last piece. A kernel that was launched after the device had finished everything else waited for the
host; else it waited for the piece that finished last before it, on its own stream if that ended with its start. The
host is followed back to the last call in which it waited for the device, and from there to the kernel it waited for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from hwprof.spans.columns import NS, HostKind, Ints, Trace
from hwprof.spans.intervals import Intervals, subtract, union
from hwprof.spans.nesting import Places, at
from hwprof.spans.pieces import Kind, Pieces, own_segments
from hwprof.specs.distinct import distinct
from hwprof.specs.record.trace import PathKind, TracePath, TracePathItem, TracePathPart
from hwprof.trace.calls import DIRECTIONS, OTHER, Calls
from hwprof.trace.gap_parts import blocking, loading
from hwprof.trace.idle import OUTSIDE
from hwprof.trace.windows import Windows

_KINDS: tuple[PathKind, ...] = ("compute", "communication", "copy")
CLOSE_NS = 2_000
"""A kernel whose own stream finished this shortly before it waited for that; streams hand over in about 1 µs."""
MOST_ITEMS = 30


@dataclass(slots=True)
class _Tally:
    """Time by kind and name along the path, and when the host is on it. Mutable: it grows while the path is walked."""

    times_ns: dict[tuple[PathKind, str], list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0]))
    host_starts: list[int] = field(default_factory=list)
    host_ends: list[int] = field(default_factory=list)

    def add(self, kind: PathKind, name: str, time_ns: int) -> None:
        if time_ns > 0:
            entry = self.times_ns[kind, name]
            entry[0] += time_ns
            entry[1] += 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Course:
    """What the walk looks up; ``called`` is -1 where a piece has no launch.

    Attributes:
        pieces: what ran.
        texts, text: the names of the pieces, and which of them each has.
        called: start of each piece's launch call.
        before: the piece before each one on its stream.
        by_end: pieces in order of their ends, which are ``ends_in_order``.
        waits, loads: when the host waited for the device, and for its next batch.
        gap_kind: what the time between pieces without a launch is.
    """

    pieces: Pieces
    texts: list[str]
    text: Places
    called: Ints
    before: Places
    by_end: Places
    ends_in_order: Ints
    waits: Intervals
    loads: Intervals
    gap_kind: PathKind

    def finished(self, time_ns: int) -> int:
        """The piece that ended last until a time; -1 for none."""
        place = int(np.searchsorted(self.ends_in_order, time_ns, side="right")) - 1
        return int(self.by_end[place]) if place >= 0 else -1

    def end(self, piece: int) -> int:
        """When a piece ended; -1 for none."""
        return int(self.pieces.end_ns[piece]) if piece >= 0 else -1

    def name(self, piece: int) -> str:
        """What a piece is called."""
        return self.texts[int(self.text[piece])]


def critical_path(trace: Trace, calls: Calls, pieces: Pieces, windows: Windows) -> TracePath | None:
    """The path from the start of the first step to the end of the last; None where nothing ran."""
    pieces = pieces.where(pieces.end_ns > pieces.start_ns)
    if not len(pieces):
        return None
    course = _course(trace, calls, pieces)
    first, last = int(windows.starts_ns[0]), int(windows.ends_ns[-1])
    tally = _Tally()
    piece = course.finished(last)
    now = max(course.end(piece), first)
    _wait(course, tally, now, last)
    while now > first and piece >= 0:
        start = max(int(pieces.start_ns[piece]), first)
        tally.add(_KINDS[pieces.kind[piece]], course.name(piece), now - start)
        piece, now = _before(course, tally, piece, start, first)
    spans = subtract(union(tally.host_starts, tally.host_ends), course.loads)
    del course
    host_items = tuple(_host_items(trace, calls, spans))
    return _path(tally, host_items, last - first)


def _before(course: _Course, tally: _Tally, piece: int, now: int, first: int) -> tuple[int, int]:
    """What a piece that starts now had waited for, and when that ended; the wait between is booked."""
    name = course.name(piece)
    earlier = course.finished(now)
    same = int(course.before[piece])
    if now - CLOSE_NS <= course.end(same) <= now:
        earlier = same
    ended = max(course.end(earlier), first)
    called = int(course.called[piece])
    if called < ended:
        if called < 0:
            _wait(course, tally, ended, now)
        else:
            tally.add("queued", name, now - ended)
        return earlier, ended
    called = min(called, now)
    tally.add("launch", name, now - called)
    return _before_host(course, tally, called, first)


def _before_host(course: _Course, tally: _Tally, now: int, first: int) -> tuple[int, int]:
    """The piece that the host last waited for, and its end; the host's own time since then is booked."""
    place = int(np.searchsorted(course.waits.ends, now, side="right")) - 1
    while place >= 0 and course.waits.ends[place] > first:
        start, end = int(course.waits.starts[place]), int(course.waits.ends[place])
        piece = course.finished(end)
        if course.end(piece) > start:
            ended = max(course.end(piece), first)
            _host(course, tally, end, now)
            tally.add("synchronisation", "", end - ended)
            return piece, ended
        place -= 1
    _host(course, tally, first, now)
    return -1, first


def _wait(course: _Course, tally: _Tally, start: int, end: int) -> None:
    """Time between pieces for which the trace has no launch: a CPU's own program, or unknown."""
    if course.gap_kind == "host":
        _host(course, tally, start, end)
    else:
        tally.add(course.gap_kind, "", end - start)


def _host(course: _Course, tally: _Tally, start: int, end: int) -> None:
    if end > start:
        loaded = int(course.loads.within(start, end))
        tally.add("input", "next batch", loaded)
        tally.add("host", "", end - start - loaded)
        tally.host_starts.append(start)
        tally.host_ends.append(end)


def _host_items(trace: Trace, calls: Calls, spans: Intervals) -> Iterator[TracePathItem]:
    """What the host did on the path: operators with the calls in them, and Python between them."""
    host = trace.host
    works = (host.kind == HostKind.OPERATOR) | (host.kind == HostKind.RUNTIME)
    totals: dict[tuple[int, int, int], list[float]] = defaultdict(lambda: [0.0, 0])
    rest = spans
    for start, end, place in own_segments(trace, calls.parent, works) if len(spans) else ():
        inside = spans.within(start, end)
        owner = np.where(calls.owner[place] >= 0, calls.owner[place], place)
        columns = (host.name[owner], calls.label[place], calls.direction[place])
        first, group = distinct(*columns)
        times = np.bincount(group, weights=inside).tolist()
        counts = np.bincount(group, weights=inside > 0).tolist()
        for row, time_ns, count in zip(first.tolist(), times, counts, strict=True):
            total = totals[int(columns[0][row]), int(columns[1][row]), int(columns[2][row])]
            total[0] += time_ns
            total[1] += count
        rest = subtract(rest, union(start, end))
    for key, (time_ns, count) in totals.items():
        if time_ns > 0:
            yield TracePathItem(kind="host", name=_name(trace, calls, *key), time_s=time_ns * NS, times=int(count))
    if len(rest):
        yield TracePathItem(kind="host", name=OUTSIDE, time_s=rest.length * NS, times=len(rest))


def _course(trace: Trace, calls: Calls, pieces: Pieces) -> _Course:
    texts, text = _names(trace, calls, pieces)
    on_gpu = len(trace.device) > 0
    by_end = np.argsort(pieces.end_ns, kind="stable").astype(np.int32)
    return _Course(
        pieces=pieces,
        texts=texts,
        text=text,
        called=at(trace.host.start_ns, pieces.host) if on_gpu else np.full(len(pieces), -1, dtype=np.int64),
        before=_before_on_stream(pieces),
        by_end=by_end,
        ends_in_order=pieces.end_ns[by_end],
        waits=blocking(trace),
        loads=loading(trace),
        gap_kind="idle" if on_gpu else "host",
    )


def _before_on_stream(pieces: Pieces) -> Places:
    """The piece before each one on its stream; pieces are ordered by start already."""
    by_stream = np.argsort(pieces.stream, kind="stable").astype(np.int32)
    stream = pieces.stream[by_stream]
    before = np.full(len(pieces), -1, dtype=np.int32)
    before[by_stream[1:]] = np.where(stream[1:] == stream[:-1], by_stream[:-1], np.int32(-1))
    return before


def _names(trace: Trace, calls: Calls, pieces: Pieces) -> tuple[list[str], Places]:
    """Module and operator of each piece; the kernel where they are not known, or where it is no computation."""
    owner = at(calls.owner, pieces.host)
    owner[pieces.kind != Kind.COMPUTE] = -1
    direction = at(calls.direction, owner)
    direction[owner < 0] = OTHER
    columns = (
        np.where(owner >= 0, at(trace.host.name, owner), pieces.name),
        np.maximum(at(calls.label, owner), 0),
        direction,
    )
    first, group = distinct(*columns)
    return [_name(trace, calls, *(int(column[row]) for column in columns)) for row in first.tolist()], group


def _name(trace: Trace, calls: Calls, name: int, label: int, direction: int) -> str:
    words = (calls.labels[label], trace.names[name], DIRECTIONS[direction] if direction != OTHER else "")
    return " ".join(word for word in words if word)


def _path(tally: _Tally, host_items: Sequence[TracePathItem], span_ns: int) -> TracePath:
    by_kind: dict[PathKind, int] = defaultdict(int)
    for (kind, _), (time_ns, _) in tally.times_ns.items():
        by_kind[kind] += time_ns
    items = [
        TracePathItem(kind=kind, name=name, time_s=time_ns * NS, times=times)
        for (kind, name), (time_ns, times) in tally.times_ns.items()
        if kind != "host"
    ]
    items += host_items
    return TracePath(
        span_s=span_ns * NS,
        parts=tuple(
            TracePathPart(kind=kind, time_s=time_ns * NS, share=time_ns / span_ns)
            for kind, time_ns in sorted(by_kind.items(), key=lambda part: -part[1])
        ),
        items=tuple(sorted(items, key=lambda item: (-item.time_s, item.name))[:MOST_ITEMS]),
    )
