"""What do kernels for recurrences move and keep, where torch's operators in their place write each step to memory?

Transformers runs state spaces and linear attention in torch's operators where their kernels are missing. Those of
flash-linear-attention and mamba-ssm read and write some tensors of a token's width; how many is counted from the
arguments of their kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from hwprof.count.blocks.fusing import GATE
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

SCAN = _Passes(forward=3.4, backward=10.5, kept=1.0)
"""State spaces: convolution, states of pieces in fp32, their passing on, keys x keys, scan; backward makes the
convolution, keys x keys and states again, and reads x, the gradient or states in each of six kernels more (mamba-ssm at
01b717a, ``mamba_ssm/ops/triton/ssd_combined.py``). 4.0 and 12.4 where a state is as long as a piece (Nemotron 3 Nano:
57 and 179 thousand numbers a token, of 14.4 in and out), 2.8 and 8.5 where it is half as long (Mamba-2 2.7B). What is
kept is what goes in and comes out, from which the gated norm after it is made again, too."""


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
        if places and moved and _write_down(found, places, moved) is SCAN:
            _drop_gated_norms(found, label)
    return found


def _drop_gated_norms(ops: list[Op], label: str) -> None:
    """A norm with a gate right after a scan keeps nothing of its own: it runs in one function with it."""
    gated = {op.label for op in ops if op.kind == GATE and op.label.startswith(f"{label}.")}
    for place, op in enumerate(ops):
        if op.label in gated and op.layer_kind == "norm":
            ops[place] = replace(op, saved_bytes=0, weight_saved_bytes=0)


def _places(ops: Sequence[Op], label: str) -> list[int]:
    """Where the operators of a recurrence stand; none where its label is of something else."""
    own = [(place, op) for place, op in enumerate(ops) if op.label == label and op.kind != "linear"]
    repeats = {op.repeats for _, op in own if op.kind in _PRODUCTS}
    if not label.startswith("layers.*.") or any(is_attention(op.kind) and op.repeats in repeats for _, op in own):
        return []
    return [place for place, op in own if op.repeats in repeats and not is_attention(op.kind)]


def _write_down(ops: list[Op], places: Sequence[int], moved: float) -> _Passes | None:
    """As what it was written down, if it was."""
    own = [ops[place] for place in places]
    passes = DELTA if any(op.kind in _SOLVES for op in own) else SCAN
    if sum(op.forward.moved_bytes for op in own) <= passes.forward * moved:
        return None
    carrier = next((place for place in places if not ops[place].forward.matmul_flop), None)
    if carrier is None:
        return None
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
    return passes


def _moving(cost: Cost, moved_bytes: float) -> Cost:
    return replace(cost, read_bytes=round(moved_bytes / 2), write_bytes=round(moved_bytes / 2))
