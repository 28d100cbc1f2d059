"""What does one of several devices that share each layer keep and work on? Tensor, context and expert parallelism."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from hwprof.count.blocks.captured import CapturedPart, CapturedParts, captured_parts
from hwprof.count.ops.operation import Op
from hwprof.count.ops.parameter_tensor import ParameterTensor
from hwprof.specs.model.spec import ModelSpec

_SPLIT_KINDS = frozenset(
    {
        "attention_core",
        "attention_core_materialised",
        "attention_core_scores",
        "rope",
        "activation",
        "gated_activation",
        "cross_entropy",
    }
)
"""Op kinds that a tensor-parallel rank runs on its share of heads, features or vocabulary."""

COLUMN = ("query", "key", "value", "attention.kv", "gate", "up", "in_proj", "linear1", "head")
ROW = ("output", "down", "out_proj", "linear2")
"""Ends of labels of products that tensor ranks share by outputs, and by inputs."""

_ROW_PARALLEL = re.compile(
    r"(attention\.output|self_attn\.out_proj|ffn\.down|shared\.down|linear2|layers\.\*\.dropout)$"
)
"""Labels whose input is split though their result is whole."""

_HEAD_NORMS = re.compile(r"attention\.(query|key)_norm$")
"""Norms of queries and keys, which are split by heads (not those of latent attention)."""

_WHOLE = re.compile(
    r"((^|[._])norm[12]?|positions|token_types|class_tokens|moe\.router|moe\.shared\.switch|pooler|head\.transform"
    r"|attention\.(query_down|kv_down))$"
)
"""Labels of weights that every tensor-parallel rank has whole, with the products that they belong to."""


_OF_TOKENS = frozenset({"aten::index", "aten::index_select", "aten::gather"})
"""What brings tokens to experts, as wide as they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSplit:
    """How a layer is shared.

    Attributes:
        tensor_parallel: devices that share each layer's matrices by columns and rows (Shoeybi et al. 2019).
        sequence_parallel: between these matrices tokens are split (Korthikanti et al. 2022, section 4.2.2); else
            their inputs, norms and residuals are whole on each device (section 4.1).
        expert_parallel: devices over which the experts of a layer are spread.
        expert_tensor: devices that share the matrices of each expert.
        latent: attention is latent, its query and key norms come before the split by heads.
        keeps_gathered: a product that reads gathered tokens keeps them, where others gather them again in backward
            (torch's DTensor: ``ColwiseParallel`` redistributes its input before autograd sees the product).
        captured: how a captured model is shared, in place of rules by label.
        sums_split: a result that is summed over ranks is never whole on one of them: to XLA a product's result is what
            its sharding says, and the sum a part of it.
    """

    tensor_parallel: int
    sequence_parallel: bool
    expert_parallel: int
    expert_tensor: int
    latent: bool
    keeps_gathered: bool
    sums_split: bool = False
    captured: CapturedParts | None = None

    @property
    def expert_shards(self) -> int:
        """Into how many parts the experts' weights of a layer are split."""
        return self.expert_tensor * self.expert_parallel

    @property
    def stream_share(self) -> float:
        """Share of the residual stream that a device keeps."""
        return 1 / self.tensor_parallel if self.sequence_parallel else 1.0

    def elements_of(self, tensor: ParameterTensor) -> float:
        """Elements of a weight on one device."""
        if tensor.split is None:
            return self.parameters_of(tensor.label, tensor.elements)
        if tensor.experts > 1:
            return tensor.elements / self.expert_parallel / (self.expert_tensor if tensor.split else 1)
        return tensor.elements * tensor.share_of(self.tensor_parallel)

    def parameters_of(self, label: str, elements: float) -> float:
        """Elements of a weight on one device."""
        if self.captured:
            if self.captured.part_of(label) == "expert":
                return elements / self.expert_shards
            return elements * self.captured.share_of(label, self.tensor_parallel)
        if is_expert(label):
            return elements / self.expert_shards
        return elements if _WHOLE.search(label) else elements / self.tensor_parallel

    def of_op(self, op: Op) -> Op:
        """What one device keeps and works on for an op."""
        if self.tensor_parallel == self.expert_parallel == 1:
            return op
        captured = self.captured
        saved, given, made = self._captured_shares(captured, op) if captured else self._shares(op)
        weights = self.parameters_of(op.label, 1.0)
        return replace(
            op,
            parameters=round(op.parameters * weights),
            weight_copy_bytes=round(op.weight_copy_bytes * weights),
            saved_bytes=round(op.saved_bytes * saved),
            weight_saved_bytes=round(op.weight_saved_bytes * saved),
            input_bytes=round(op.input_bytes * given),
            output_bytes=round(op.output_bytes * made),
        )

    def _shares(self, op: Op) -> tuple[float, float, float]:
        """Shares of what is kept, of the inputs' size while working, and of the result's."""
        split, stream = 1 / self.tensor_parallel, self.stream_share
        if ".moe." in op.label and ".moe.shared" not in op.label:
            return self._expert_shares(op)
        if op.kind in _SPLIT_KINDS:
            return split, split, split
        if _ROW_PARALLEL.search(op.label):
            summed = op.kind == "linear" and not self.sums_split
            whole = 1.0 if summed else stream  # summed over ranks before it is split by tokens
            return split, split, whole
        if _HEAD_NORMS.search(op.label) and not self.latent:
            return split, split, split
        if op.kind == "linear" and not _WHOLE.search(op.label):
            return (1.0 if self.keeps_gathered else stream), 1.0, split  # tokens are gathered while it works
        return stream, stream, stream

    def _captured_shares(self, captured: CapturedParts, op: Op) -> tuple[float, float, float]:
        """As ``_shares``; of what is in layers without a way of its own, norms and sums between the shared parts."""
        split, stream = 1 / self.tensor_parallel, self.stream_share if op.in_layer else 1.0
        gathered, between = self.expert_tensor * split, captured.between_experts(op.label) if op.parameters else 1.0
        if op.kind in _OF_TOKENS:
            between = 0.0
        shares: dict[CapturedPart, tuple[float, float, float]] = {
            "column": (1.0 if self.keeps_gathered else stream, 1.0, split),
            "row": (split, split, 1.0),
            "inside": (split, split, split),
            "expert": (gathered + between * (split - gathered), gathered, split),
            "gathered": (1.0, 1.0, 1.0),
        }
        return shares.get(captured.part_of(op.label), (stream, stream, stream))

    def _expert_shares(self, op: Op) -> tuple[float, float, float]:
        """Each device has its tokens' share; devices that share an expert's matrices gather them."""
        split = 1 / self.tensor_parallel
        gathered = self.expert_tensor * split
        if op.kind == "expert_linear" and not op.label.endswith(".down"):
            return gathered, gathered, split
        return split, split, split


def is_expert(label: str) -> bool:
    """Whether a label belongs to routed experts, which expert parallelism spreads."""
    return ".moe.experts." in label


def way_of(model: ModelSpec, label: str) -> CapturedPart:
    """How tensor ranks share a product: by what a captured class says, else by the label."""
    if model.captured:
        return captured_parts(model).part_of(label)
    return "column" if label.endswith(COLUMN) else "row" if label.endswith(ROW) else "whole"


def split_share(model: ModelSpec, label: str, ranks: int) -> float:
    """Share of a split product's outputs that one of so many ranks makes."""
    return captured_parts(model).share_of(label, ranks) if model.captured else 1 / ranks
