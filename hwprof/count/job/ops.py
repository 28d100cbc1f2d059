"""What does one step of a training job run? Its operations over one micro-batch, in its formats, and the update."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from hwprof.count.blocks.parameters import parameter_tensors
from hwprof.count.blocks.transformer import AttentionConvention, executed_ops, loss_ops
from hwprof.count.job.recompute import runs_again
from hwprof.count.job.storage import Storage, job_storage
from hwprof.count.ops.cost import Cost
from hwprof.count.ops.lora import Frozen, adapters
from hwprof.count.ops.operation import AttentionKernel, Execution, Op
from hwprof.count.ops.parameter_tensor import ParameterTensor
from hwprof.count.ops.update import UpdatedWeight, update_cost
from hwprof.specs.job.step import TrainingJob


def micro_batch_ops(
    job: TrainingJob, storage: Storage, *, seq_len: int, attention: AttentionConvention = "full"
) -> tuple[Op, ...]:
    """Forward and backward of one micro-batch of sequences of ``seq_len`` tokens, embedding to loss, on one device.

    Raises:
        InputError: a sequence beyond learned positions.
    """
    scores: AttentionKernel = "flash" if job.flash else "materialised"
    how = Execution(
        precision=storage.precision,
        fused=job.fused,
        attention=scores,
        wide_norms=job.wide_norms,
        repeats_kv=job.repeats_kv,
        recurrence_kernels=True,
    )
    ops = executed_ops(job.model, how, batch_size=job.micro_batch, seq_len=seq_len, attention=attention)
    loss = tuple(loss_ops(job.model, how, batch_size=job.micro_batch, seq_len=seq_len))
    if job.lora is None:
        return (*ops, *loss)
    frozen = Frozen(
        lora=job.lora,
        library=job.adapter_library,
        tensors=parameter_tensors(job.model),
        compute_bytes=storage.precision.compute_bytes,
    )
    return (*frozen.adapted(ops), *loss)


def job_step_ops(job: TrainingJob, *, attention: AttentionConvention = "full") -> tuple[Op, ...]:
    """One micro-batch through the whole model, with what is run again, and one update of all weights.

    The costs are those of all devices that share the model together.

    Raises:
        InputError: a sequence beyond learned positions.
    """
    storage = job_storage(job)
    ops = micro_batch_ops(job, storage, seq_len=job.seq_len, attention=attention)
    return (*_with_recompute(ops, job), _update(job, storage))


def trained_tensors(job: TrainingJob) -> tuple[ParameterTensor, ...]:
    """The weights that the optimizer updates: all that are not frozen, or those of adapters."""
    tensors = parameter_tensors(job.model)
    if job.lora is None:
        return tuple(tensor for tensor in tensors if tensor.trained)
    return adapters(tensors, job.lora, job.adapter_library)


def recomputed_share(job: TrainingJob) -> float:
    """In what share of the layers something is run again."""
    spec = job.model
    layers = spec.layers + (spec.encoder.layers if spec.encoder else 0)
    return min(1.0, (job.recompute_layers or layers) / layers)


def _with_recompute(ops: Sequence[Op], job: TrainingJob) -> Iterator[Op]:
    """What runs again of the layers, in the share of them that does."""
    again, share = runs_again(ops, job.recompute, job.selective), recomputed_share(job)
    for op in ops:
        yield replace(op, recompute=op.forward * share) if op.label in again else op


def _update(job: TrainingJob, storage: Storage) -> Op:
    weights = tuple(
        UpdatedWeight(tensor.shape, tensor.repeats, orthogonal=len(tensor.shape) > 1 and "layers.*" in tensor.label)
        for tensor in trained_tensors(job)
    )
    cost = update_cost(
        weights,
        job.optimizer,
        fused=job.optimizer_implementation == "fused",
        element_bytes=storage.moment_bytes,
        narrow_bytes=storage.weight_bytes if storage.master_bytes else 0,
    )
    none = Cost.ZERO
    return Op(
        label="optimizer", kind="optimizer", layer_kind="optimizer", repeats=1, forward=none, backward=none, update=cost
    )
