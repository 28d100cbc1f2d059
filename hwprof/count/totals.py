"""What does a step cost in all? Sums over operations by layer kind and direction, and the formulas people quote."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from hwprof.count.cost import Cost
from hwprof.count.op import Op
from hwprof.count.parameters import parameters
from hwprof.count.transformer import training_step_ops
from hwprof.specs.model import ModelSpec
from hwprof.specs.run import Direction, LayerKind, RunSettings

DIRECTIONS: tuple[Direction, ...] = ("forward", "backward", "recompute", "update")


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFlop:
    """Matrix-multiply FLOP of one step, in both attention conventions; ``train`` is forward and backward alone."""

    forward_full: int
    forward_causal: int
    train_full: int
    train_causal: int
    recompute_full: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Formula:
    """A published estimate of training FLOP, for the same tokens as the exact count."""

    name: str
    flop: int
    source: str


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


def step_flop(spec: ModelSpec, settings: RunSettings) -> StepFlop:
    """Matrix-multiply FLOP of one optimizer step, as torch's ``FlopCounterMode`` counts them (``full``)."""
    full = training_step_ops(spec, settings, attention="full")
    causal = training_step_ops(spec, settings, attention="causal")

    def matmul_flop(ops: tuple[Op, ...], *directions: Direction) -> int:
        return int(total_cost(ops, *directions).matmul_flop)

    return StepFlop(
        forward_full=matmul_flop(full, "forward"),
        forward_causal=matmul_flop(causal, "forward"),
        train_full=matmul_flop(full, "forward", "backward"),
        train_causal=matmul_flop(causal, "forward", "backward"),
        recompute_full=matmul_flop(full, "recompute"),
    )


def formulas(spec: ModelSpec, settings: RunSettings) -> tuple[Formula, ...]:
    """The common estimates of training FLOP of a step: N parameters, L layers, H heads, Q head width, T tokens long.

    They differ from the exact count by what N holds: an embedding is a lookup and no product, nor are norms and biases.
    """
    tokens, count = settings.tokens_per_step, parameters(spec)
    scores = 12 * spec.layers * spec.heads * spec.head_dim * settings.seq_len
    kaplan, palm = "Kaplan et al. 2020, section 2.1", "Chowdhery et al. 2022 (PaLM), appendix B"
    return (
        Formula(name="6N", flop=6 * count.total * tokens, source=f"{kaplan}, N with embeddings"),
        Formula(name="6N non-embedding", flop=6 * count.non_embedding * tokens, source=kaplan),
        Formula(name="6N + 12LHQT", flop=(6 * count.total + scores) * tokens, source=palm),
    )
