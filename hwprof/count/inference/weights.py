"""Which bytes of weights does inference hold and read? Quantised matrices, tied heads, experts that a batch meets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, Self

from hwprof.count.blocks.parameters import ParameterTensor, parameter_tensors
from hwprof.count.inference.serving import INT4_GROUP, ROW_SCALE_BYTES, Serving
from hwprof.count.ops.operation import Op
from hwprof.specs.model.spec import ModelSpec

_LOOKUPS = frozenset({"embedding", "added_rows", "fixed_table", "relative_bias"})
"""Op kinds that read rows of a table, which their own cost counts, and not all of it."""

_ALWAYS_WIDE = ("moe.router", "shared.switch")
"""Ends of labels of matrices that decide about experts, which quantisation leaves alone."""


class WeightRead(NamedTuple):
    """Weights that one instance of an op reads.

    Attributes:
        size_bytes: as stored, scales included.
        widened: elements that are not stored in the width of the product, and are multiplied by a scale.
    """

    size_bytes: int
    widened: int


def expected_experts(experts: int, top_k: int, tokens: int) -> float:
    """How many different experts of a layer ``tokens`` tokens meet, expected: n · (1 - (1 - k/n)^T).

    Each token takes k of n experts, all sets of k being equally likely, and tokens choose independently. A router that
    prefers some experts, or tokens that choose alike, meet fewer.
    """
    return experts * (1 - (1 - top_k / experts) ** tokens)


def stored_bytes(tensor: ParameterTensor, serving: Serving) -> int:
    """Bytes of one instance of a weight; in int4, each row of 128 numbers (or fewer) has a 2-byte scale."""
    if not _quantised(tensor, serving):
        return tensor.elements * serving.compute_bytes
    inside = tensor.shape[-1]
    rows = tensor.elements // inside
    if serving.weights == "int4":
        return rows * (-(-inside // 2) + 2 * -(-inside // INT4_GROUP))
    return tensor.elements + rows * ROW_SCALE_BYTES


def weights_bytes(spec: ModelSpec, serving: Serving) -> int:
    """Bytes of all weights of a model (a tied head counts once)."""
    return sum(stored_bytes(tensor, serving) * tensor.repeats for tensor in parameter_tensors(spec))


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """The weights of each op.

    Attributes:
        serving: how they are stored.
        tensors: by label of the op.
    """

    serving: Serving
    tensors: dict[str, tuple[ParameterTensor, ...]]

    @classmethod
    def of(cls, spec: ModelSpec, serving: Serving) -> Self:
        """The weights of a model; a tied head reads the token table."""
        tensors: dict[str, tuple[ParameterTensor, ...]] = {}
        for tensor in parameter_tensors(spec):
            tensors[tensor.label] = (*tensors.get(tensor.label, ()), tensor)
        if spec.tied_embeddings and spec.head.kind in {"linear", "masked_lm"}:
            tensors["head"] = (*tensors["embedding.tokens"], *tensors.get("head", ()))
        return cls(serving=serving, tensors=tensors)

    def read_by(self, op: Op, *, tokens: int) -> WeightRead:
        """What one instance of ``op`` reads for ``tokens`` tokens: of experts, as many as they are expected to meet."""
        if op.kind in _LOOKUPS:
            return WeightRead(0, 0)
        size = widened = 0.0
        for tensor in self.tensors.get(op.label, ()):
            share = expected_experts(tensor.experts, tensor.top_k, tokens) / tensor.experts
            size += share * stored_bytes(tensor, self.serving)
            widened += share * tensor.elements * _quantised(tensor, self.serving)
        return WeightRead(round(size), round(widened))

    def least_bytes(self, ops: Iterable[Op], *, tokens: int) -> int:
        """What all instances of the ops read of weights, each weight once."""
        return sum(op.repeats * self.read_by(op, tokens=tokens).size_bytes for op in ops)


def _quantised(tensor: ParameterTensor, serving: Serving) -> bool:
    in_layer = "layers.*" in tensor.label and not tensor.label.endswith(_ALWAYS_WIDE)
    return serving.weights is not None and in_layer and len(tensor.shape) == (3 if tensor.experts > 1 else 2)
