"""What do kernels for recurrences move and keep, where torch's operators in their place write each step to memory?

Transformers runs state spaces and linear attention in torch's operators where their kernels are missing. Those of
flash-linear-attention and mamba-ssm read and write some tensors of a token's width; how many is counted from the
arguments of their kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from hwprof.count.ops.cost import Cost
from hwprof.count.ops.operation import Op
from hwprof.specs.model.captured import CapturedModel
from hwprof.specs.model.mixing import is_attention, part_of, width_of
from hwprof.specs.model.spec import ModelSpec

_PRODUCTS = frozenset({"aten::bmm", "aten::baddbmm"})
_SOLVES = frozenset({"aten::linalg_solve_triangular", "aten::triu"})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Passes:
    """How often all that goes into a recurrence and comes out of it moves forward and backward, and is kept."""

    forward: float
    backward: float
    kept: float


DELTA = _Passes(forward=7, backward=13, kept=1.3)
"""Gated delta rule: norms of queries and keys, convolution, cumulative sums, keys x keys, triangular solve, w and u,
states of pieces, outputs; backward makes w, u and states again (flash-linear-attention at 0315a70,
``fla/ops/gated_delta_rule/chunk.py``; 112 and 218 thousand numbers a token in Qwen3-Next, of 16.4 in and out)."""

SCAN = _Passes(forward=3, backward=6, kept=1.0)
"""State spaces: convolution, states of pieces, their passing on, scan (the kernels of Dao and Gu 2024, section 6, as
mamba-ssm runs them: an estimate, 44 thousand numbers a token in Nemotron 3 Nano, of 14.4 in and out)."""


def recurrent(spec: ModelSpec) -> bool:
    """Whether layers of a captured model are recurrences."""
    return spec.captured is not None and bool(spec.mixing.changed_width)


def as_kernels(ops: Sequence[Op], model: CapturedModel, *, d_model: int, tokens: int, width_bytes: float) -> list[Op]:
    """The same with recurrences as their kernels run; where torch's operators move less, these.

    Args:
        ops: of a micro-batch.
        model: what they were captured of.
        d_model: width of the residual stream.
        tokens: of the micro-batch.
        width_bytes: of an activation's element.
    """
    found = list(ops)
    for label in dict.fromkeys(op.label for op in ops):
        moved = tokens * width_bytes * width_of(model.tensors, part_of(label), d_model)
        places = _places(found, label) if "expert" not in label else []
        if places and moved:
            _write_down(found, places, moved)
    return found


def _places(ops: Sequence[Op], label: str) -> list[int]:
    """Where the operators of a recurrence stand; none where its label is of something else."""
    own = [(place, op) for place, op in enumerate(ops) if op.label == label and op.kind != "linear"]
    repeats = {op.repeats for _, op in own if op.kind in _PRODUCTS}
    if not label.startswith("layers.*.") or any(is_attention(op.kind) and op.repeats in repeats for _, op in own):
        return []
    return [place for place, op in own if op.repeats in repeats and not is_attention(op.kind)]


def _write_down(ops: list[Op], places: Sequence[int], moved: float) -> None:
    own = [ops[place] for place in places]
    passes = DELTA if any(op.kind in _SOLVES for op in own) else SCAN
    if sum(op.forward.moved_bytes for op in own) <= passes.forward * moved:
        return
    carrier = next((place for place in places if not ops[place].forward.matmul_flop), None)
    if carrier is None:
        return
    kept = min(round(passes.kept * moved), sum(op.saved_bytes for op in own))
    for place in places:
        here = float(place == carrier)
        op = ops[place]
        ops[place] = replace(
            op,
            forward=_moving(op.forward, here * passes.forward * moved),
            backward=_moving(op.backward, here * passes.backward * moved),
            saved_bytes=round(here * kept),
            weight_saved_bytes=round(here * kept),
        )


def _moving(cost: Cost, moved_bytes: float) -> Cost:
    return replace(cost, read_bytes=round(moved_bytes / 2), write_bytes=round(moved_bytes / 2))
