"""What does ``hwprof count`` say about a training step? Rows of text for people, and the JSON contract."""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import wrap
from typing import Any

from hwprof.cli.count.work import flop_lines, kind_lines, work_json
from hwprof.count.blocks.parameters import ParameterCount, parameters
from hwprof.count.job.formulas import formulas
from hwprof.count.job.totals import StepFlop
from hwprof.count.memory.step import MemoryNeed
from hwprof.count.ops.operation import Op
from hwprof.specs.job.settings import RunSettings
from hwprof.specs.model.spec import ModelSpec
from hwprof.units import format_bytes, format_change, format_count, format_flop


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """One step, counted.

    Attributes:
        spec: the model.
        settings: batch, length and recompute.
        dtype: as it was typed.
        optimizer: as it was typed.
        ops: the operations, in full attention.
        flop: their matrix-multiply FLOP, in both conventions.
        need: the memory.
        job_json: what a job's memory has beside that; None = it is a step of hwprof's own training loop.
        job_lines: the same for people.
    """

    spec: ModelSpec
    settings: RunSettings
    dtype: str
    optimizer: str
    ops: tuple[Op, ...]
    flop: StepFlop
    need: MemoryNeed
    job_json: dict[str, Any] | None = None
    job_lines: tuple[str, ...] = ()


def as_json(counted: Counted) -> dict[str, Any]:
    """The JSON contract of ``hwprof count``: counts are integers, of one step over one batch."""
    spec, settings, count = counted.spec, counted.settings, parameters(counted.spec)
    return {
        "model": spec.name,
        "batch_size": settings.micro_batch,
        "seq_len": settings.seq_len,
        "target_len": settings.target_len,
        "dtype": counted.dtype,
        "recompute": settings.recompute,
        "optimizer": counted.optimizer,
        "parameters": count.total,
        "active_parameters": count.active,
        "active_non_embedding_parameters": count.active_non_embedding,
        "parameters_by_part": _parts(count),
        "notes": spec.notes,
        **work_json(counted.ops, counted.flop, per_token=settings.tokens_per_step, per_sample=settings.micro_batch),
        "memory": _memory(counted.need) | (counted.job_json or {}),
        "formulas": [
            {"name": f.name, "train_flop": f.flop, "source": f.source, "differs": f.differs}
            for f in formulas(spec, settings)
        ],
    }


def _parts(count: ParameterCount) -> dict[str, int]:
    parts = ("embedding", "attention", "ffn", "norm", "head", "other")
    return {part: int(getattr(count, part)) for part in parts}


def _memory(need: MemoryNeed) -> dict[str, Any]:
    return {
        "peak_bytes": round(need.peak_bytes),
        "moment": need.moment,
        "parts": [{"name": part.name, "bytes": round(part.predicted_bytes), "note": part.note} for part in need.parts],
    }


def as_text(counted: Counted, *, verbose: bool = False) -> str:
    """A summary for people, within a screen; with ``verbose`` known formulas, kinds of layers and all of the memory."""
    more = (*_formula_lines(counted), *kind_lines(counted.ops), "") if verbose else ()
    left = () if verbose else ("", "--verbose: known formulas (6N ...) beside it, kinds of layers, all of the memory")
    work = (*flop_lines(counted.flop), "", *more)
    return "\n".join((*_headline(counted), "", *work, *_memory_lines(counted, verbose=verbose), *left))


def _headline(counted: Counted) -> list[str]:
    spec, settings, count = counted.spec, counted.settings, parameters(counted.spec)
    target = f" -> {settings.target_len}" if settings.target_len else ""
    work = f"{settings.micro_batch} x {settings.seq_len}{target} tokens, {counted.dtype}"
    sparse = count.active != count.total
    active = f", {format_count(count.active)} active" if sparse else ""
    takes = f"{format_flop(counted.flop.train_full)} and {format_bytes(counted.need.peak_bytes)} of memory a step"
    return [
        f"{format_count(count.total)} parameters{active}; {takes}",
        f"  {spec.name}: {count.total:,} parameters{f', {count.active:,} active' if sparse else ''}",
        "  " + ", ".join(f"{part} {format_count(number)}" for part, number in _parts(count).items() if number),
        f"one step over {work}, recompute {settings.recompute}, {counted.optimizer}",
    ]


def _formula_lines(counted: Counted) -> list[str]:
    estimates = [
        line
        for f in formulas(counted.spec, counted.settings)
        for line in (
            f"  {f.name:<17} {format_flop(f.flop):>14} {format_change(f.flop / counted.flop.train_full - 1):>9}",
            *wrap(f"{f.differs} ({f.source})", 78, initial_indent="    ", subsequent_indent="    "),
        )
    ]
    header = "formulas for train, and how far they are from the exact count (full)"
    return [header, *estimates, ""] if estimates else []


_PARTS_SHOWN = 6


def _memory_lines(counted: Counted, *, verbose: bool) -> list[str]:
    need = counted.need
    shown = need.parts
    if not verbose and len(shown) > _PARTS_SHOWN:
        shown = tuple(sorted(shown, key=lambda part: -part.predicted_bytes)[:_PARTS_SHOWN])
    parts = [
        f"  {part.name:<24} {format_bytes(part.predicted_bytes):>10}  {part.note * verbose}".rstrip() for part in shown
    ]
    rest = need.peak_bytes - sum(part.predicted_bytes for part in shown)
    parts += [f"  {'the rest':<24} {format_bytes(rest):>10}"] if len(shown) < len(need.parts) else []
    return [f"memory at its peak ({need.moment}): {format_bytes(need.peak_bytes)}", *parts, *counted.job_lines]
