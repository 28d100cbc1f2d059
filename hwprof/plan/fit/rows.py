"""What does each batch and length need of a device, and how long is its step? Rows, and the largest batch that fits."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from hwprof.count.memory.job import job_memory
from hwprof.count.memory.largest import largest
from hwprof.plan.fit.question import Adaptation, FitQuestion
from hwprof.predict.machine import Machine
from hwprof.simulate.memory_interval import memory_interval_bytes
from hwprof.simulate.prediction import predict_job
from hwprof.specs.catalogue.simulator import SimulatorParameters

Cell = tuple[Adaptation, int, int]
"""A way, sequences at a time, tokens of each."""

USUAL_LENGTH = 2048
"""Tokens of the length that an answer speaks of, where it was looked at."""

Verdict = Literal["fits", "tight", "no"]
"""``fits``: the upper end of the memory interval is below what the device has; ``tight``: the middle is; ``no``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """A device, or so much memory.

    Attributes:
        name: of the device, or how much it is.
        capacity_bytes: what a program finds.
        machine: as many of the device as there are; None = only its memory is known.
    """

    name: str
    capacity_bytes: float
    machine: Machine | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FitRow:
    """One way, batch and length.

    Attributes:
        adaptation, batch_size, seq_len: which.
        peak_bytes: of tensors at the step's peak (``torch.cuda.max_memory_allocated``).
        interval_bytes: 90 % of published peaks of comparable runs lie inside.
        device_bytes: what ``nvidia-smi`` shows: with the allocator's losses and CUDA's own.
        device_interval_bytes: the same interval of that.
        capacity_bytes: what there is.
        host_bytes: what offload puts in host memory.
        step_s, step_interval_s, tokens_per_s: of an optimizer step on the device; None = the device is not known.
    """

    adaptation: Adaptation
    batch_size: int
    seq_len: int
    peak_bytes: float
    interval_bytes: tuple[float, float]
    device_bytes: float
    device_interval_bytes: tuple[float, float]
    capacity_bytes: float
    host_bytes: float = 0.0
    step_s: float | None = None
    step_interval_s: tuple[float, float] | None = None
    tokens_per_s: float | None = None

    def training_s(self, tokens: float | None) -> float | None:
        """Of so many tokens, one after another without interruption."""
        return tokens / self.tokens_per_s if tokens is not None and self.tokens_per_s is not None else None

    @property
    def verdict(self) -> Verdict:
        """Whether it fits."""
        if self.device_interval_bytes[1] <= self.capacity_bytes:
            return "fits"
        return "tight" if self.device_bytes <= self.capacity_bytes else "no"


@dataclass(frozen=True, slots=True, kw_only=True)
class Largest:
    """The largest batches of a way at one length: that surely fits, and that should; 0 = not even one."""

    adaptation: Adaptation
    seq_len: int
    sure: FitRow | None
    likely: FitRow | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """The answer for one device.

    Attributes:
        question: what was asked.
        room: of what.
        rows: every way, batch and length.
        largest: of every way and length.
    """

    question: FitQuestion
    room: Room
    rows: tuple[FitRow, ...]
    largest: tuple[Largest, ...]

    def best_row(self, way: Adaptation) -> FitRow | None:
        """The largest batch of a way that surely fits, else that should, at the length nearest to the usual one."""
        found = [each for each in self.largest if each.adaptation == way and each.likely]
        sure = [each for each in found if each.sure]
        best = min(sure or found, key=lambda each: abs(math.log(each.seq_len / USUAL_LENGTH)), default=None)
        return None if best is None else best.sure or best.likely

    @property
    def any_fits(self) -> bool:
        """Whether anything that was asked for should fit."""
        return any(row.verdict != "no" for row in self.rows)


def fit_of(question: FitQuestion, room: Room, table: SimulatorParameters) -> Fit:
    """Every way, batch and length on one device, and the largest batches.

    Raises:
        InputError: the parts of the question contradict each other.
        SpecError: the device lacks a number that the time needs.
    """
    cells: list[Cell] = [
        (adaptation, batch, length)
        for adaptation in question.adaptations
        for length in question.lengths
        for batch in question.batches
    ]
    pairs = [(adaptation, length) for adaptation in question.adaptations for length in question.lengths]
    return Fit(
        question=question,
        room=room,
        rows=tuple(row_of(question, room, table, cell) for cell in cells),
        largest=tuple(_largest(question, room, table, *pair) for pair in pairs),
    )


def row_of(question: FitQuestion, room: Room, table: SimulatorParameters, cell: Cell) -> FitRow:
    """One cell of the grid; its step where a device is known."""
    row = memory_row(question, room, table, cell)
    if room.machine is None:
        return row
    job = question.job(*cell)
    found = predict_job(job, room.machine, question.stack, table)
    return FitRow(
        **{name: getattr(row, name) for name in _MEMORY},
        step_s=found.step_s,
        step_interval_s=found.interval_s,
        tokens_per_s=job.tokens / found.step_s,
    )


_MEMORY = (
    *("adaptation", "batch_size", "seq_len", "peak_bytes", "interval_bytes", "device_bytes"),
    *("device_interval_bytes", "capacity_bytes", "host_bytes"),
)


def memory_row(question: FitQuestion, room: Room, table: SimulatorParameters, cell: Cell) -> FitRow:
    """The same without its step."""
    adaptation, batch, length = cell
    job, copy = question.job(*cell), question.copy_bytes(adaptation)
    need = job_memory(job)

    def interval(reading: Literal["allocator", "device"]) -> tuple[float, float]:
        low, high = memory_interval_bytes(job, question.stack, table.memory, reading=reading)
        return low + copy, high + copy

    return FitRow(
        adaptation=adaptation,
        batch_size=batch,
        seq_len=length,
        peak_bytes=need.peak_bytes + copy,
        interval_bytes=interval("allocator"),
        device_bytes=need.device_bytes + copy,
        device_interval_bytes=interval("device"),
        capacity_bytes=room.capacity_bytes,
        host_bytes=need.host_bytes,
    )


def _largest(
    question: FitQuestion, room: Room, table: SimulatorParameters, adaptation: Adaptation, length: int
) -> Largest:
    def batch_of(verdicts: Iterable[Verdict]) -> int:
        allowed = frozenset(verdicts)
        return largest(lambda batch: memory_row(question, room, table, (adaptation, batch, length)).verdict in allowed)

    def row(batch: int) -> FitRow | None:
        return row_of(question, room, table, (adaptation, batch, length)) if batch else None

    likely = batch_of(("fits", "tight"))
    return Largest(
        adaptation=adaptation, seq_len=length, sure=row(batch_of(("fits",)) if likely else 0), likely=row(likely)
    )
