"""How does counted work look? The same fields and columns for a spec's operations and for a captured module's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hwprof.count.job.totals import DIRECTIONS, StepFlop, cost_by_kind, total_cost
from hwprof.count.ops.cost import Cost
from hwprof.count.ops.operation import Op
from hwprof.units import format_bytes, format_flop


def work_json(ops: tuple[Op, ...], flop: StepFlop, **per_units: int) -> dict[str, Any]:
    """FLOP, bytes and operations; counts are integers.

    Args:
        ops: the operations, in full attention.
        flop: their matrix-multiply FLOP, in both conventions.
        per_units: name -> how many such units the work holds; FLOP are told for one of each, too.
    """
    both = {
        "forward": {"full": flop.forward_full, "causal": flop.forward_causal},
        "train": {"full": flop.train_full, "causal": flop.train_causal},
    }
    return {
        "flop": {**both, "recompute": flop.recompute_full},
        "vector_flop": int(total_cost(ops).vector_flop),
        **{
            name: {part: {how: each / units for how, each in pair.items()} for part, pair in both.items()}
            for name, units in per_units.items()
        },
        "bytes": _bytes_json(ops),
        "ops": [_op_json(op) for op in ops],
    }


def _op_json(op: Op) -> dict[str, Any]:
    """One op: costs of ONE instance; ``repeats`` says how many there are."""
    return {
        "label": op.label,
        "kind": op.kind,
        "layer_kind": op.layer_kind,
        "repeats": op.repeats,
        "parameters": op.parameters,
        **{direction: _cost_json(getattr(op, direction)) for direction in DIRECTIONS},
        "saved_bytes": op.saved_bytes,
    }


def _cost_json(cost: Cost) -> dict[str, int]:
    return {name: int(getattr(cost, name)) for name in ("matmul_flop", "vector_flop", "read_bytes", "write_bytes")}


def _bytes_json(ops: tuple[Op, ...]) -> dict[str, int]:
    """Bytes read and written, by direction; clipping counts with the optimizer."""
    names = {direction: "optimizer" if direction == "update" else direction for direction in DIRECTIONS}
    parts = {name: int(total_cost(ops, direction).moved_bytes) for direction, name in names.items()}
    return {**parts, "total": int(total_cost(ops).moved_bytes)}


def flop_lines(flop: StepFlop) -> list[str]:
    """Matrix-multiply FLOP in both conventions."""
    again = [f"  recompute  {format_flop(flop.recompute_full):>14}"] if flop.recompute_full else []
    return [
        "matrix FLOP          full attention         causal",
        f"  forward    {format_flop(flop.forward_full):>14} {format_flop(flop.forward_causal):>14}",
        f"  train      {format_flop(flop.train_full):>14} {format_flop(flop.train_causal):>14}",
        *again,
    ]


def kind_lines(ops: Iterable[Op]) -> list[str]:
    """What each kind of layer costs, by direction."""
    return [
        "  layer kind direction        matrix FLOP     other FLOP     bytes moved",
        *(
            f"  {kind:<10} {direction:<10} {format_flop(cost.matmul_flop):>16} {format_flop(cost.vector_flop):>14} "
            f"{format_bytes(cost.moved_bytes):>15}"
            for (kind, direction), cost in cost_by_kind(ops).items()
        ),
    ]
