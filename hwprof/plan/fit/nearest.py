"""On what does a fine-tuning work, and what would have to change so that it works here?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, islice
from typing import Any

from hwprof.count.blocks.parameters import parameters
from hwprof.plan.fit.question import Adaptation, FitQuestion
from hwprof.plan.fit.rows import FitRow, Room, memory_row
from hwprof.specs.catalogue.simulator import SimulatorParameters
from hwprof.specs.model.spec import ModelSpec

COUNTS = (1, 2, 4, 8)
"""Devices of one host that may hold a model together."""

MOST_CHANGES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Smallest:
    """On what a way works, at the smallest batch and length that were asked for.

    Attributes:
        adaptation: the way.
        devices: how many of a device it takes; 0 = more than one host has.
        row: what each of them needs.
        rooms: devices that have as much, least memory first.
    """

    adaptation: Adaptation
    devices: int
    row: FitRow
    rooms: tuple[Room, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trainable:
    """The largest models that a way trains on one device.

    Attributes:
        adaptation: the way.
        models: their parameters and what they need, largest first; empty = none of the catalogue.
    """

    adaptation: Adaptation
    models: tuple[tuple[ModelSpec, FitRow], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What makes it fit.

    Attributes:
        words: the changes, as they are typed.
        row: what it then needs.
    """

    words: tuple[str, ...]
    row: FitRow


def smallest_of(question: FitQuestion, rooms: Sequence[Room], table: SimulatorParameters) -> tuple[Smallest, ...]:
    """For each way the fewest devices that hold it, and which have room enough even at the interval's upper end."""
    return tuple(_smallest(question, adaptation, rooms, table) for adaptation in question.adaptations)


def _smallest(
    question: FitQuestion, adaptation: Adaptation, rooms: Sequence[Room], table: SimulatorParameters
) -> Smallest:
    batch, length, row = min(question.batches), min(question.lengths), None
    endless = Room(name="", capacity_bytes=float("inf"))
    for count in sorted({question.devices, *(each for each in COUNTS if each > question.devices)}):
        row = memory_row(replace(question, devices=count), endless, table, (adaptation, batch, length))
        able = [room for room in rooms if row.device_interval_bytes[1] <= room.capacity_bytes]
        if able:
            able.sort(key=lambda room: room.capacity_bytes)
            return Smallest(adaptation=adaptation, devices=count, row=row, rooms=tuple(able))
    assert row is not None
    return Smallest(adaptation=adaptation, devices=0, row=row, rooms=())


def trainable_of(
    question: FitQuestion, models: Sequence[ModelSpec], room: Room, table: SimulatorParameters
) -> tuple[Trainable, ...]:
    """For each way the largest of the models that surely fit, at the smallest batch and length that were asked for."""
    sized = sorted(((parameters(model).total, model) for model in models), key=lambda pair: -pair[0])
    return tuple(
        Trainable(adaptation=way, models=tuple(islice(_trainable(question, way, sized, room, table), LARGEST)))
        for way in question.adaptations
    )


LARGEST = 4
"""Models that are named for a way."""

_LEAST_BYTES: dict[Adaptation, float] = {"full": 2, "full-8bit": 2, "lora": 2, "qlora": 0.5}
"""Of each parameter, sharded or not: what stands in a device's memory is never less."""


def _trainable(
    question: FitQuestion,
    way: Adaptation,
    sized: Sequence[tuple[int, ModelSpec]],
    room: Room,
    table: SimulatorParameters,
) -> Iterator[tuple[ModelSpec, FitRow]]:
    batch, length = min(question.batches), min(question.lengths)
    for total, model in sized:
        if total * _LEAST_BYTES[way] > room.capacity_bytes * question.devices or model.max_seq_len < length:
            continue
        row = memory_row(replace(question, model=model), room, table, (way, batch, length))
        if row.verdict == "fits":
            yield model, row


def nearest_change(question: FitQuestion, room: Room, table: SimulatorParameters) -> Change | None:
    """The fewest changes with which something fits; None = none of those that are tried.

    They are tried in the order in which they cost least: first what only takes time, then another way, then hardware.
    """
    batch, length = min(question.batches), min(question.lengths)
    options = [*_changes(question, batch, length)]
    for count in range(1, MOST_CHANGES + 1):
        for several in combinations(options, count):
            changed = {name: value for _, fields in several for name, value in fields.items()}
            if len(changed) < count:  # two of them set one thing
                continue
            found = replace(question, **changed)
            for adaptation in found.adaptations:
                row = memory_row(found, room, table, (adaptation, min(found.batches), min(found.lengths)))
                if row.verdict != "no":
                    return Change(words=tuple(words for words, _ in several), row=row)
    return None


def _changes(question: FitQuestion, batch: int, length: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """What can be changed, as it is typed, and the fields that it sets."""
    if question.recompute != "full":
        yield "--recompute full", {"recompute": "full"}
    if question.switches.get("loss") != "fused-linear":
        yield "--loss fused-linear", {"switches": question.switches | {"loss": "fused-linear"}}
    if batch > 1:
        yield "--batch-size 1", {"batches": (1,)}
    known = question.model.captured
    shorter = [each for each in (2048, 512) if each < length and not known]
    if shorter:
        yield f"--seq-len {shorter[0]}", {"lengths": (shorter[0],)}
    adaptations: tuple[Adaptation, ...] = ("full-8bit", "lora", "qlora")
    for adaptation in adaptations:
        if adaptation not in question.adaptations:
            yield f"--adaptation {adaptation}", {"adaptations": (adaptation,)}
    if question.offload == "none":
        yield "--offload weights", {"offload": "weights"}
    for count in COUNTS:
        if count > question.devices:
            yield f"--devices {count}", {"devices": count}
