"""How much memory does a training job need on each device, under any parallel layout?

``job_pieces`` depends on micro-batch, sequence, formats, recompute and on the tensor, context and expert degrees;
``spread_of`` says how the pieces are spread over a pipeline and replicas. ``memory_moments.peak_bytes`` puts any number
of spreads together at once.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace

from hwprof.count.blocks.parameters import parameter_tensors
from hwprof.count.job.ops import micro_batch_ops, recomputed_share, trained_tensors
from hwprof.count.job.storage import Storage, job_storage
from hwprof.count.job.tensor_split import TensorSplit
from hwprof.count.memory.build import KeptPolicy, Loss, Workload, pieces_of
from hwprof.count.memory.moments import Spread, host_bytes
from hwprof.count.memory.overhead import allocator_bytes, libraries_bytes
from hwprof.count.memory.pieces import Pieces
from hwprof.count.memory.step import MemoryNeed, gradient_owner, memory_need, torch_loss
from hwprof.count.ops.lora import frozen_bytes
from hwprof.count.ops.operation import Op
from hwprof.count.ops.vector import LOSS_BYTES, ROPE_BYTES
from hwprof.specs.job.settings import Recompute
from hwprof.specs.job.step import TrainingJob

_POLICIES: dict[Recompute, KeptPolicy] = {"none": "none", "selective": "core", "full": "full"}

_NARROW_DTYPES = {"fp8": 1.0, "fp4": 0.5625}
"""Bytes of an element that a product reads; in fp4 a scale of one byte serves 16 elements."""


def job_memory(job: TrainingJob) -> MemoryNeed:
    """Peak memory of the device that needs most, part by part, and the peak of every stage.

    Raises:
        InputError: a sequence beyond learned positions.
    """
    pieces, spread = job_pieces(job), spread_of(job)
    need = memory_need(pieces, spread)
    on_host = job.offload != "none" and job.offload_to == "host"
    return replace(
        need,
        host_bytes=float(host_bytes(pieces, spread)) if on_host else 0.0,
        allocator_bytes=allocator_bytes(need.peak_bytes, job.framework),
        libraries_bytes=libraries_bytes(job.layout.devices),
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
    spread_out = job.layout.replicas % job.layout.expert_parallel == 0
    layout = job.layout.model_copy(
        update={
            "data_parallel": job.layout.expert_parallel if spread_out else 1,
            "pipeline_parallel": 1,
            "virtual_stages": 1,
            "zero_stage": 0,
            "shard_ranks": None,
            "schedule": "1f1b",
            "overlap": True,
        }
    )
    return _pieces(job.model_copy(update={"global_batch": job.micro_batch, "layout": layout}))


@functools.lru_cache(maxsize=512)
def _pieces(job: TrainingJob) -> Pieces:
    """Of a job whose pieces depend on all that it states."""
    spec, layout, storage = job.model, job.layout, job_storage(job)
    split = TensorSplit(
        tensor_parallel=layout.tensor_parallel,
        sequence_parallel=layout.sequence_parallel and layout.tensor_parallel > 1,
        expert_parallel=layout.expert_parallel if spec.moe else 1,
        expert_tensor=layout.expert_tensor_parallel,
        latent=spec.mla is not None,
    )
    ops = _device_ops(job, storage, split)
    tensors, lora = parameter_tensors(spec), job.lora
    tokens = job.micro_batch * _local_len(job)
    work = Workload(
        spec=spec,
        ops=[op for op in ops if op.layer_kind != "loss"],
        tensors=trained_tensors(job),
        frozen=[(tensor, frozen_bytes(tensor, lora, storage.weight_bytes)) for tensor in tensors] if lora else (),
        split=split,
        storage=storage,
        optimizer=job.optimizer,
        implementation=job.optimizer_implementation,
        policy=_POLICIES[job.recompute],
        policy_share=recomputed_share(job),
        stream_bytes=tokens * spec.d_model * storage.precision.residual_bytes * split.stream_share,
    )
    return replace(
        pieces_of(work, _loss(job, ops, storage)),
        tables_bytes=job.seq_len * spec.head_dim * ROPE_BYTES if spec.positions == "rope" else 0,
        state_on_device=float(not job.offloads("optimizer")),
        weights_on_device=float(not job.offloads("weights")),
        activations_on_device=float(not job.offloads("activations")),
    )


def _local_len(job: TrainingJob) -> int:
    return -(-job.seq_len // job.layout.context_parallel)


def _device_ops(job: TrainingJob, storage: Storage, split: TensorSplit) -> list[Op]:
    """The operations of one micro-batch as one device runs them, with its share of tokens, heads and experts."""
    spec = job.model
    ops: Sequence[Op] = micro_batch_ops(job, storage, seq_len=_local_len(job))
    if not (job.lora or storage.lasting_gradients):
        ops = [gradient_owner(op, spec) for op in ops]
    return [split.of_op(_narrow(_in_context(op, job), job)) for op in ops]


def _in_context(op: Op, job: TrainingJob) -> Op:
    """Attention that sees the keys and values of other context ranks.

    ring: two sets of keys, values and their gradients under way, and a result in fp32 (Liu et al. 2023); all-gather:
    keys, values and their gradients of the whole sequence; ulysses: queries, keys, values and results once more in the
    order of heads (Jacobs et al. 2023). Stored scores have a column for every token of the sequence.
    """
    degree = job.layout.context_parallel
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


def _narrow(op: Op, job: TrainingJob) -> Op:
    """Products in 8 or 4 bits keep their input in that format, and copies of their weight for both directions.

    Source: Transformer Engine, which quantizes inputs and weights by rows and by columns; the head stays in bf16.
    """
    element_bytes = _NARROW_DTYPES.get(job.dtype)
    if element_bytes is None or op.kind not in {"linear", "expert_linear"} or not op.in_layer:
        return op
    saved = op.saved_bytes * element_bytes / 2
    return replace(
        op, saved_bytes=round(saved), weight_copy_bytes=op.weight_copy_bytes + round(2 * op.parameters * element_bytes)
    )


def _loss(job: TrainingJob, ops: Sequence[Op], storage: Storage) -> Loss:
    """What the loss takes.

    Megatron-Core, fused: one kernel turns narrow logits into their gradient in place (Transformer Engine's parallel
    cross-entropy). Megatron-LM's own: the fp32 softmax is made in place (in older versions beside fp32 logits) and
    kept, beside narrow logits or their gradient. torch, compiled: narrow logits and their gradient. torch, eager: see
    ``torch_loss``.
    """
    if storage.framework == "torch" and not job.fused:
        return torch_loss(ops, storage.precision)
    logits = sum(op.output_bytes * op.repeats for op in ops if op.label in {"head", "mtp.head"})
    if storage.framework == "torch":
        return Loss(kept_bytes=logits, working_bytes=logits, lasting_bytes=0.0)
    if storage.framework == "megatron-core" and job.fused:
        return Loss(kept_bytes=logits, working_bytes=0.0, lasting_bytes=0.0)
    wide = logits / storage.precision.compute_bytes * LOSS_BYTES
    second = wide if storage.framework == "megatron-deepspeed" else 0.0
    return Loss(kept_bytes=wide, working_bytes=logits + second, lasting_bytes=0.0)
