"""What of an emulated step is worth a row? Calls, collectives and phases of one rank, each with its time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from hwprof.count.aten.registry import aten_cost
from hwprof.emulate.answer import Emulation
from hwprof.emulate.tape import KERNEL, PHASES, Phase
from hwprof.spans.intervals import union


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRow:
    """Calls of one operator from one line.

    Attributes:
        name, line: which.
        count: in a step.
        time_s: of all, each for itself.
        flop, moved_bytes: of all.
        assumed: whether nobody measured what their price rests on.
    """

    name: str
    line: str
    count: int
    time_s: float
    flop: float
    moved_bytes: float
    assumed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ExposedRow:
    """Collectives of one kind for one module, in one phase.

    Attributes:
        op, ranks, size_bytes, place, phase: which.
        count: in a step.
        duration_s: of all.
        exposed_s: the part in which no kernel runs.
    """

    op: str
    ranks: int
    size_bytes: int
    place: str
    phase: Phase
    count: int
    duration_s: float
    exposed_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseRow:
    """A phase of a step: what was asked for in it.

    Attributes:
        phase: which.
        kernels: how many.
        busy_s: time in which one of them runs.
        messages_s: time in which a collective of it is under way.
        exposed_s: the part of that in which no kernel runs.
    """

    phase: Phase
    kernels: int
    busy_s: float
    messages_s: float
    exposed_s: float


def call_rows(found: Emulation) -> list[CallRow]:
    """Operators by their lines, those first that take most."""
    recording, prices = found.recording, found.prices
    sums: dict[tuple[str, str, bool], list[float]] = defaultdict(lambda: [0.0] * 4)
    for place, times in recording.count(KERNEL).items():
        call, seconds = recording.calls[place], float(prices.device_s[place])
        if call.call is None or not seconds:
            continue
        row = sums[call.name, call.line, bool(prices.assumed[place])]
        moved_bytes = max(aten_cost(call.call).moved_bytes - call.spared_bytes, 0.0)
        for column, value in enumerate((1, seconds, call.flop, moved_bytes)):
            row[column] += times * value
    rows = [
        CallRow(
            name=name, line=line, count=int(count), time_s=time_s, flop=flop, moved_bytes=moved_bytes, assumed=assumed
        )
        for (name, line, assumed), (count, time_s, flop, moved_bytes) in sums.items()
    ]
    return sorted(rows, key=lambda row: -row.time_s)


def exposed_rows(found: Emulation) -> list[ExposedRow]:
    """Collectives by module and phase, those first that nothing hides longest."""
    messages = found.played.messages
    sums: dict[tuple[int, int], list[float]] = defaultdict(lambda: [0, 0.0, 0.0])
    for kind, phase, start_s, end_s, bare_s in zip(
        messages.kinds, messages.phases, messages.starts, messages.ends, found.played.bare_s, strict=True
    ):
        row = sums[kind, phase]
        row[0] += 1
        row[1] += end_s - start_s
        row[2] += bare_s
    rows = list(_exposed(found, sums))
    return sorted(rows, key=lambda row: -row.exposed_s)


def _exposed(found: Emulation, sums: dict[tuple[int, int], list[float]]) -> Iterator[ExposedRow]:
    for (kind, phase), (count, duration_s, exposed_s) in sums.items():
        one = found.recording.collectives[kind]
        yield ExposedRow(
            op=one.op,
            ranks=2 if one.peer >= 0 else len(one.ranks),
            size_bytes=one.size_bytes,
            place=one.place,
            phase=PHASES[phase],
            count=int(count),
            duration_s=duration_s,
            exposed_s=exposed_s,
        )


def phase_rows(found: Emulation) -> list[PhaseRow]:
    """The phases of a step in their order."""
    kernels, messages = found.played.kernels, found.played.messages
    columns = [(np.array(each.starts), np.array(each.ends), np.array(each.phases)) for each in (kernels, messages)]
    bare_s = np.array(found.played.bare_s)
    rows = []
    for number, phase in enumerate(PHASES):
        (busy, count), (sent, _) = (
            (union(starts[phases == number], ends[phases == number]).length, int((phases == number).sum()))
            for starts, ends, phases in columns
        )
        exposed_s = float(bare_s[columns[1][2] == number].sum()) if len(bare_s) else 0.0
        rows.append(PhaseRow(phase=phase, kernels=count, busy_s=busy, messages_s=sent, exposed_s=exposed_s))
    return rows
