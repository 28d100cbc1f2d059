"""Which rank keeps the others waiting, and with what? A collective ends for all at once: the last spends least in it.

All ranks of a group leave a collective together, so that a rank which is late to the next did more in between: what it
did more of than the others is the cause. No clocks are compared.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from hwprof.predict.ranks.lateness import Stay, cause_of, stands_out, waits_of
from hwprof.spans.columns import NS, Trace
from hwprof.spans.intervals import Intervals, intersect
from hwprof.spans.pieces import Split
from hwprof.specs.record.stragglers import LateCause, RankWait, Stragglers
from hwprof.trace.collectives import MESSAGES, Called
from hwprof.trace.gap_parts import loading
from hwprof.trace.windows import Windows


@dataclass(frozen=True, slots=True)
class Meeting:
    """One collective as one rank saw it; ``key`` and ``number`` are the same for all ranks in it.

    Attributes:
        time_ns: in it.
        members: the ranks of its group; empty if unknown.
        size: how many they are; 0 if unknown.
        before_ns: what the device did since the collective before it, by cause.
    """

    key: tuple[str, ...]
    number: int
    time_ns: int
    members: tuple[int, ...] = ()
    size: int = 0
    before_ns: Mapping[LateCause, int] = field(default_factory=dict)


def meetings(trace: Trace, called: Sequence[Called], parts: Split, steps: Windows | None) -> tuple[Meeting, ...]:
    """The collectives of one rank, each numbered among those of its kind that its step began, by their starts."""
    count: dict[tuple[str, ...], int] = defaultdict(int)
    asked = np.array([one.asked_ns if one.asked_ns >= 0 else one.start_ns for one in called], dtype=np.int64)
    step = np.searchsorted(steps.starts_ns, asked, side="right").tolist() if steps is not None else [0] * len(called)
    input_ = intersect(parts.idle, loading(trace))
    found, ended = [], -1
    for one, number in zip(called, step, strict=True):
        name = steps.names[number - 1] if steps is not None and number else ""
        key = (one.op, one.group, ",".join(map(str, one.members)), one.dtype, _size(one), name)
        before = _between(parts, input_, ended if ended >= 0 else one.start_ns, one.start_ns)
        ended = max(ended, one.end_ns)
        found.append(Meeting(key, count[key], one.end_ns - one.start_ns, one.members, one.ranks, before))
        count[key] += 1
    return tuple(found)


def _size(one: Called) -> str:
    """Tells groups without a name apart; ranks of an all-to-all may each have a size of their own."""
    return "" if one.group or one.op == "all_to_all" else str(one.size_bytes)


def _between(parts: Split, loads: Intervals, low: int, high: int) -> dict[LateCause, int]:
    if high <= low:
        return {}
    compute, copies, idle, input_ = (
        int(part.within([low], [high])[0]) for part in (parts.compute, parts.copies, parts.idle, loads)
    )
    return {"compute": compute, "copies": copies, "input": input_, "host": idle - input_}


def stragglers(ranks: Sequence[tuple[int, Sequence[Meeting]]], *, span_s: float) -> Stragglers | None:
    """Waiting by rank in the collectives whose ranks all recorded them; None with fewer than two ranks.

    Messages between two ranks are not matched: they are among the others.

    Args:
        ranks: each with its collectives.
        span_s: of the steps in which they were.
    """
    present = {rank for rank, _ in ranks}
    if len(present) < 2:
        return None
    met: dict[tuple[tuple[str, ...], int], dict[int, Meeting]] = defaultdict(dict)
    messages = 0
    for rank, each in ranks:
        for meeting in each:
            if meeting.key[0] in MESSAGES:
                messages += 1
            else:
                met[meeting.key, meeting.number][rank] = meeting
    whole = [each for each in met.values() if _is_whole(each, present)]
    shared = [{rank: _stay(meeting) for rank, meeting in each.items()} for each in whole]
    waits = waits_of(shared, present)
    named = stands_out(waits.caused_s, span_s)
    return Stragglers(
        collectives=len(shared),
        unmatched=len(met) - len(shared) + messages,
        transfer_s=waits.transfer_s,
        ranks=tuple(
            RankWait(
                rank=rank,
                waited_s=waited_s,
                caused_s=waits.caused_s[rank],
                last=waits.last[rank],
                cause=cause_of(waits.more_s[rank]) if rank == named else "",
            )
            for rank, waited_s in waits.waited_s.items()
        ),
        note="; ".join(_notes(len(shared), len(met), messages)),
    )


def _stay(meeting: Meeting) -> Stay:
    return Stay(meeting.time_ns * NS, {cause: time_ns * NS for cause, time_ns in meeting.before_ns.items()})


def _is_whole(met: Mapping[int, Meeting], present: set[int]) -> bool:
    """Whether all ranks of a collective's group, as far as their traces are given, recorded it."""
    one = next(iter(met.values()))
    if one.members:
        wanted = present.intersection(one.members)
        return len(wanted) > 1 and wanted <= met.keys()
    return len(met) == min(one.size or len(present), len(present)) > 1


def _notes(shared: int, met: int, messages: int) -> Iterator[str]:
    if not shared:
        yield "no collective is in the traces of all ranks"
    elif met - shared > shared:
        yield "most collectives are not in the traces of all ranks: do they cover the same steps?"
    if messages:
        yield f"{messages} messages between two ranks are among the others"
