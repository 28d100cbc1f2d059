"""What do the elementwise operators of a captured model cost where kernels are fused? One pass for each module.

A capture has each operator as torch's own kernel, which reads and writes memory. A compiler, or kernels made for it, do
all of a norm or of an activation in one pass.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import Any

from hwprof.count.ops.cost import Cost
from hwprof.count.ops.operation import Execution, Op
from hwprof.count.ops.table import OPS

_NORMS = {
    "aten::mean": ("rmsnorm", 1),
    "aten::native_layer_norm": ("layernorm", 8),
    "aten::_fused_rms_norm": ("rmsnorm", 4),
}
"""Operator that a norm has -> the op table's norm, and arithmetic of that operator for each element that it reads."""

GATE = "aten::silu"
"""What a norm has whose result is multiplied by a gate (state spaces, gated delta rule)."""


_SUM = "aten::view"
"""Under it stands autograd's sum of the gradients of a tensor that was read several times."""


def single_chains(ops: Sequence[Op]) -> list[Op]:
    """The same with each norm and each activation as one pass, as the op table has them whatever runs them."""
    return _passes(ops, {}, chains_alone=True)


def fused_ops(ops: Sequence[Op], how: Execution) -> list[Op]:
    """The same with the elementwise operators of one module, and of those without weights in it, as one pass.

    A norm is the op table's. Another pass moves and keeps what the kinds of them do that move and keep most; in an
    activation one call of it, and what one call keeps that keeps least, since each reads what the one before made.
    Gradients of what several products read are summed by these products.
    """
    norms = {op.label for op in ops if op.layer_kind == "norm"}
    joined = _joined(ops, norms)
    passes = _passes([_moving(op, 0.0) if op.kind == _SUM else op for op in ops], joined, chains_alone=False)
    groups: defaultdict[tuple[str, int], list[int]] = defaultdict(list)
    for place, op in enumerate(ops):
        if _is_elementwise(op):
            groups[joined.get(op.label, op.label), op.repeats].append(place)
    holding = _holding(ops)
    for (label, _), places in groups.items():
        own = [ops[place] for place in places]
        carrier = max(places, key=lambda place: _bytes(passes[place]))
        norm = _norm_of_the_table(own, passes[carrier], how) if label in norms else {}
        for place in places:
            moving = _moving(passes[place], 0.0) if norm else passes[place]
            passes[place] = replace(moving, saved_bytes=0, weight_saved_bytes=0)
        passes[carrier] = replace(passes[carrier], **(norm or _kept(own, chain=label not in holding)))
    return passes


def _joined(ops: Sequence[Op], norms: AbstractSet[str]) -> dict[str, str]:
    """Label of a module without weights -> that of the module that holds it, unless that is a layer, which adds."""
    working = {op.label for op in ops if not _is_elementwise(op) or op.parameters}
    labels = {op.label for op in ops}
    holders = {label for label in labels if not label.endswith(".*")}
    return {label: _parent(label) for label in labels - working - norms if _parent(label) in holders}


def _kept(ops: Sequence[Op], *, chain: bool) -> dict[str, int]:
    """What one pass keeps that does all of them; in a ``chain`` each reads what the one before made."""
    keeping = [op for op in ops if op.saved_bytes]
    if not keeping:
        return {}
    of = (
        min(keeping, key=lambda op: op.saved_bytes / op.calls) if chain else max(keeping, key=lambda op: op.saved_bytes)
    )
    calls = of.calls if chain else 1
    return {"saved_bytes": of.saved_bytes // calls, "weight_saved_bytes": of.weight_saved_bytes // calls}


def _norm_of_the_table(ops: Sequence[Op], carrier: Op, how: Execution) -> dict[str, Any]:
    """Costs and kept bytes of a norm as the op table has it, arithmetic as it was; empty where its size is not seen."""
    sized = next((op for op in ops if op.kind in _NORMS), None)
    if sized is None:
        return {}
    kind, flop = _NORMS[sized.kind]
    elements = round(sized.forward.vector_flop / sized.calls) // flop
    cost = OPS[kind](how, tokens=1, features=elements)
    gate = elements * how.precision.compute_bytes * any(op.kind == GATE for op in ops)
    forward, backward = cost.forward + Cost(read_bytes=gate), cost.backward + Cost(read_bytes=gate, write_bytes=gate)
    return {
        "forward": replace(forward, vector_flop=carrier.forward.vector_flop),
        "backward": replace(backward, vector_flop=carrier.backward.vector_flop),
        "saved_bytes": cost.saved_bytes + gate,
        "weight_saved_bytes": cost.weight_saved_bytes,
    }


def _passes(ops: Sequence[Op], joined: Mapping[str, str], *, chains_alone: bool) -> list[Op]:
    """Elementwise operators as passes, one a module.

    Args:
        ops: all of them.
        joined: labels that are part of another's pass.
        chains_alone: whether that holds of norms and activations alone, whose operators read what the one before made.
    """
    of = {op.label: joined.get(op.label, op.label) for op in ops}
    holding = _holding(ops)
    moved: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for op in filter(_is_elementwise, ops):
        moved[of[op.label]][op.kind] += round(_bytes(op)) * op.repeats
    most = {label: kinds.most_common(1)[0][0] for label, kinds in moved.items()}

    def as_it_runs(op: Op) -> Op:
        chain = op.layer_kind == "norm" or of[op.label] not in holding
        if not _is_elementwise(op) or (chains_alone and not chain):
            return op
        if op.kind != most[of[op.label]]:
            return _moving(op, 0.0)
        return _moving(op, 1 / op.calls) if chain else op

    return list(map(as_it_runs, ops))


def _holding(ops: Sequence[Op]) -> set[str]:
    """Modules that do more than a chain of elementwise operators."""
    return {op.label for op in ops if not _is_elementwise(op)} | {_parent(op.label) for op in ops}


def _parent(label: str) -> str:
    return label.rpartition(".")[0]


def _is_elementwise(op: Op) -> bool:
    return not op.forward.matmul_flop and not op.backward.matmul_flop


def _bytes(op: Op) -> float:
    return op.forward.moved_bytes + op.backward.moved_bytes


def _moving(op: Op, share: float) -> Op:
    """An operator that moves such a share; its arithmetic is the same."""
    passes = {name: getattr(op, name) for name in ("forward", "backward")}
    moving = {
        name: replace(cost, read_bytes=round(cost.read_bytes * share), write_bytes=round(cost.write_bytes * share))
        for name, cost in passes.items()
    }
    return replace(op, **moving)
