"""Which operations and weights does a captured model have at a shape? Those seen there, or between two that were."""

from __future__ import annotations

import functools
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

from hwprof.count.ops.cost import Cost
from hwprof.count.ops.operation import Op
from hwprof.count.ops.parameter_tensor import ParameterTensor
from hwprof.errors import InputError
from hwprof.specs.job.settings import LayerKind
from hwprof.specs.model.captured import CapturedCost, CapturedModel, CapturedRow, CapturedShot
from hwprof.specs.model.spec import ModelSpec

Mixed = Callable[[int, int], int]


def captured_model_ops(
    model: CapturedModel, *, batch_size: int, seq_len: int, target_len: int, causal_half: bool, fused: bool
) -> tuple[Op, ...]:
    """The operations of a micro-batch, in the order in which they run.

    Where kernels are fused, the elementwise operators of one module, and of those without weights in it, are one pass:
    it moves and keeps what the kind of them does that moves most; in a norm or an activation one call of it, since each
    reads what the one before made.

    Costs are those of the captured batch, or on the straight line through two: a weight is read once whatever the
    batch, all else grows with it.

    Raises:
        InputError: it was captured at another length, or at one other batch size alone.
    """
    shots = [shot for shot in model.shots if (shot.seq_len, shot.target_len or shot.seq_len) == (seq_len, target_len)]
    for shot in shots:
        if shot.batch_size == batch_size:
            same = [_op(row, row, lambda low, _: low, causal_half=causal_half) for row in shot.rows]
            return tuple(_fused(same) if fused else same)
    if len(shots) < 2 or not _alike(shots[0], shots[1]):
        seen = ", ".join(f"{shot.batch_size} x {shot.seq_len}" for shot in model.shots)
        raise InputError(
            f"{model.by} was captured at {seen} tokens, not at {batch_size} x {seq_len}",
            remedy="ask for a batch and a length that were captured",
        )
    low, high = shots[:2]
    share = (batch_size - low.batch_size) / (high.batch_size - low.batch_size)

    def between(first: int, second: int) -> int:
        return max(0, round(first + share * (second - first)))

    pairs = zip(low.rows, high.rows, strict=True)
    ops = [_op(first, second, between, causal_half=causal_half) for first, second in pairs]
    return tuple(_fused(ops) if fused else ops)


def single_chains(ops: Sequence[Op]) -> list[Op]:
    """The same with each norm and each activation as one pass, as the op table has them whatever runs them."""
    return _passes(ops, {}, chains_alone=True)


def _fused(ops: Sequence[Op]) -> list[Op]:
    working = {op.label for op in ops if not _is_elementwise(op) or op.parameters}
    norms = {op.label for op in ops if op.layer_kind == "norm"}
    labels = {op.label for op in ops}
    joined = {label: _parent(label) for label in labels - working - norms if _parent(label) in labels}
    return _passes(ops, joined, chains_alone=False)


def _passes(ops: Sequence[Op], joined: Mapping[str, str], *, chains_alone: bool) -> list[Op]:
    """Elementwise operators as passes, one a module.

    Args:
        ops: all of them.
        joined: labels that are part of another's pass.
        chains_alone: whether that holds of norms and activations alone, whose operators read what the one before made.
    """
    of = {op.label: joined.get(op.label, op.label) for op in ops}
    holding = {op.label for op in ops if not _is_elementwise(op)} | {_parent(label) for label in of}
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


def _parent(label: str) -> str:
    return label.rpartition(".")[0]


def _is_elementwise(op: Op) -> bool:
    return not op.forward.matmul_flop and not op.backward.matmul_flop


def _bytes(op: Op) -> float:
    return op.forward.moved_bytes + op.backward.moved_bytes


def _moving(op: Op, share: float) -> Op:
    """An operator that moves and keeps such a share; its arithmetic is the same."""
    passes = {name: getattr(op, name) for name in ("forward", "backward")}
    moving = {
        name: replace(cost, read_bytes=round(cost.read_bytes * share), write_bytes=round(cost.write_bytes * share))
        for name, cost in passes.items()
    }
    kept = (
        {name: round(getattr(op, name) * share) for name in ("saved_bytes", "weight_saved_bytes")} if not share else {}
    )
    return replace(op, **kept, **moving)


def backward_flop(op: Op) -> float:
    """Products that kernels do backward.

    Torch's counter takes the gradient of a grouped convolution's kernel as if it had no groups; kernels multiply as
    much as forward.
    """
    flop = op.backward.matmul_flop
    return min(flop, 2 * op.forward.matmul_flop) if op.kind == _CONVOLUTION else flop


_CONVOLUTION = "aten::convolution"


CapturedPart = Literal["column", "gathered", "row", "expert", "inside", "whole"]
"""Of a layer that tensor ranks share: a matrix that is split by its outputs, by outputs that are gathered at once, by
inputs, an expert's; what works on the outputs of the first; what each rank does whole."""

_RENAMED = (
    *(".attention.query", ".attention.key", ".attention.value", ".attention.output"),
    *(".ffn.gate", ".ffn.up", ".ffn.down"),
)
"""What labels say in place of the names of transformers' projections."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturedParts:
    """Which labels of a captured model are shared, and how.

    Attributes:
        ways: of those with weights.
        blocks: modules that hold matrices which are split by their outputs.
    """

    ways: Mapping[str, CapturedPart]
    blocks: frozenset[str]

    def part_of(self, label: str) -> CapturedPart:
        """How what runs under a label is shared."""
        own = self.ways.get(label)
        if own is not None:
            return own
        inside = any(label == block or label.startswith(f"{block}.") for block in self.blocks)
        return "inside" if inside else "whole"


@functools.lru_cache(maxsize=64)
def captured_parts(spec: ModelSpec) -> CapturedParts:
    """By what its class says (``base_model_tp_plan``), and by its experts."""
    ways: dict[str, CapturedPart] = {}
    for tensor in spec.captured.tensors if spec.captured else ():
        way: CapturedPart = "expert" if tensor.experts > 1 else tensor.split or "whole"
        if ways.get(tensor.label, "whole") == "whole":
            ways[tensor.label] = way
    columns = [label for label, way in ways.items() if way == "column" and "layers.*" in label]
    return CapturedParts(ways=ways, blocks=frozenset(map(_block_of, columns)))


def _block_of(label: str) -> str:
    ending = next((each for each in _RENAMED if label.endswith(each)), f".{label.rpartition('.')[2]}")
    return label.removesuffix(ending)


def captured_tensors(model: CapturedModel) -> tuple[ParameterTensor, ...]:
    """Its weights."""
    return tuple(ParameterTensor(**tensor.model_dump()) for tensor in model.tensors)


def _alike(low: CapturedShot, high: CapturedShot) -> bool:
    """Whether two passes have the same rows, in the same order."""

    def names(shot: CapturedShot) -> list[tuple[str, str, int]]:
        return [(row.label, row.kind, row.repeats) for row in shot.rows]

    return names(low) == names(high)


def _op(low: CapturedRow, high: CapturedRow, mixed: Mixed, *, causal_half: bool) -> Op:
    def cost(name: str) -> Cost:
        first, second = getattr(low, name), getattr(high, name)
        return _cost(first, second, mixed, causal_half=causal_half)

    amounts: dict[str, Any] = {
        name: mixed(getattr(low, name), getattr(high, name))
        for name in ("saved_bytes", "weight_copy_bytes", "output_bytes")
    }
    frozen = mixed(low.saved_bytes - low.weight_saved_bytes, high.saved_bytes - high.weight_saved_bytes)
    amounts["weight_saved_bytes"] = amounts["saved_bytes"] - frozen
    return Op(
        label=low.label,
        kind=low.kind,
        layer_kind=cast("LayerKind", low.layer_kind),
        repeats=low.repeats,
        calls=low.calls,
        forward=cost("forward"),
        backward=cost("backward"),
        recompute=cost("recompute"),
        parameters=low.parameters,
        **amounts,
    )


def _cost(low: CapturedCost, high: CapturedCost, mixed: Mixed, *, causal_half: bool) -> Cost:
    products = "causal_matmul_flop" if causal_half else "matmul_flop"
    return Cost(
        matmul_flop=mixed(getattr(low, products), getattr(high, products)),
        vector_flop=mixed(low.vector_flop, high.vector_flop),
        read_bytes=mixed(low.read_bytes, high.read_bytes),
        write_bytes=mixed(low.write_bytes, high.write_bytes),
    )
