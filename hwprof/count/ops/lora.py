"""What does low-rank adaptation change? Frozen weights need no gradient; narrow pairs of matrices beside some do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hwprof.count.ops.cost import Cost
from hwprof.count.ops.operation import Op
from hwprof.count.ops.parameter_tensor import ParameterTensor
from hwprof.specs.job.labels import layer_kind
from hwprof.specs.job.step import LoraSpec

QUANTIZED_WEIGHT_BYTES = 0.5 + (8 / 64 + 32 / (64 * 256)) / 8
"""A weight in NF4 with double quantization: 4 bits, a scale of 8 bits a block of 64, one of 32 bits for 256 of these
(Dettmers et al. 2023, section 3)."""

_PRODUCTS = frozenset({"linear", "expert_linear"})


def adapters(tensors: Sequence[ParameterTensor], lora: LoraSpec) -> tuple[ParameterTensor, ...]:
    """The trained pairs [r, in] and [out, r] of every matrix that has one; experts have one each."""
    pairs = []
    for tensor in tensors:
        if not is_target(tensor, lora):
            continue
        *experts, out, inside = tensor.shape
        pairs += [
            replace(tensor, shape=(*experts, lora.rank, inside)),
            replace(tensor, shape=(*experts, out, lora.rank)),
        ]
    return tuple(pairs)


def is_target(tensor: ParameterTensor, lora: LoraSpec) -> bool:
    """Whether a weight is a matrix of a layer that gets a pair; routers do not."""
    if len(tensor.shape) < 2 or "layers.*" not in tensor.label or tensor.label.endswith(("moe.router", "norm")):
        return False
    kind = layer_kind(tensor.label)
    return kind in {"attention", "ffn"} if lora.targets == "all" else kind == lora.targets


def frozen_bytes(tensor: ParameterTensor, lora: LoraSpec, weight_bytes: float) -> float:
    """An element of a frozen weight: quantized ones are the matrices of layers."""
    matrix = len(tensor.shape) > 1 and "layers.*" in tensor.label and not tensor.label.endswith("moe.router")
    return QUANTIZED_WEIGHT_BYTES if lora.quantized and matrix else weight_bytes


def adapted(op: Op, tensors: Sequence[ParameterTensor], lora: LoraSpec, compute_bytes: int) -> Op:
    """An operation of the frozen model, with the pair beside it if it has one.

    A frozen product makes no gradient of its weight, and keeps its input only for a pair; that adds products of
    2·N·r·(I + O) FLOP forward, twice that backward, and its narrow result. A quantized weight is widened while it is
    used. That nothing below the first pair needs a gradient is not counted.
    """
    own = [tensor for tensor in tensors if tensor.label == op.label and len(tensor.shape) > 1]
    if op.kind not in _PRODUCTS:
        return replace(op, parameters=0)
    backward = replace(op.backward, matmul_flop=op.backward.matmul_flop // 2)
    widened = sum(
        tensor.elements * compute_bytes for tensor in own if frozen_bytes(tensor, lora, compute_bytes) < compute_bytes
    )
    frozen = replace(op, parameters=0, backward=backward, input_bytes=op.input_bytes + widened)
    targets = [tensor for tensor in own if is_target(tensor, lora)]
    if not targets:
        return replace(frozen, saved_bytes=0)
    *_, out, inside = targets[0].shape
    narrow_bytes = op.output_bytes // out * lora.rank
    pair = Cost(matmul_flop=2 * narrow_bytes // compute_bytes * (inside + out))
    return replace(
        frozen,
        forward=op.forward + pair,
        backward=backward + pair * 2,
        parameters=sum(pair.elements for pair in adapters(targets, lora)),
        saved_bytes=op.saved_bytes + narrow_bytes,
    )
