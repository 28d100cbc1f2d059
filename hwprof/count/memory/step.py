"""How much memory does a training step need, and for what? The largest of the moments at which it may peak."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hwprof.count.blocks.parameters import parameter_tensors
from hwprof.count.blocks.transformer import training_step_ops
from hwprof.count.job.storage import run_storage
from hwprof.count.job.tensor_split import TensorSplit
from hwprof.count.memory.build import Workload, pieces_of
from hwprof.count.memory.largest import largest
from hwprof.count.memory.loss import logits_of, plain_loss
from hwprof.count.memory.moments import Moment, Spread, device_peak_bytes, moments
from hwprof.count.memory.pieces import Pieces
from hwprof.count.ops.elementwise import Amount
from hwprof.count.ops.operation import Op
from hwprof.count.ops.precision import Precision
from hwprof.count.ops.vector import ROPE_BYTES
from hwprof.errors import InputError
from hwprof.specs.job.settings import RunSettings
from hwprof.specs.job.switches import Selective
from hwprof.specs.model.spec import ModelSpec
from hwprof.specs.record.memory import MemoryPart

_NOTES = {
    "weight copies": "narrow copies that autocast keeps for the backward pass",
    "kept by recompute": "inputs of layers, with selective recompute also results of matrix multiplications",
    "logits and loss": "logits, fp32 log-softmax and its gradients",
    "working gradients": "gradients of activations and fresh gradients of weights, and what is run again",
    "rotary tables": "cosines and sines, fp32",
    "gathered weights": "whole weights of two layers (ZeRO 3) or of all (FSDP's stage 2), and of the ends",
    "communication buckets": "copies of gradients in which they are added up over replicas",
    "gradients being reduced": "whole gradients of a layer and of the ends on their way to the ranks that own them",
    "gradient placeholders": "empty gradients that Transformer Engine keeps, one for each shape of weight",
    "pipeline transfers": "what comes from and goes to neighbouring stages",
}

_SELECTIVE: tuple[Selective, ...] = ("products",)
"""What selective recompute keeps in hwprof's own training loop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryNeed:
    """Memory of tensors at the step's peak on the device that needs most; the parts add up to ``peak_bytes``.

    Attributes:
        parts: what it is for.
        peak_bytes: their sum.
        moment: when in the step it is reached.
        stage: the pipeline stage of that device.
        stage_bytes: the peak of each stage.
        pools_bytes: not in the peak: what the caching allocator keeps in pools and places that it can't use for it.
        allocator_bytes: not in the peak: what is lost to fragments beside that (an estimate).
        libraries_bytes: not in the peak: what CUDA and NCCL take (an estimate).
        host_bytes: what offload puts in host memory for one device.
    """

    parts: tuple[MemoryPart, ...]
    peak_bytes: float
    moment: str
    stage: int = 0
    stage_bytes: tuple[float, ...] = ()
    pools_bytes: float = 0.0
    allocator_bytes: float = 0.0
    libraries_bytes: float = 0.0
    host_bytes: float = 0.0

    @property
    def reserved_bytes(self) -> float:
        """What torch's allocator takes from the device (``torch.cuda.max_memory_reserved``)."""
        return self.peak_bytes + self.pools_bytes + self.allocator_bytes

    @property
    def device_bytes(self) -> float:
        """What the device has to have, as ``nvidia-smi`` shows it."""
        return self.reserved_bytes + self.libraries_bytes

    @property
    def least_bytes(self) -> float:
        """What it has to have at least: torch's allocator gives back what it keeps in vain before it fails.

        It frees its cached blocks and asks again (c10/cuda/CUDACachingAllocator.cpp: ``release_cached_blocks``).
        """
        return self.peak_bytes + self.libraries_bytes


def training_memory(
    spec: ModelSpec,
    settings: RunSettings,
    *,
    data_parallel: int | None = None,
    tensor_parallel: int | None = None,
    pipeline_parallel: int | None = None,
    zero_stage: int | None = None,
) -> MemoryNeed:
    """The peak over one step after the first (when the optimizer state exists), on the fullest device.

    Followed through the step: end of forward and start of the loss's backward, the backward of each op of the last and
    of the first layer (it changes evenly between them), the optimizer. Gradients grow while activations shrink, so
    the peak is one of these moments and not the sum of the largest parts.
    ``micro_batch`` is that of one replica, ``gradient_accumulation`` the number of micro-batches through a pipeline.

    Degrees that are not given are those of the settings' layout.

    Raises:
        InputError: a shape without tokens or beyond learned positions, a degree below 1, an unknown ZeRO stage.
    """
    layout = settings.layout
    data_parallel = layout.data_parallel if data_parallel is None else data_parallel
    tensor_parallel = layout.tensor_parallel if tensor_parallel is None else tensor_parallel
    pipeline_parallel = layout.pipeline_parallel if pipeline_parallel is None else pipeline_parallel
    zero_stage = layout.zero_stage if zero_stage is None else zero_stage
    degrees = {
        "data_parallel": data_parallel,
        "tensor_parallel": tensor_parallel,
        "pipeline_parallel": pipeline_parallel,
    }
    for name, degree in degrees.items():
        if degree < 1:
            raise InputError(f"{name} = {degree}", expectation="a degree is at least 1")
    if zero_stage not in range(4):
        raise InputError(f"ZeRO stage {zero_stage} does not exist", expectation="the stages are 0, 1, 2 and 3")
    spread = Spread(
        stages=pipeline_parallel,
        virtual_stages=layout.virtual_stages,
        micro_batches=settings.gradient_accumulation,
        replicas=data_parallel,
        shards=data_parallel,
        zero_stage=zero_stage,
        schedule=layout.schedule,
    )
    return memory_need(run_pieces(spec, settings, tensor_parallel=tensor_parallel), spread)


def memory_need(pieces: Pieces, spread: Spread) -> MemoryNeed:
    """The peak of the device that needs most, part by part."""
    by_stage = _peak_of_stages(pieces, spread, int(_number(spread.stages)))
    stage = by_stage.index(max(by_stage))
    moment = max(moments(pieces, spread, stage), key=lambda moment: _number(moment.total_bytes))
    parts = _parts(moment)
    return MemoryNeed(
        parts=parts,
        peak_bytes=sum(part.predicted_bytes for part in parts),
        moment=moment.name,
        stage=stage,
        stage_bytes=by_stage,
    )


def _peak_of_stages(pieces: Pieces, spread: Spread, stages: int) -> tuple[float, ...]:
    """The peak of every stage: of one as numbers, of more as arrays, which costs no more than of two."""
    if stages == 1:
        return (_number(device_peak_bytes(pieces, spread, 0)),)
    import numpy as np

    peaks = np.broadcast_to(device_peak_bytes(pieces, spread, np.arange(stages)), (stages,))
    return tuple(peaks.tolist())


def _number(amount: Amount) -> float:
    return float(amount)


def _parts(moment: Moment) -> tuple[MemoryPart, ...]:
    """In whole bytes."""
    sizes = {name: float(round(_number(size))) for name, size in moment.all_parts.items()}
    return tuple(
        MemoryPart(name=name, predicted_bytes=size, note=_NOTES.get(name, "")) for name, size in sizes.items() if size
    )


def run_pieces(spec: ModelSpec, settings: RunSettings, *, tensor_parallel: int = 1) -> Pieces:
    """The pieces of a step of hwprof's own training loop; tensor parallelism is without sequence parallelism."""
    split = TensorSplit(
        tensor_parallel=tensor_parallel,
        sequence_parallel=False,
        expert_parallel=1,
        expert_tensor=1,
        latent=spec.mla is not None,
        keeps_gathered=True,
    )
    precision = Precision.of(settings.dtype)
    ops = [split.of_op(gradient_owner(op, spec, precision.weight_bytes)) for op in training_step_ops(spec, settings)]
    tables = settings.seq_len * spec.head_dim * ROPE_BYTES if spec.positions == "rope" else 0
    loss = replace(plain_loss(ops, precision), lasting_bytes=logits_of(ops))
    tensors, storage = parameter_tensors(spec), run_storage(precision)
    work = Workload(
        spec=spec,
        ops=[op for op in ops if op.layer_kind not in {"optimizer", "clip", "loss"}],
        tensors=[each for each in tensors if each.trained],
        frozen=[(each, storage.weight_bytes) for each in tensors if not each.trained],
        split=split,
        storage=storage,
        optimizer=settings.optimizer,
        implementation=settings.optimizer_implementation,
        recompute=settings.recompute,
        selective=_SELECTIVE,
        recomputed_share=1.0,
        compiled=False,
        narrow_weights=False,
        stream_bytes=settings.micro_batch * (settings.target_len or settings.seq_len) * spec.d_model * 4,
    )
    return replace(pieces_of(work, loss), tables_bytes=tables)


def gradient_owner(op: Op, spec: ModelSpec, fresh_bytes: float) -> Op:
    """With a tied table the gradient appears at the head; the embedding then makes its own and the sum of the two."""
    table = spec.vocab_size * spec.d_model
    if spec.tied_embeddings and op.label == "head":
        return replace(op, parameters=op.parameters + table)
    if spec.tied_embeddings and op.label == "embedding.tokens":
        return replace(op, parameters=0, input_bytes=round(2 * table * fresh_bytes))
    return op


def largest_micro_batch(spec: ModelSpec, settings: RunSettings, capacity_bytes: float) -> int:
    """The largest micro-batch whose step fits ``capacity_bytes`` on one device; 0 where not even one sequence fits."""

    def fits(micro_batch: int) -> bool:
        tried = settings.changed(micro_batch=micro_batch)
        return training_memory(spec, tried).peak_bytes <= capacity_bytes

    return largest(fits)
