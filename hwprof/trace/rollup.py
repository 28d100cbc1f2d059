"""What sorts of work take the time, and at which rate does each shape run? Rows of operators, added up."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwprof.spans.columns import NS
from hwprof.spans.pieces import Pieces
from hwprof.specs.record.trace_rows import Category, TraceCategory, TraceOp
from hwprof.trace.tables import CATEGORIES


def category_table(pieces: Pieces, sort: NDArray[np.int8], ops: Sequence[TraceOp]) -> tuple[TraceCategory, ...]:
    """Each sort of work, most time first: time of all its kernels, work of the operators whose cost is known.

    Args:
        pieces: what ran.
        sort: place in ``CATEGORIES`` of each piece.
        ops: the operators.
    """
    times = np.bincount(sort, weights=pieces.end_ns - pieces.start_ns, minlength=len(CATEGORIES)) * NS
    counts = np.bincount(sort, minlength=len(CATEGORIES))
    counted: Mapping[Category, list[TraceOp]] = defaultdict(list)
    for op in ops:
        if op.moved_bytes is not None:
            counted[op.category].append(op)
    whole_s = float(times.sum())
    rows = [
        _category(category, counted[category], kernels=int(count), time_s=float(time_s), whole_s=whole_s)
        for category, count, time_s in zip(CATEGORIES, counts, times, strict=True)
        if count
    ]
    return tuple(sorted(rows, key=lambda row: -row.time_s))


def _category(
    category: Category, ops: Sequence[TraceOp], *, kernels: int, time_s: float, whole_s: float
) -> TraceCategory:
    counted_s = sum(op.time_s for op in ops)
    flop, moved_bytes = _sum(op.matmul_flop for op in ops), _sum(op.moved_bytes for op in ops)
    return TraceCategory(
        category=category,
        kernels=kernels,
        time_s=time_s,
        share=time_s / whole_s if whole_s else 0.0,
        counted_s=counted_s,
        matmul_flop=flop,
        moved_bytes=moved_bytes,
        flop_per_s=flop / counted_s if counted_s and flop else None,
        byte_per_s=moved_bytes / counted_s if counted_s else None,
    )


def by_shape(ops: Sequence[TraceOp]) -> tuple[TraceOp, ...]:
    """Operators of all modules and directions with the same shapes as one row, where their work is counted."""
    groups: Mapping[tuple[str, str, str], list[TraceOp]] = defaultdict(list)
    for op in ops:
        if op.moved_bytes is not None and op.shapes:
            groups[op.op, op.shapes, op.dtype].append(op)
    return tuple(sorted(map(_together, groups.values()), key=lambda op: (-op.time_s, op.op, op.shapes)))


def _together(ops: Sequence[TraceOp]) -> TraceOp:
    time_s = sum(op.time_s for op in ops)
    flop = _sum(op.matmul_flop for op in ops) + _sum(op.vector_flop for op in ops)
    moved_bytes = _sum(op.moved_bytes for op in ops)
    sums: dict[str, Any] = {
        name: sum(getattr(op, name) or 0 for op in ops)
        for name in ("calls", "kernels", "share", "matmul_flop", "vector_flop", "moved_bytes")
    }
    directions = {op.direction for op in ops}
    causal = [op.causal_flop for op in ops]
    return ops[0].changed(
        module="",
        direction=ops[0].direction if len(directions) == 1 else "other",
        time_s=time_s,
        causal_flop=None if None in causal else _sum(causal),
        flop_per_s=flop / time_s if time_s else None,
        byte_per_s=moved_bytes / time_s if time_s else None,
        **sums,
    )


def _sum(values: Iterable[float | None]) -> float:
    return float(sum(value or 0.0 for value in values))
