"""Which operations and weights does a captured model have at a shape? Those seen there, or between two that were."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
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
    model: CapturedModel, *, batch_size: int, seq_len: int, target_len: int, causal_half: bool
) -> tuple[Op, ...]:
    """The operations of a micro-batch, in the order in which they run, each as torch's own kernel.

    Costs are those of the captured batch, or on the straight line through two: a weight is read once whatever the
    batch, all else grows with it.

    Raises:
        InputError: it was captured at another length, or at one other batch size alone.
    """
    shots = [shot for shot in model.shots if (shot.seq_len, shot.target_len or shot.seq_len) == (seq_len, target_len)]
    for shot in shots:
        if shot.batch_size == batch_size:
            return tuple(_op(row, row, lambda low, _: low, causal_half=causal_half) for row in shot.rows)
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
    return tuple(_op(first, second, between, causal_half=causal_half) for first, second in pairs)


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
