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
from hwprof.specs.record.trace import TraceOp

_DTYPES: dict[str, Dtype] = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}
"""torch's name of an element type -> the name of the roof over its matrix products."""


def placed(ops: Sequence[TraceOp], ceilings: Sequence[Ceiling], *, kind: str) -> tuple[TraceOp, ...]:
    """The operators with their bound class.

    A product of fp32 numbers that runs faster than fp32 can is taken for TF32. What is more than 5 % above its roof all
    the same has no class.

    Args:
        ops: as read from a trace.
        ceilings: of the device that it was recorded on; none leaves every class unknown.
        kind: "cpu" or "gpu".
    """
    if not ceilings:
        return tuple(ops)
    device = "cuda" if kind == "gpu" else "cpu"
    roofs = {dtype: roofs_of(ceilings, dtype, device=device) for dtype in get_args(Dtype)}
    return tuple(_placed(op, roofs) for op in ops)


def _placed(op: TraceOp, roofs: dict[Dtype, Roofs]) -> TraceOp:
    if op.matmul_flop is None or not op.time_s:
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
    moved_bytes = op.moved_bytes / op.calls
    return Work(
        label=op.op,
        layer_kind="other",
        direction="forward",
        phase="forward",
        cost=Cost(
            matmul_flop=op.matmul_flop / op.calls, vector_flop=(op.vector_flop or 0) / op.calls, read_bytes=moved_bytes
        ),
        instances=op.calls,
        working_set_bytes=moved_bytes,
    )
