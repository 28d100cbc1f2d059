"""Which operations and weights does a captured model have at a shape? Those seen there, or between two that were."""

from __future__ import annotations

import functools
import math
import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from hwprof.count.ops.cost import Cost
from hwprof.count.ops.operation import Op
from hwprof.count.ops.parameter_tensor import ParameterTensor
from hwprof.errors import InputError
from hwprof.specs.job.settings import LayerKind
from hwprof.specs.model.captured import CapturedCost, CapturedModel, CapturedRow, CapturedShot
from hwprof.specs.model.mixing import MIXES
from hwprof.specs.model.sharing import block_of, narrow_widths
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


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturedParts:
    """Which labels of a captured model are shared, and how.

    Attributes:
        ways: of those with weights.
        blocks: modules that hold matrices which are split by their outputs.
        tensors: the weights of each label.
        expert_width: numbers of a token that go to each expert.
    """

    ways: Mapping[str, CapturedPart]
    blocks: frozenset[str]
    tensors: Mapping[str, tuple[ParameterTensor, ...]]
    expert_width: int = 1

    def part_of(self, label: str) -> CapturedPart:
        """How what runs under a label is shared."""
        own = self.ways.get(label)
        if own is not None:
            return own
        if self.ways.get(label.rpartition(".")[0]) == "expert":
            return "expert"
        inside = any(label == block or label.startswith(f"{block}.") for block in self.blocks)
        return "inside" if inside else "whole"

    def between_experts(self, label: str) -> float:
        """Of what products with experts read, the share that lies between an expert's matrices."""
        stacks = [tensor for tensor in self.tensors.get(label, ()) if tensor.experts > 1 and len(tensor.shape) > 1]
        inner = sum(math.prod(each.shape[-2:]) / self.expert_width for each in stacks if each.split == "row")
        outer = sum(self.expert_width for each in stacks if each.split != "row")
        return inner / (inner + outer) if stacks else 1.0

    def share_of(self, label: str, ranks: int) -> float:
        """Share of a label's weights, experts not among them, that a rank of so many has."""
        tensors = [tensor for tensor in self.tensors.get(label, ()) if tensor.experts == 1]
        elements = sum(tensor.total for tensor in tensors)
        return sum(tensor.total * tensor.share_of(ranks) for tensor in tensors) / elements if elements else 1.0


@functools.lru_cache(maxsize=64)
def captured_parts(spec: ModelSpec) -> CapturedParts:
    """By what its class says (``base_model_tp_plan``), by the sizes of what it leaves open, and by its experts."""
    assert spec.captured
    ways: dict[str, CapturedPart] = {}
    tensors: defaultdict[str, list[ParameterTensor]] = defaultdict(list)
    for tensor in captured_tensors(spec.captured):
        tensors[tensor.label].append(tensor)
    for label, own in tensors.items():
        split = [tensor.split for tensor in own if tensor.split]
        way: CapturedPart = "expert" if any(tensor.experts > 1 for tensor in own) else split[0] if split else "whole"
        ways[label] = way
    columns = [label for label, way in ways.items() if way == "column" and _IN_BLOCK.match(label)]
    blocks = frozenset(map(block_of, columns))
    narrow = {block: narrow_widths(spec.captured.tensors, block, spec.d_model) for block in blocks}
    for label, own in tensors.items():
        block = next((each for each in sorted(blocks, reverse=True) if f"{label}.".startswith(f"{each}.")), None)
        vectors = all(len(tensor.shape) == 1 for tensor in own)
        if block and ways[label] == "whole" and vectors and not narrow[block] & {tensor.shape[0] for tensor in own}:
            del ways[label]  # norms of heads: each rank has the weights of all, and works on its own
    if "head" not in ways:  # it multiplies the table of tokens
        for table in [label for label, way in ways.items() if way == "gathered" and "layers.*" not in label][:1]:
            ways["head"], tensors["head"] = "gathered", tensors[table]
    return CapturedParts(
        ways=ways,
        blocks=blocks,
        tensors={label: tuple(own) for label, own in tensors.items()},
        expert_width=spec.captured.expert_width(spec.d_model),
    )


@functools.lru_cache(maxsize=64)
def tokens_split(spec: ModelSpec) -> bool:
    """Whether tokens can be split between what tensor ranks share: nothing is gathered, nor mixes tokens on each."""
    if spec.captured is None:
        return True
    parts, layers = captured_parts(spec), [row for row in spec.captured.shots[0].rows if "layers.*" in row.label]
    mixing = {parts.part_of(row.label) for row in layers if row.kind in MIXES or row.kind == "attention_core"}
    gathers = any(parts.part_of(row.label) == "gathered" for row in layers)
    return bool(spec.captured.ruled_share and spec.mixing) and not gathers and "whole" not in mixing


def summed_streams(spec: ModelSpec) -> float:
    """How often tensor ranks sum the residual stream after the average layer; an all-gather is half a sum.

    Routed and shared experts of a layer are one sum, as in Megatron-Core, whose dispatcher counts as expert traffic.
    """
    if spec.captured is None:
        return 2.0 if spec.block == "sequential" else 1.0
    _, _, routed = spec.captured.routed
    total = float(routed)
    for tensor in spec.captured.tensors:
        beside = routed and "shared" in tensor.label
        if tensor.experts == 1 and "layers.*" in tensor.label and len(tensor.shape) > 1 and not beside:
            total += _SUMS.get(tensor.split, 0.0) * tensor.repeats * tensor.shape[0] / spec.d_model
    return total / spec.layers


_SUMS = {"row": 1.0, "gathered": 0.5}

_IN_BLOCK = re.compile(r"layers\.\*\.[^.]+\..")
"""Labels of what a module of a layer holds, not the layer itself."""


def captured_tensors(model: CapturedModel) -> tuple[ParameterTensor, ...]:
    """Its weights."""
    return tuple(ParameterTensor(**tensor.model_dump(exclude={"ruled"})) for tensor in model.tensors)


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
