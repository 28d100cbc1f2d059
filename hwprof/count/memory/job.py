"""How much memory does a training job need on each device, under any parallel layout?

``job_pieces`` depends on micro-batch, sequence, formats, recompute and on the tensor, context and expert degrees;
``spread_of`` says how the pieces are spread over a pipeline and replicas. ``memory_moments.peak_bytes`` puts any number
of spreads together at once.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace

from hwprof.count.blocks.captured import captured_parts, tokens_split
from hwprof.count.blocks.parameters import parameter_tensors
from hwprof.count.job.ops import micro_batch_ops, recomputed_share, trained_tensors
from hwprof.count.job.storage import Storage, job_storage
from hwprof.count.job.tensor_split import TensorSplit
from hwprof.count.memory.build import Workload, pieces_of
from hwprof.count.memory.loss import job_loss
from hwprof.count.memory.moments import Spread, host_bytes, reserved_bytes
from hwprof.count.memory.overhead import allocator_bytes, layout_libraries_bytes
from hwprof.count.memory.pieces import Pieces
from hwprof.count.memory.step import MemoryNeed, gradient_owner, memory_need
from hwprof.count.ops.lora import frozen_bytes
from hwprof.count.ops.operation import Op
from hwprof.count.ops.vector import ROPE_BYTES
from hwprof.specs.job.step import TrainingJob
from hwprof.specs.model.mixing import is_attention

_NARROW_DTYPES = {"fp8": 1.0, "fp4": 0.5625}
"""Bytes of an element that a product reads; in fp4 a scale of one byte serves 16 elements."""


def job_memory(job: TrainingJob) -> MemoryNeed:
    """Peak memory of the device that needs most, part by part, and the peak of every stage.

    Raises:
        InputError: a sequence beyond learned positions.
    """
    pieces, spread = job_pieces(job), spread_of(job)
    need = memory_need(pieces, spread)
    reserved = float(reserved_bytes(pieces, spread))
    on_host = job.offload != "none" and job.offload_to == "host"
    return replace(
        need,
        host_bytes=float(host_bytes(pieces, spread)) if on_host else 0.0,
        pools_bytes=max(reserved - need.peak_bytes, 0.0),
        allocator_bytes=allocator_bytes(reserved, job.framework),
        libraries_bytes=layout_libraries_bytes(job.layout, job.framework),
    )


def spread_of(job: TrainingJob) -> Spread:
    """How a job's pieces are spread over its pipeline and replicas."""
    layout = job.layout
    return Spread(
        stages=layout.pipeline_parallel,
        virtual_stages=layout.virtual_stages,
        micro_batches=job.micro_batches,
        replicas=layout.replicas,
        shards=layout.shards,
        zero_stage=layout.zero_stage,
        schedule=layout.schedule,
    )


def job_pieces(job: TrainingJob) -> Pieces:
    """The job's model in pieces, as one device sees them.

    They do not depend on ``global_batch``, ``pipeline_parallel``, ``virtual_stages``, ``zero_stage``, ``shard_ranks``
    and ``schedule``, and on ``data_parallel`` only as far as ``expert_tensor_parallel`` does.

    Raises:
        InputError: a sequence beyond learned positions.
    """
    layout = job.layout.changed(
        data_parallel=job.layout.fewest_data_ranks,
        pipeline_parallel=1,
        virtual_stages=1,
        zero_stage=0,
        shard_ranks=None,
        schedule="1f1b",
        overlap=True,
    )
    return _pieces(job.changed(global_batch=job.micro_batch * layout.data_parallel, layout=layout))


@functools.lru_cache(maxsize=512)
def _pieces(job: TrainingJob) -> Pieces:
    """Of a job whose pieces depend on all that it states."""
    spec, layout, storage = job.model, job.layout, job_storage(job)
    split = TensorSplit(
        tensor_parallel=layout.tensor_parallel,
        sequence_parallel=layout.sequence_parallel and layout.tensor_parallel > 1 and tokens_split(spec),
        expert_parallel=layout.expert_parallel if spec.routed[1] else 1,
        expert_tensor=layout.expert_tensor_parallel,
        latent=spec.mla is not None,
        keeps_gathered=storage.framework == "torch",
        sums_split=storage.framework == "xla",
        captured=captured_parts(spec) if spec.captured else None,
    )
    ops = _device_ops(job, storage, split)
    tensors, lora = parameter_tensors(spec), job.lora
    tokens, frozen = job.micro_batch * _local_len(job), storage.precision.weight_bytes
    if lora and lora.quantized:
        frozen = storage.precision.residual_bytes
    work = Workload(
        spec=spec,
        ops=[op for op in ops if op.layer_kind != "loss"],
        tensors=trained_tensors(job),
        frozen=[(each, frozen_bytes(each, lora, frozen, job.adapter_library)) for each in tensors]
        if lora
        else [(each, storage.weight_bytes) for each in tensors if not each.trained],
        split=split,
        storage=storage,
        optimizer=job.optimizer,
        implementation=job.optimizer_implementation,
        recompute=job.recompute,
        selective=job.selective,
        recomputed_share=recomputed_share(job),
        compiled=job.compiled,
        narrow_weights=job.fp8_all_gather and job.dtype in _NARROW_DTYPES,
        stream_bytes=tokens * spec.d_model * storage.precision.residual_bytes * split.stream_share,
    )
    loss = job_loss(job, ops, storage)
    return replace(
        pieces_of(work, loss),
        pipeline_output_bytes=loss.output_bytes if job.pipeline_outputs else 0.0,
        prefetched_layers=job.prefetch_layers,
        streams=storage.framework == "torch",
        tables_bytes=job.seq_len * spec.head_dim * ROPE_BYTES if spec.positions == "rope" else 0,
        state_on_device=float(not (job.offloads("optimizer") or job.optimizer_paged)),
        gradients_on_device=float(not _gradients_leave(job)),
        weights_on_device=float(not job.offloads("weights")),
        activations_on_device=1 - _offloaded_share(job),
    )


def _gradients_leave(job: TrainingJob) -> bool:
    """Whether gradients do not wait on the device for the update."""
    to_host = job.offloads("weights") or (job.offloads("optimizer") and job.offload_each_micro_batch)
    return job.update_in_backward or to_host


def _offloaded_share(job: TrainingJob) -> float:
    """Share of the layers whose activations go to the host."""
    layers = job.model.layers
    return min((job.offload_layers or layers) / layers, 1.0) if job.offloads("activations") else 0.0


def _local_len(job: TrainingJob) -> int:
    return -(-job.seq_len // job.layout.context_parallel)


def _device_ops(job: TrainingJob, storage: Storage, split: TensorSplit) -> list[Op]:
    """The operations of one micro-batch as one device runs them, with its share of tokens, heads and experts."""
    spec = job.model
    seen = job.seq_len if spec.captured else _local_len(job)
    ops: Sequence[Op] = micro_batch_ops(job, storage, seq_len=seen)
    if not (job.lora or storage.lasting_gradients):
        ops = [gradient_owner(op, spec, storage.fresh_bytes) for op in ops]
    if storage.narrows_in_use:
        ops = [replace(op, weight_copy_bytes=0) for op in ops]
    if storage.framework == "xla":
        ops = [replace(op, saved_bytes=0) if op.label.endswith(_FUSED_INPUT) else op for op in ops]
    return [_skewed(split.of_op(_narrow(_in_context(op, job), job)), job) for op in ops]


_FUSED_INPUT = (".ffn.down", ".shared.down")
"""Products that XLA fuses with the activation before them, whose own inputs are kept (on TPUs a dot's operand is
computed where it is read)."""


def _skewed(op: Op, job: TrainingJob) -> Op:
    """What the busiest expert rank keeps and works on of the rows that come to its experts."""
    routed = ".moe." in op.label and not op.label.endswith(("moe.router", "moe.routing")) and ".shared" not in op.label
    if not routed or job.expert_skew == 1:
        return op
    amounts = ("saved_bytes", "weight_saved_bytes", "input_bytes", "output_bytes")
    return replace(op, **{name: round(getattr(op, name) * job.expert_skew) for name in amounts})


def _in_context(op: Op, job: TrainingJob) -> Op:
    """Attention that sees the keys and values of other context ranks.

    ring: two sets of keys, values and their gradients under way, and a result in fp32 (Liu et al. 2023); all-gather:
    keys, values and their gradients of the whole sequence; ulysses: queries, keys, values and results once more in the
    order of heads (Jacobs et al. 2023). Stored scores have a column for every token of the sequence.
    """
    degree = job.layout.context_parallel
    if job.model.captured:
        return _captured_in_context(op, job)
    if degree == 1 or "attention_core" not in op.kind:
        return op
    spec = job.model
    grouped = op.input_bytes * 2 * spec.kv_heads // (spec.heads + 2 * spec.kv_heads)
    extra = {
        "ring": 4 * grouped + 2 * op.output_bytes,
        "all-gather": 2 * degree * grouped,
        "ulysses": op.input_bytes + op.output_bytes,
    }[job.layout.context_kind]
    if op.kind != "attention_core_scores":
        return replace(op, output_bytes=op.output_bytes + extra)
    scores = op.saved_bytes - op.input_bytes
    return replace(
        op, saved_bytes=op.saved_bytes + (degree - 1) * scores, output_bytes=degree * op.output_bytes + extra
    )


def _captured_in_context(op: Op, job: TrainingJob) -> Op:
    """One rank's share of what the whole sequence keeps and works on, and what attention gets from other ranks."""
    spec, degree = job.model, job.layout.context_parallel
    if degree == 1:
        return op
    amounts = ("saved_bytes", "weight_saved_bytes", "input_bytes", "output_bytes")
    own = replace(op, **{name: round(getattr(op, name) / degree) for name in amounts})
    if not is_attention(op.kind):
        return own
    grouped, made = (2 * job.micro_batch * _local_len(job) * width for width in (2 * spec.kv_dim, spec.q_dim))
    extra = {"ring": 4 * grouped + 2 * made, "all-gather": 2 * degree * grouped, "ulysses": grouped + 2 * made}
    return replace(own, output_bytes=own.output_bytes + extra[job.layout.context_kind])


def _narrow(op: Op, job: TrainingJob) -> Op:
    """Products in 8 or 4 bits keep their input in that format, and copies of their weight for both directions.

    Source: Transformer Engine, which quantizes inputs and weights by rows and by columns; the head stays in bf16.
    torchao's products keep what they were given and quantize it again (``matmul_with_hp_or_float8_args``).
    """
    element_bytes = _NARROW_DTYPES.get(job.dtype)
    if element_bytes is None or not job.fp8_saved or op.kind not in {"linear", "expert_linear"} or not op.in_layer:
        return op
    saved = op.saved_bytes * element_bytes / 2
    return replace(
        op, saved_bytes=round(saved), weight_copy_bytes=op.weight_copy_bytes + round(2 * op.parameters * element_bytes)
    )
