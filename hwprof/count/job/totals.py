"""What does a step cost in all? Sums over operations by layer kind and direction."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from hwprof.count.ops.cost import Cost
from hwprof.count.ops.operation import Op
from hwprof.specs.job.settings import Direction, LayerKind

DIRECTIONS: tuple[Direction, ...] = ("forward", "backward", "recompute", "update")


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFlop:
    """Matrix-multiply FLOP of one step, in both attention conventions; ``train`` is forward and backward alone."""

    forward_full: int
    forward_causal: int
    train_full: int
    train_causal: int
    recompute_full: int


def total_cost(ops: Iterable[Op], *directions: Direction) -> Cost:
    """Cost of all instances in the given directions (none given: in all)."""
    chosen = directions or DIRECTIONS
    return sum((op.cost(direction) for op in ops for direction in chosen), Cost.ZERO)


def cost_by_kind(ops: Iterable[Op]) -> dict[tuple[LayerKind, Direction], Cost]:
    """Cost of all instances by layer kind and direction; what does nothing in a direction is left out."""
    sums: dict[tuple[LayerKind, Direction], Cost] = defaultdict(lambda: Cost.ZERO)
    for op in ops:
        for direction in DIRECTIONS:
            sums[op.layer_kind, direction] += op.cost(direction)
    return {key: cost for key, cost in sums.items() if cost != Cost.ZERO}


def flop_of(full: Iterable[Op], causal: Iterable[Op]) -> StepFlop:
    """Matrix-multiply FLOP of operations in both attention conventions; torch's ``FlopCounterMode`` counts ``full``."""
    full, causal = tuple(full), tuple(causal)

    def matmul_flop(ops: tuple[Op, ...], *directions: Direction) -> int:
        return int(total_cost(ops, *directions).matmul_flop)

    return StepFlop(
        forward_full=matmul_flop(full, "forward"),
        forward_causal=matmul_flop(causal, "forward"),
        train_full=matmul_flop(full, "forward", "backward"),
        train_causal=matmul_flop(causal, "forward", "backward"),
        recompute_full=matmul_flop(full, "recompute"),
    )
