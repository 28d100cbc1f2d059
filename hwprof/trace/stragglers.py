"""Which rank keeps the others waiting? A collective ends for all at once: who spends least time in it came last."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hwprof.spans.collectives import LIBRARY
from hwprof.spans.columns import NS, Trace
from hwprof.spans.pieces import Kind, Pieces
from hwprof.specs.record.trace import RankWait, Stragglers

_POINT_TO_POINT = ("send", "recv")


@dataclass(frozen=True, slots=True)
class Meeting:
    """One collective as one rank saw it; ``key`` and ``number`` are the same for all ranks in it."""

    key: tuple[str, ...]
    number: int
    time_ns: int


def meetings(trace: Trace, pieces: Pieces) -> tuple[Meeting, ...]:
    """The collectives of one rank, each numbered among those of its kind in the order of their starts.

    On a CPU they are the annotations of the library; the operators around them only issue them.
    """
    count: dict[tuple[str, ...], int] = defaultdict(int)
    keys: dict[tuple[int, int], tuple[str, ...]] = {}
    found = []
    chosen = pieces.where(pieces.kind == Kind.COMMUNICATION)
    columns = (chosen.name, chosen.start_ns, chosen.end_ns, chosen.collective)
    for name, start, end, place in zip(*(column.tolist() for column in columns), strict=True):
        if not len(trace.device) and not LIBRARY.match(trace.names[name]):
            continue
        if (name, place) not in keys:
            keys[name, place] = _key(trace, name, place)
        key = keys[name, place]
        found.append(Meeting(key, count[key], end - start))
        count[key] += 1
    return tuple(found)


def _key(trace: Trace, name: int, place: int) -> tuple[str, ...]:
    if place < 0:
        return (trace.names[name],)
    said = trace.collectives[place]
    return (said.name, said.group, said.dtype, str(said.elements))


def stragglers(ranks: Sequence[tuple[int, Sequence[Meeting]]]) -> Stragglers | None:
    """Waiting by rank in the collectives that all ranks recorded; None with fewer than two ranks."""
    if len({rank for rank, _ in ranks}) < 2:
        return None
    times: dict[tuple[tuple[str, ...], int], dict[int, int]] = defaultdict(dict)
    for rank, met in ranks:
        for meeting in met:
            if not any(word in meeting.key[0].lower() for word in _POINT_TO_POINT):
                times[meeting.key, meeting.number][rank] = meeting.time_ns
    shared = [each for each in times.values() if len(each) == len(ranks)]
    waited: dict[int, int] = dict.fromkeys((rank for rank, _ in ranks), 0)
    caused, last = dict(waited), dict(waited)
    for each in shared:
        least_ns = min(each.values())
        slowest = min(each, key=lambda rank: each[rank])
        last[slowest] += 1
        for rank, time_ns in each.items():
            waited[rank] += time_ns - least_ns
            caused[slowest] += time_ns - least_ns
    return Stragglers(
        collectives=len(shared),
        unmatched=len(times) - len(shared),
        transfer_s=sum(min(each.values()) for each in shared) * NS,
        ranks=tuple(
            RankWait(rank=rank, waited_s=waited[rank] * NS, caused_s=caused[rank] * NS, last=last[rank])
            for rank in sorted(waited)
        ),
        note="; ".join(_notes(len(shared), len(times))),
    )


def _notes(shared: int, met: int) -> Iterator[str]:
    if not shared:
        yield "no collective is in the traces of all ranks"
    elif met - shared > shared:
        yield "most collectives are not in the traces of all ranks: do they cover the same steps?"
