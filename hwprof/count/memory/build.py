"""How do operations and weights become pieces of memory? Sorted into embedding, two sorts of layers, and head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from hwprof.count.blocks.parameters import ENCODER, MTP
from hwprof.count.job.recompute import kept_of_layer, module_of
from hwprof.count.job.storage import Storage
from hwprof.count.job.tensor_split import TensorSplit, is_expert
from hwprof.count.memory.loss import Loss
from hwprof.count.memory.optimizer import state_bytes, temporary_bytes
from hwprof.count.memory.pieces import Block, Held, Pieces, Rules, end_block, layer_block, mixed
from hwprof.count.ops.operation import Op
from hwprof.count.ops.parameter_tensor import ParameterTensor
from hwprof.specs.job.settings import OptimizerImplementation, Recompute
from hwprof.specs.job.switches import JobOptimizer, Selective
from hwprof.specs.model.spec import ModelSpec

NARROW_BYTES = 1
"""A weight that is gathered in 8 bits."""

Place = Literal["before", "leading", "body", "after"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What the pieces are made from: operations and weights of one device of a group that shares layers.

    Attributes:
        spec: the model.
        ops: one micro-batch, embedding to head, as one device runs them.
        tensors: the weights that are trained, whole.
        frozen: bytes of an element of each weight that is not.
        split: how layers are shared.
        storage: formats.
        optimizer: the optimizer.
        implementation: how it steps.
        recompute: what layers do not keep.
        selective: what ``selective`` recompute runs again.
        recomputed_share: in what share of the layers; the others keep everything.
        compiled: a compiler decides what a layer's policy really has to keep.
        narrow_weights: matrices of layers are stored, or gathered, in 8 bits; products hold what they need of them.
        stream_bytes: the residual stream between two layers, on this device.
    """

    spec: ModelSpec
    ops: Sequence[Op]
    tensors: Sequence[ParameterTensor]
    frozen: Sequence[tuple[ParameterTensor, float]]
    split: TensorSplit
    storage: Storage
    optimizer: JobOptimizer
    implementation: OptimizerImplementation
    recompute: Recompute
    selective: tuple[Selective, ...]
    recomputed_share: float
    compiled: bool
    narrow_weights: bool
    stream_bytes: float

    @property
    def counts(self) -> dict[Place, int]:
        """How many blocks of each sort there are."""
        leading = leading_layers(self.spec)
        return {"before": 1, "leading": leading, "body": all_layers(self.spec) - leading, "after": 1}

    def holders(self, label: str) -> int:
        """How many blocks share the instances of an operation or weight."""
        return sum(self.counts[place] for place in places(label, self.spec))


def leading_layers(spec: ModelSpec) -> int:
    """How many layers come first that are not like the others: an encoder's, dense ones before experts."""
    if spec.encoder:
        return spec.encoder.layers
    return spec.moe.dense_layers if spec.moe and spec.moe.every == 1 else 0


def all_layers(spec: ModelSpec) -> int:
    """Layers in a row, without those that predict further tokens."""
    return spec.layers + (spec.encoder.layers if spec.encoder else 0)


def places(label: str, spec: ModelSpec) -> tuple[Place, ...]:
    """Where an operation, or the weight of one, belongs."""
    if label.startswith(MTP):
        return ("after",)
    if "layers.*" in label:
        if spec.encoder:
            return ("leading",) if label.startswith(ENCODER) else ("body",)
        if not leading_layers(spec):
            return ("body",)
        if ".ffn." in label:
            return ("leading",)
        return ("body",) if ".moe." in label else ("leading", "body")
    leads_in = "embedding" in label or label.startswith(ENCODER)
    return ("before",) if leads_in else ("after",)


def pieces_of(work: Workload, loss: Loss) -> Pieces:
    """The pieces of a model, as one device sees them."""
    blocks = {place: _block_at(work, place) for place, count in work.counts.items() if count}
    shared = [tensor for tensor in work.tensors if tensor.label == "embedding.tokens" and work.spec.tied_embeddings]
    return Pieces(
        leading_layers=work.counts["leading"],
        layers=all_layers(work.spec),
        before=blocks["before"],
        leading=blocks.get("leading", Block()),
        body=blocks.get("body", Block()),
        after=blocks["after"],
        tied=_held(work, shared, []),
        loss_kept_bytes=loss.kept_bytes,
        loss_working_bytes=loss.working_bytes,
        lasting_logits_bytes=loss.lasting_bytes,
        loss_at_head_bytes=loss.at_head_bytes,
        stream_bytes=work.stream_bytes,
        placeholder_bytes=_placeholder_bytes(work),
        live_bytes=work.storage.live_elements * work.storage.gathered_bytes,
        bucket_bytes=work.storage.bucket_elements * work.storage.gradient_bytes,
        narrows_in_use=work.storage.narrows_in_use,
        lasting_gradients=work.storage.lasting_gradients,
        bucketed_gradients=work.storage.framework == "torch",
        keeps_ends=work.storage.framework != "xla",
        whole_gradient_share=_whole_bytes(work) / work.storage.gradient_bytes,
        freed_logits_bytes=loss.freed_bytes,
        expert_replication=work.split.tensor_parallel / work.split.expert_shards,
    )


def _block_at(work: Workload, place: Place) -> Block:
    """A block of the operations and weights that it has on average, since only some may have one (a window)."""
    found = [op for op in work.ops if place in places(op.label, work.spec)]
    ops = [_times(op, op.repeats / work.holders(op.label)) for op in found]
    dense, experts = (
        _held(
            work,
            [tensor for tensor in work.tensors if _belongs(tensor, place, work.spec) and _routed(tensor) == routed],
            [pair for pair in work.frozen if _belongs(pair[0], place, work.spec) and _routed(pair[0]) == routed],
        )
        for routed in (False, True)
    )
    if place in {"before", "after"}:
        return end_block(ops, _rules(work, "none", layer=False), dense=dense, experts=experts)
    block = layer_block(ops, _rules(work, work.recompute, layer=True), dense=dense, experts=experts)
    if work.recompute == "none" or work.recomputed_share == 1:
        return block
    plain = layer_block(ops, _rules(work, "none", layer=True), dense=dense, experts=experts)
    return mixed(block, plain, work.recomputed_share)


def _routed(tensor: ParameterTensor) -> bool:
    return is_expert(tensor.label) if tensor.split is None else tensor.experts > 1


def _belongs(tensor: ParameterTensor, place: Place, spec: ModelSpec) -> bool:
    return place in places(tensor.label, spec)


def _times(op: Op, share: float) -> Op:
    """What a block has of an op on average; where it has several, they work one after another."""
    if share == 1:
        return op
    amounts = ("parameters", "saved_bytes", "weight_saved_bytes", "weight_copy_bytes")
    return replace(op, **{name: round(getattr(op, name) * share) for name in amounts})


def _held(work: Workload, tensors: Sequence[ParameterTensor], frozen: Sequence[tuple[ParameterTensor, float]]) -> Held:
    """What the weights of one block take on one device."""
    storage = work.storage
    largest_bytes, all_bytes = temporary_bytes(work.optimizer, work.implementation, moment_bytes=storage.moment_bytes)
    own = [(tensor, work.split.elements_of(tensor)) for tensor in tensors]
    times = [tensor.repeats / work.holders(tensor.label) for tensor in tensors]
    counted = [(tensor, size * often) for (tensor, size), often in zip(own, times, strict=True)]
    elements = sum(size for _, size in counted)
    narrow = sum(size for tensor, size in counted if work.narrow_weights and _is_matrix(tensor))
    stored = elements - narrow if storage.lasting_gradients else elements
    still = [
        (work.split.elements_of(tensor) * tensor.repeats / work.holders(tensor.label), width)
        for tensor, width in frozen
    ]
    master = storage.master_bytes + storage.owned_gradient_bytes
    state = sum(
        often * state_bytes(tensor, size, work.optimizer, moment_bytes=storage.moment_bytes, master_bytes=master)
        for (tensor, size), often in zip(own, times, strict=True)
    )
    return Held(
        weights_bytes=stored * storage.weight_bytes + sum(size * width for size, width in still),
        gradient_bytes=elements * (storage.gradient_bytes + storage.second_gradient_bytes),
        state_bytes=state,
        gathered_bytes=(elements - narrow) * storage.gathered_bytes
        + narrow * NARROW_BYTES
        + sum(size * min(width, storage.gathered_bytes) for size, width in still),
        reduced_bytes=elements * storage.reduced_bytes,
        step_bytes=elements * all_bytes,
        largest_step_bytes=largest_bytes * max((size for _, size in own), default=0.0),
    )


def _is_matrix(tensor: ParameterTensor) -> bool:
    """Whether it is a matrix of a layer that products read in a narrow format."""
    return len(tensor.shape) > 1 and "layers.*" in tensor.label and not tensor.label.endswith("moe.router")


def _placeholder_bytes(work: Workload) -> float:
    """One empty gradient for each shape of matrix in a layer; projections that share their input are one matrix."""
    if not work.storage.placeholders:
        return 0.0
    matrices = [tensor for tensor in work.tensors if tensor.label.startswith("layers.*") and _is_matrix(tensor)]
    elements = sum(work.split.elements_of(tensor) for tensor in matrices if tensor.experts == 1)
    expert = sum(tensor.elements / tensor.experts for tensor in matrices if tensor.experts > 1)
    shared = max(1.0, work.split.expert_shards / work.split.expert_parallel)
    return (elements + expert / shared) * work.storage.fresh_bytes


def _rules(work: Workload, recompute: Recompute, *, layer: bool) -> Rules:
    selective = work.selective if recompute == "selective" else ()
    return Rules(
        module_of=lambda op: module_of(op, selective),
        again=lambda ops: kept_of_layer(
            ops, recompute, selective, stream_bytes=work.stream_bytes, compiled=work.compiled
        ),
        gradient_bytes=work.storage.gradient_bytes,
        whole_bytes=_whole_bytes(work),
        fresh_bytes=0.0 if layer and work.storage.placeholders else work.storage.fresh_bytes,
        stream_bytes=work.stream_bytes,
    )


def _whole_bytes(work: Workload) -> float:
    """Of an element of a gradient that waits to be reduced: as products write it, where FSDP gathers narrow weights."""
    return min(work.storage.fresh_bytes, work.storage.gradient_bytes)
