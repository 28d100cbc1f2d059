"""How do counted operations look in JSON? Integers, the same fields for a spec's operations and a captured module's."""

from __future__ import annotations

from typing import Any

from hwprof.count.job.totals import total_cost
from hwprof.count.ops.cost import Cost
from hwprof.count.ops.operation import Op


def op_json(op: Op) -> dict[str, Any]:
    """One op: costs of ONE instance; ``repeats`` says how many there are."""
    return {
        "label": op.label,
        "kind": op.kind,
        "layer_kind": op.layer_kind,
        "repeats": op.repeats,
        "parameters": op.parameters,
        "forward": cost_json(op.forward),
        "backward": cost_json(op.backward),
        "recompute": cost_json(op.recompute),
        "update": cost_json(op.update),
        "saved_bytes": op.saved_bytes,
    }


def cost_json(cost: Cost) -> dict[str, int]:
    """The four counters."""
    return {
        "matmul_flop": int(cost.matmul_flop),
        "vector_flop": int(cost.vector_flop),
        "read_bytes": int(cost.read_bytes),
        "write_bytes": int(cost.write_bytes),
    }


def bytes_json(ops: tuple[Op, ...]) -> dict[str, int]:
    """Bytes read and written, by direction; clipping counts with the optimizer."""
    return {
        "forward": int(total_cost(ops, "forward").moved_bytes),
        "backward": int(total_cost(ops, "backward").moved_bytes),
        "recompute": int(total_cost(ops, "recompute").moved_bytes),
        "optimizer": int(total_cost(ops, "update").moved_bytes),
        "total": int(total_cost(ops).moved_bytes),
    }
