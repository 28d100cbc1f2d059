"""What does the step formula need to know of a job? Its numbers and its machine's, as arrays for many jobs at once."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from hwprof.count.blocks.captured import summed_streams, tokens_split
from hwprof.count.blocks.parameters import parameter_tensors
from hwprof.count.job.device_work import device_rows
from hwprof.count.job.rows import WorkShare
from hwprof.count.job.storage import job_storage
from hwprof.count.memory.job import job_pieces
from hwprof.predict.collectives.clock import clock_of
from hwprof.predict.kernels.op_time import ShareTimes, share_times
from hwprof.predict.kernels.row_table import NO_EXPERTS, ExpertSizes, row_table
from hwprof.predict.kernels.row_times import row_times
from hwprof.predict.machine import Machine
from hwprof.predict.stacks import Stack
from hwprof.simulate.numbers import Floats, Jobs
from hwprof.simulate.runners import Placed, runners_of
from hwprof.specs.catalogue.simulator import MeasuredRate
from hwprof.specs.job.labels import layer_kind
from hwprof.specs.job.parallel import CONTEXT_KINDS
from hwprof.specs.job.schedules import SCHEDULES
from hwprof.specs.job.step import TrainingJob
from hwprof.specs.job.switches import JobOptimizer
from hwprof.specs.model.spec import ModelSpec

_MOMENTS: dict[JobOptimizer, float] = {
    "adamw": 2.0,
    "adam": 2.0,
    "adamw-8bit": 2.0,
    "lion": 1.0,
    "sgd": 1.0,
    "adafactor": 0.25,
    "muon": 1.0,
}
"""Moments that an optimizer keeps for a parameter; Adafactor's are of rows and columns."""


def share_of(job: TrainingJob) -> WorkShare:
    """What decides the work of one device on one micro-batch of the job."""
    layout = job.layout
    return WorkShare(
        model=job.model,
        micro_batch=job.micro_batch,
        seq_len=job.seq_len,
        dtype=job.dtype,
        flash=job.flash,
        tensor=layout.tensor_parallel,
        context=layout.context_parallel,
        expert=layout.expert_parallel,
        sequence_parallel=splits_tokens(job),
        recompute=job.recompute,
        selective=job.selective,
        lora=job.lora,
        adapter_library=job.adapter_library,
        fused=job.fused,
        expert_tensor=layout.expert_tensor_parallel,
        expert_skew=job.expert_skew if job.model.routed[1] else 1.0,
    )


def work_of(
    placed: Sequence[Placed], measured: Sequence[tuple[MeasuredRate, ...]]
) -> tuple[ShareTimes, tuple[str, ...]]:
    """The kernels of every job's micro-batch added up, and in words who says their times.

    Args:
        placed: the jobs.
        measured: kernels that were measured on the device of each itself.

    Raises:
        SpecError: a peak is not known.
    """
    table = row_table([_rows(share_of(job)) for job, _, _ in placed], [expert_sizes(job) for job, _, _ in placed])
    times = row_times(table, *runners_of(placed, measured))
    return share_times(table, times, *paces_of(placed)), times.basis


def expert_sizes(job: TrainingJob) -> ExpertSizes:
    """Of the job's routed experts on a device."""
    width = _expert_width(job.model) / job.layout.expert_tensor_parallel
    return ExpertSizes(job.model.d_model, width, job.layout.expert_parallel) if width else NO_EXPERTS


@functools.lru_cache(maxsize=512)
def _expert_width(model: ModelSpec) -> float:
    """Feed-forward width of a routed expert; if captured, of three matrices with as many weights; 0 = none."""
    if model.moe:
        return model.moe.expert_ff
    experts, _, layers = model.routed
    return parameter_parts(model)["expert"] / (3 * experts * max(layers, 1) * model.d_model)


def paces_of(placed: Sequence[Placed]) -> tuple[Floats, Floats, Floats]:
    """Of each job: share of the layers that have experts, whether the host launches kernels, and those by expert."""
    experts = [job.model.routed[2] / job.model.layers for job, _, _ in placed]
    launched = [not job.cuda_graphs for job, _, _ in placed]
    by_expert = [stack.launches_by_expert for _, _, stack in placed]
    return np.array(experts, dtype=float), np.array(launched, dtype=float), np.array(by_expert, dtype=float)


@functools.lru_cache(maxsize=4096)
def _rows(share: WorkShare) -> tuple[Any, ...]:
    return device_rows(share)


def jobs_of(placed: Sequence[Placed]) -> Jobs:
    """The arrays of the step formula."""
    return Jobs(
        links=clock_of([machine for _, machine, _ in placed]),
        **{name: np.array([value(*each) for each in placed], dtype=float) for name, value in NUMBERS.items()},
        **{name: np.array([value(*each) for each in placed], dtype=bool) for name, value in SWITCHES.items()},
    )


def weight_bytes(job: TrainingJob) -> float:
    """Width of a weight as it is gathered, and of an activation."""
    return job_storage(job).gathered_bytes


@functools.lru_cache(maxsize=512)
def parameter_parts(model: ModelSpec) -> dict[str, int]:
    """Parameters of layers without routed experts, of routed experts, of the embedding, and of what follows."""
    parts = dict.fromkeys(("layer", "expert", "embedding", "head"), 0)
    for tensor in parameter_tensors(model):
        in_layer = "layers.*" in tensor.label
        outside = "embedding" if layer_kind(tensor.label) == "embedding" else "head"
        parts["expert" if tensor.experts > 1 else "layer" if in_layer else outside] += tensor.total
    return parts


Number = Callable[[TrainingJob, Machine, Stack], float]

NUMBERS: dict[str, Number] = {
    "memory_byte_per_s": lambda _, machine, __: machine.memory_byte_per_s,
    "devices": lambda job, _, __: job.layout.devices,
    "layers": lambda job, _, __: job.model.layers,
    "stages": lambda job, _, __: job.layout.pipeline_parallel,
    "chunks": lambda job, _, __: job.layout.chunks,
    "schedule": lambda job, _, __: SCHEDULES.index(job.layout.schedule),
    "micro_batches": lambda job, _, __: job.micro_batches,
    "tensor": lambda job, _, __: job.layout.tensor_parallel,
    "context": lambda job, _, __: job.layout.context_parallel,
    "expert": lambda job, _, __: job.layout.expert_parallel,
    "expert_tensor": lambda job, _, __: job.layout.expert_tensor_parallel,
    "data": lambda job, _, __: job.layout.data_parallel,
    "zero_stage": lambda job, _, __: job.layout.zero_stage,
    "shards": lambda job, _, __: job.layout.shards,
    "recompute_share": lambda job, _, __: min((job.recompute_layers or job.model.layers) / job.model.layers, 1.0),
    "tokens": lambda job, _, __: job.micro_batch * job.seq_len / job.layout.context_parallel,
    "d_model": lambda job, _, __: job.model.d_model,
    "kv_width": lambda job, _, __: kv_width(job.model),
    "changed_width": lambda job, _, __: job.model.mixing.changed_width if job.model.captured else 0.0,
    "query_width": lambda job, _, __: query_width(job.model),
    "context_kind": lambda job, _, __: CONTEXT_KINDS.index(job.layout.context_kind),
    "expert_skew": lambda job, _, __: job.expert_skew,
    "expert_width": lambda job, _, __: expert_width(job.model),
    "top_k": lambda job, _, __: job.model.routed[1],
    "expert_layers": lambda job, _, __: job.model.routed[2] / job.model.layers,
    "blocks": lambda job, _, __: summed_streams(job.model),
    "element_bytes": lambda job, _, __: weight_bytes(job),
    "gradient_bytes": lambda job, _, __: job_storage(job).gradient_bytes,
    "weight_bytes": lambda job, _, __: weight_bytes(job),
    "layer_parameters": lambda job, _, __: parameter_parts(job.model)["layer"],
    "expert_parameters": lambda job, _, __: parameter_parts(job.model)["expert"],
    "embedding_parameters": lambda job, _, __: parameter_parts(job.model)["embedding"],
    "head_parameters": lambda job, _, __: parameter_parts(job.model)["head"],
    "trained": lambda job, _, __: trained_share(job),
    "host_byte_per_s": lambda job, machine, _: offload_byte_per_s(job, machine),
    "offloaded_bytes": lambda job, _, __: offloaded_bytes(job),
    "master_bytes": lambda job, _, __: job_storage(job).master_bytes,
    "update_bytes": lambda job, _, __: update_bytes(job),
}

SWITCHES: dict[str, Callable[[TrainingJob, Machine, Stack], bool]] = {
    "sequence_parallel": lambda job, _, __: splits_tokens(job),
    "overlap": lambda job, _, __: job.layout.overlap,
    "full_recompute": lambda job, _, __: job.recompute == "full",
    "host_update": lambda job, _, __: job.offloads("optimizer"),
    "host_weights": lambda job, _, __: job.offloads("weights"),
    "offload_each_micro_batch": lambda job, _, __: job.offload_each_micro_batch,
    "buckets": lambda _, __, stack: stack.overlaps_gradients,
    "expert_overlap": lambda job, _, __: job.expert_overlap,
    "async_tensor_parallel": lambda job, _, __: job.async_tensor_parallel,
    "prefetch": lambda job, _, __: job.prefetch_layers > 0 or job.framework == "xla",  # that hides it within a layer
}


def splits_tokens(job: TrainingJob) -> bool:
    """Whether tokens are split between what tensor ranks share of a layer."""
    return job.layout.sequence_parallel and job.layout.tensor_parallel > 1 and tokens_split(job.model)


def kv_width(model: ModelSpec) -> float:
    """Mean width of the keys and of the values of one token in a layer; latent attention spans them for every head."""
    if model.captured:
        return model.kv_dim * model.mixing.attention_share
    return model.heads * (model.head_dim + model.value_dim) / 2 if model.mla else model.kv_dim


def expert_width(model: ModelSpec) -> int:
    """Numbers of a token that go to each of its experts."""
    return model.captured.expert_width(model.d_model) if model.captured else model.d_model


def query_width(model: ModelSpec) -> float:
    """Mean width of the queries and of the results of one token in a layer."""
    width = model.heads * (model.head_dim + model.value_dim) / 2
    return width * model.mixing.attention_share if model.captured else width


NVME_BYTE_PER_S = 6e9
"""Of one device's drive, reading or writing: an assumption, about one PCIe 4.0 x4 drive for each device."""


def offload_byte_per_s(job: TrainingJob, machine: Machine) -> float:
    """Rate of the way out of the device's memory and back, one way: its host link, or the drive behind it."""
    return min(machine.host_byte_per_s, NVME_BYTE_PER_S if job.offload_to == "nvme" else machine.host_byte_per_s)


def offloaded_bytes(job: TrainingJob) -> float:
    """What a layer keeps for backward, or its weights, on one device: it goes to the host and comes back."""
    if job.offloads("activations"):
        pieces = job_pieces(job.changed(offload="none"))
        return float(pieces.body.kept_bytes)
    if job.offloads("weights"):
        parts = parameter_parts(job.model)
        shards = job.layout.expert_parallel * job.layout.expert_tensor_parallel
        held = parts["layer"] / job.layout.tensor_parallel + parts["expert"] / shards
        return held / job.model.layers * weight_bytes(job)
    return 0.0


def update_bytes(job: TrainingJob) -> float:
    """Traffic of an update for each parameter: gradient, weight and moments read, weight, moments and the copy written.

    AdamW over fp32: 4 + 4 + 8 read, 4 + 8 written, and a copy of 2 bytes beside a weight of the optimizer's own; for
    that one, narrow gradients are widened first (Megatron-LM's ``_copy_model_grads_to_main_grads``).
    """
    stored = job_storage(job)
    moments = _MOMENTS[job.optimizer] * (1.0 if job.optimizer == "adamw-8bit" else stored.moment_bytes)
    wide = stored.master_bytes
    gradient = stored.gradient_bytes + (2 * wide if stored.gradient_bytes < wide else 0)
    copy = stored.weight_bytes if wide else 0.0
    return gradient + 2 * ((wide or stored.weight_bytes) + moments) + copy


def trained_share(job: TrainingJob) -> float:
    """Share of the parameters that have gradients; adapters add r x (n + k) to a matrix of n x k."""
    if job.lora is None:
        return 1.0
    width = (job.model.d_model + job.model.d_ff) / 2
    return 2 * job.lora.rank / width
