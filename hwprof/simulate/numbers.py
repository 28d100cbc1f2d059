"""Which numbers of jobs does the formula of a step take? Arrays of one for each job."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hwprof.predict.collectives.clock import Clock
from hwprof.specs.job.schedules import with_trait

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Jobs:
    """Many jobs: arrays of one for each. Degrees and sizes as in ``ParallelLayout`` and ``TrainingJob``.

    Attributes:
        links, memory_byte_per_s, devices: the machine; links time collectives, memory as the datasheet has it.
        layers, stages, chunks, micro_batches: the pipeline; ``chunks`` of one device.
        schedule: index into ``SCHEDULES``.
        tensor, context, expert, expert_tensor, data, zero_stage, shards: degrees.
        sequence_parallel, overlap, full_recompute: switches.
        buckets: whether the software reduces gradients in buckets while backward goes on.
        expert_overlap, async_tensor_parallel, offload_each_micro_batch: switches of the job of these names.
        prefetch: whether sharded weights come in beside compute.
        recompute_share: share of the layers in which something runs again.
        tokens: of one micro-batch on one context rank.
        d_model, kv_width, query_width, top_k: of the model; widths of keys or values, and of queries or outputs, of one
            token.
        expert_width: numbers of a token that go to an expert.
        changed_width: numbers of a token that change between tokens and channels in layers without attention.
        context_kind: index into ``CONTEXT_KINDS``.
        expert_skew: tokens of the busiest expert rank over the mean.
        expert_layers: share of the layers that have experts.
        blocks: all-reduces of a layer's forward pass under tensor parallelism.
        element_bytes, gradient_bytes, weight_bytes: widths of activations, reduced gradients and gathered weights.
        layer_parameters, expert_parameters, embedding_parameters, head_parameters: of the whole model.
        trained: share of the parameters that have gradients.
        master_bytes, update_bytes: the optimizer's own copy of a weight, and its traffic for each parameter.
        host_byte_per_s: of one device to host memory, one way.
        offloaded_bytes: of a layer's activations or weights on one device that go to the host and back for each
            micro-batch.
        host_update, host_weights: whether the optimizer runs on the host, and whether weights live there.
    """

    links: Clock
    memory_byte_per_s: Floats
    devices: Floats
    layers: Floats
    stages: Floats
    chunks: Floats
    schedule: Floats
    micro_batches: Floats
    tensor: Floats
    context: Floats
    expert: Floats
    expert_tensor: Floats
    data: Floats
    zero_stage: Floats
    shards: Floats
    sequence_parallel: Flags
    overlap: Flags
    full_recompute: Flags
    buckets: Flags
    expert_overlap: Flags
    async_tensor_parallel: Flags
    prefetch: Flags
    recompute_share: Floats
    tokens: Floats
    d_model: Floats
    kv_width: Floats
    changed_width: Floats
    query_width: Floats
    context_kind: Floats
    expert_width: Floats
    top_k: Floats
    expert_skew: Floats
    expert_layers: Floats
    blocks: Floats
    element_bytes: Floats
    gradient_bytes: Floats
    weight_bytes: Floats
    layer_parameters: Floats
    expert_parameters: Floats
    embedding_parameters: Floats
    head_parameters: Floats
    trained: Floats
    master_bytes: Floats
    update_bytes: Floats
    host_byte_per_s: Floats
    offloaded_bytes: Floats
    host_update: Flags
    offload_each_micro_batch: Flags
    host_weights: Flags

    @property
    def replicas(self) -> Floats:
        """Data and context ranks."""
        return self.data * self.context

    @property
    def two_way(self) -> Flags:
        """Whether micro-batches enter the pipeline at both ends."""
        flags: Flags = with_trait(self.schedule, lambda traits: traits.two_way)
        return flags

    @property
    def turns_back(self) -> Flags:
        """Whether the model runs down the stages and back up."""
        flags: Flags = with_trait(self.schedule, lambda traits: traits.turns_back)
        return flags


def parameters_held(jobs: Jobs) -> tuple[Floats, Floats]:
    """Dense and expert parameters of the fullest device, before ZeRO."""
    ends = jobs.embedding_parameters + jobs.head_parameters
    at_end = np.where(jobs.stages > 1, ends / 2, ends)
    dense = (jobs.layer_parameters / jobs.stages + at_end) / jobs.tensor
    return dense, jobs.expert_parameters / expert_shards(jobs) / jobs.stages


def expert_shards(jobs: Jobs) -> Floats:
    """Devices that share the experts of a layer."""
    return jobs.expert * jobs.expert_tensor
