"""Which roof binds each operator? Its recorded work under the ceilings of a device, as for our own runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import get_args

from hwprof.count.ops.cost import Cost
from hwprof.predict.ceilings.roofs import Roofs, roofs_of
from hwprof.predict.classify import ABOVE_ROOF, Placement, floor_of, placement
from hwprof.predict.work import Work
from hwprof.specs.measurement import Ceiling
from hwprof.specs.record.run import Dtype
from hwprof.specs.record.trace_rows import Mark, TraceOp

_DTYPES: dict[str, Dtype] = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}
"""torch's name of an element type -> the name of the roof over its matrix products."""


SHORT_S = 10e-6
"""Kernels below 10 µs are short: TraceLens' threshold for its study of short kernels."""


def placed(
    ops: Sequence[TraceOp], ceilings: Sequence[Ceiling], *, kind: str, cache_bytes: float | None = None
) -> tuple[TraceOp, ...]:
    """The operators with their bound class.

    A product of fp32 numbers that runs faster than fp32 can is taken for TF32; of causal attention half has to be done.
    What is more than 5 % above its roof all the same has no class, what is far below it and short is bound by latency.

    Args:
        ops: as read from a trace.
        ceilings: of the device that it was recorded on; none leaves every class unknown.
        kind: "cpu" or "gpu".
        cache_bytes: of the device's largest cache; None where it is not known, or is a memory ceiling itself.
    """
    device = "cuda" if kind == "gpu" else "cpu"
    roofs = {dtype: roofs_of(ceilings, dtype, device=device) for dtype in get_args(Dtype)} if ceilings else {}
    under = (_placed(op, roofs) for op in ops)
    return tuple(_marked(op, short_s=SHORT_S if kind == "gpu" else 0.0, cache_bytes=cache_bytes or 0.0) for op in under)


def _marked(op: TraceOp, *, short_s: float, cache_bytes: float) -> TraceOp:
    """What keeps an operator's rate from being held against a roof."""
    short = op.time_s < short_s * op.kernels
    marks: tuple[tuple[Mark, bool], ...] = (
        ("above its roof", (op.roof_fraction or 0.0) > ABOVE_ROOF),
        ("may be in cache", 0 < (op.moved_bytes or 0.0) < cache_bytes * op.calls),
        ("short", short),
    )
    far = short and op.bound == "unknown" and op.roof_fraction is not None and op.roof_fraction <= ABOVE_ROOF
    found = tuple(mark for mark, true in marks if true)
    return op.changed(marks=found, bound="latency" if far else op.bound) if found else op


def _placed(op: TraceOp, roofs: dict[Dtype, Roofs]) -> TraceOp:
    if op.matmul_flop is None or not op.time_s or not roofs:
        return op
    dtype = _DTYPES.get(op.dtype)
    own = roofs[dtype or "fp32"] if dtype else replace(roofs["fp32"], matmul_flop_per_s=None, matmul_name="")
    found, roof_s = _under(op, own)
    if dtype == "fp32" and found.bound == "compute" and (found.fraction or 0.0) > ABOVE_ROOF:
        found, roof_s = _under(op, roofs["tf32"])
    above = (found.fraction or 0.0) > ABOVE_ROOF  # its bytes or its ceiling can't be right, so that nothing binds it
    return op.changed(
        bound="unknown" if above else found.bound,
        roof_name=found.roof_name,
        roof_s=roof_s,
        roof_fraction=found.fraction,
        confidence=found.confidence,
    )


def _under(op: TraceOp, roofs: Roofs) -> tuple[Placement, float]:
    floor = floor_of([_work(op)], roofs, launches=op.kernels)
    floor = replace(floor, latency_s=min(floor.latency_s, op.time_s))
    return placement(floor, op.time_s, roofs, counted=True), floor.roof_s


def _work(op: TraceOp) -> Work:
    assert op.moved_bytes is not None
    assert op.matmul_flop is not None
    matmul_flop = op.matmul_flop if op.causal_flop is None else op.causal_flop
    moved_bytes = op.moved_bytes / op.calls
    return Work(
        label=op.op,
        layer_kind="other",
        direction="forward",
        phase="forward",
        cost=Cost(
            matmul_flop=matmul_flop / op.calls, vector_flop=(op.vector_flop or 0) / op.calls, read_bytes=moved_bytes
        ),
        instances=op.calls,
        working_set_bytes=moved_bytes,
    )
