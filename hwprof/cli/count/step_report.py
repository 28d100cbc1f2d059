"""What does ``hwprof count`` say about a training step? Rows of text for people, and the JSON contract."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hwprof.cli.count.op_json import bytes_json, op_json
from hwprof.count.blocks.parameters import ParameterCount, parameters
from hwprof.count.job.formulas import formulas
from hwprof.count.job.totals import StepFlop, cost_by_kind, total_cost
from hwprof.count.memory.step import MemoryNeed
from hwprof.count.ops.operation import Op
from hwprof.specs.job.settings import RunSettings
from hwprof.specs.model.spec import ModelSpec
from hwprof.units import format_bytes, format_count, format_flop


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
    spec, settings, flop, count = counted.spec, counted.settings, counted.flop, parameters(counted.spec)
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
        "flop": {
            "forward": {"full": flop.forward_full, "causal": flop.forward_causal},
            "train": {"full": flop.train_full, "causal": flop.train_causal},
            "recompute": flop.recompute_full,
        },
        "vector_flop": int(total_cost(counted.ops).vector_flop),
        "per_token": _per(flop, settings.tokens_per_step),
        "per_sample": _per(flop, settings.micro_batch),
        "bytes": bytes_json(counted.ops),
        "ops": [op_json(op) for op in counted.ops],
        "memory": _memory(counted.need) | (counted.job_json or {}),
        "formulas": [
            {"name": f.name, "train_flop": f.flop, "source": f.source, "differs": f.differs}
            for f in formulas(spec, settings)
        ],
    }


def _parts(count: ParameterCount) -> dict[str, int]:
    parts = ("embedding", "attention", "ffn", "norm", "head", "other")
    return {part: int(getattr(count, part)) for part in parts}


def _per(flop: StepFlop, units: int) -> dict[str, dict[str, float]]:
    """Matrix-multiply FLOP of one of the step's ``units``."""
    return {
        "forward": {"full": flop.forward_full / units, "causal": flop.forward_causal / units},
        "train": {"full": flop.train_full / units, "causal": flop.train_causal / units},
    }


def _memory(need: MemoryNeed) -> dict[str, Any]:
    return {
        "peak_bytes": round(need.peak_bytes),
        "moment": need.moment,
        "parts": [{"name": part.name, "bytes": round(part.predicted_bytes), "note": part.note} for part in need.parts],
    }


def as_text(counted: Counted) -> str:
    """A summary for people."""
    return "\n".join((*_headline(counted), "", *_flop_lines(counted), "", *_memory_lines(counted)))


def _headline(counted: Counted) -> list[str]:
    spec, settings, count = counted.spec, counted.settings, parameters(counted.spec)
    target = f" -> {settings.target_len}" if settings.target_len else ""
    work = f"{settings.micro_batch} x {settings.seq_len}{target} tokens, {counted.dtype}"
    active = f", {format_count(count.active)} active ({count.active:,})" if count.active != count.total else ""
    return [
        f"{spec.name}: {format_count(count.total)} parameters ({count.total:,}){active}",
        "  " + ", ".join(f"{part} {format_count(number)}" for part, number in _parts(count).items() if number),
        f"one step over {work}, recompute {settings.recompute}, {counted.optimizer}",
    ]


def _flop_lines(counted: Counted) -> list[str]:
    spec, settings, flop = counted.spec, counted.settings, counted.flop
    rows = [
        f"  forward    {format_flop(flop.forward_full):>14} {format_flop(flop.forward_causal):>14}",
        f"  train      {format_flop(flop.train_full):>14} {format_flop(flop.train_causal):>14}",
    ]
    if flop.recompute_full:
        rows.append(f"  recompute  {format_flop(flop.recompute_full):>14}")
    estimates = [
        f"  {f.name:<17} {format_flop(f.flop):>14} {f.flop / flop.train_full - 1:>+8.1%}   {f.differs} ({f.source})"
        for f in formulas(spec, settings)
    ]
    header = "  layer kind direction        matrix FLOP     other FLOP     bytes moved"
    kinds = [
        f"  {kind:<10} {direction:<10} {format_flop(cost.matmul_flop):>16} {format_flop(cost.vector_flop):>14} "
        f"{format_bytes(cost.moved_bytes):>15}"
        for (kind, direction), cost in cost_by_kind(counted.ops).items()
    ]
    return [
        "matrix FLOP          full attention         causal",
        *rows,
        "",
        *(
            ["formulas for train, and how far they are from the exact count (full)", *estimates, ""]
            if estimates
            else []
        ),
        header,
        *kinds,
    ]


def _memory_lines(counted: Counted) -> list[str]:
    need = counted.need
    parts = [f"  {part.name:<24} {format_bytes(part.predicted_bytes):>10}  {part.note}".rstrip() for part in need.parts]
    return [f"memory at its peak ({need.moment}): {format_bytes(need.peak_bytes)}", *parts, *counted.job_lines]
