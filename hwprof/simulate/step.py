"""What is a training step made of? Its terms, one formula for one job and for many at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hwprof.predict.collectives.clock import Clock
from hwprof.predict.kernels.op_time import MicroBatchTimes
from hwprof.predict.parameters import Parameters
from hwprof.simulate.numbers import Floats, Jobs, expert_shards, parameters_held
from hwprof.simulate.update import update_s
from hwprof.specs.job.parallel import CONTEXT_KINDS


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerTimes:
    """One average layer on one micro-batch, with the traffic that compute does not hide; arrays of one for each job."""

    forward_s: Floats
    backward_s: Floats
    recompute_s: Floats
    tensor_s: Floats
    context_s: Floats
    expert_s: Floats
    gather_s: Floats
    offload_s: Floats


FORWARD_OVERLAP_OF_ATTENTION = 0.8
"""An assumption, like the three after it. Share of attention's time behind which a ring of keys and values hides."""

RING_REST = 0.1
"""Share of a ring's traffic that is exposed even where it fits behind attention: its first step, and its kernels."""

BACKWARD_GATHER = 0.3
"""Share of the input's second all-gather in the backward pass of sequence parallelism that is exposed."""

REDUCED_SHARE = 1.5
"""Bytes of a reduced gradient over those of a gathered weight where reduction is in fp32 and padded."""

LONGEST_OVERLAP = 0.95

SENDS_HIDDEN = 0.5
"""Share of a message between stages that hides behind compute where a device has several chunks, half of it where it
has one: an assumption."""

PIECES_HIDDEN = 0.8
"""Share of a tensor rank's traffic that hides where products run in pieces beside it. NVIDIA's releases that overlap it
by default were fitted at 0.79 to 0.94, those that do not at 0.07 to 0.34."""

BESIDE_HIDDEN = 0.9
"""Share of the experts' traffic that hides behind another micro-batch's compute: an assumption (DeepSeek-V3 2024,
section 3.2.1, aims at all of it)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTerms:
    """What a step is made of, arrays of one for each job.

    Attributes:
        layer: one average layer on one micro-batch.
        send_s: one message to the next chunk's stage.
        exposed_send_s: exposed sends of one micro-batch over a device's chunks, both ways.
        chunks: of one device.
        data_s: exposed reduction of gradients and gathering of weights, once a step.
        update_s: the optimizer.
        slowdown: by stragglers.
        fixed_s: what depends on nothing.
    """

    layer: LayerTimes
    send_s: Floats
    exposed_send_s: Floats
    chunks: Floats
    data_s: Floats
    update_s: Floats
    slowdown: Floats
    fixed_s: Floats


def step_terms(jobs: Jobs, work: MicroBatchTimes, p: Parameters) -> StepTerms:
    """The terms of every job's step; ``work`` is that of its micro-batches on one device."""
    links = jobs.links.at_share(p.link_share)
    layer = layer_times(jobs, work, links, p)
    one_send_s = _send_s(jobs, links)
    hidden = SENDS_HIDDEN * np.where(jobs.chunks > 1, 1.0, 0.5)
    stage_s = np.ceil(jobs.layers / jobs.stages) * (layer.forward_s + layer.backward_s + layer.recompute_s)
    return StepTerms(
        layer=layer,
        send_s=one_send_s,
        exposed_send_s=2 * jobs.chunks * one_send_s * (1 - hidden),
        chunks=jobs.chunks,
        data_s=_data_s(jobs, links, stage_s, p),
        update_s=update_s(jobs, p),
        slowdown=p.straggler_share * np.log2(np.maximum(jobs.devices / 8, 1.0)),
        fixed_s=p.step_fixed_s + np.zeros_like(jobs.layers),
    )


def layer_times(jobs: Jobs, work: MicroBatchTimes, links: Clock, p: Parameters) -> LayerTimes:
    """One layer: its kernels, and the exposed traffic of tensor, context, expert and sharded data ranks."""
    forward_tensor_s, backward_tensor_s, again_s = _tensor_s(jobs, links, p)
    forward_context_s, backward_context_s = _context_s(jobs, links, work.attention_s)
    expert_s = _expert_s(jobs, links, p)
    forward_s = work.forward_s + forward_tensor_s + forward_context_s + expert_s
    backward_s = work.input_s + work.weight_s + backward_tensor_s + backward_context_s + expert_s
    again_s = work.recompute_s + again_s + np.where(jobs.full_recompute, expert_s, 0.0)
    recompute_s = jobs.recompute_share * again_s
    forward_gather_s, backward_gather_s = _gather_s(jobs, links, forward_s, backward_s + recompute_s, p)
    parted = np.where(jobs.host_weights & (jobs.zero_stage == 3), jobs.shards, 1.0)
    copy_s = jobs.offloaded_bytes / (parted * jobs.host_byte_per_s)
    forward_copy_s = np.maximum(copy_s - forward_s, 0.0)
    backward_copy_s = np.maximum(copy_s - backward_s - recompute_s, 0.0)
    return LayerTimes(
        forward_s=forward_s + forward_gather_s + forward_copy_s,
        backward_s=backward_s + backward_gather_s + backward_copy_s,
        recompute_s=recompute_s,
        tensor_s=forward_tensor_s + backward_tensor_s,
        context_s=forward_context_s + backward_context_s,
        expert_s=2 * expert_s,
        gather_s=forward_gather_s + backward_gather_s,
        offload_s=forward_copy_s + backward_copy_s,
    )


def _stream_bytes(jobs: Jobs) -> Floats:
    """The residual stream between two layers, of one context rank."""
    return jobs.tokens * jobs.d_model * jobs.element_bytes


def _tensor_s(jobs: Jobs, links: Clock, p: Parameters) -> tuple[Floats, Floats, Floats]:
    """An all-reduce after attention and one after the feed-forward network, each way (Shoeybi et al. 2019, section 3).

    With sequence parallelism each is a reduce-scatter and an all-gather, and backward gathers the inputs once more
    (Korthikanti et al. 2022, section 4.2.2).
    """
    split = jobs.tensor > 1
    one = np.ones_like(jobs.tensor)
    ring = 2 * links.seconds("all_gather", _stream_bytes(jobs), jobs.tensor, one)
    if not jobs.sequence_parallel.all():
        ring = np.where(
            jobs.sequence_parallel, ring, links.seconds("all_reduce", _stream_bytes(jobs), jobs.tensor, one)
        )
    summed_s = np.where(split, ring, 0.0)
    hidden = np.where(jobs.async_tensor_parallel, np.maximum(p.tensor_overlap, PIECES_HIDDEN), p.tensor_overlap)
    exposed = 1 - np.minimum(hidden, LONGEST_OVERLAP) * jobs.overlap
    forward_s = jobs.blocks * summed_s * exposed
    gathered_s = np.where(jobs.sequence_parallel & split, jobs.blocks * summed_s / 2 * BACKWARD_GATHER, 0.0)
    return forward_s, forward_s + gathered_s, np.where(jobs.full_recompute, forward_s, 0.0)


def _context_s(jobs: Jobs, links: Clock, attention_s: Floats) -> tuple[Floats, Floats]:
    """Keys and values, each way; backward carries their gradients too.

    A ring hides behind attention (Liu et al. 2023). A gather does not, nor does the change between tokens and heads
    (Jacobs et al. 2023, section 3.2: queries, keys, values and outputs), whose backward is the change back, nor that of
    layers without attention (:mod:`hwprof.specs.model.mixing`).
    """
    block_bytes = 2 * jobs.kv_width / jobs.tensor * jobs.tokens * jobs.element_bytes
    ring = (jobs.context - 1) * links.pass_s(block_bytes, jobs.context, jobs.tensor)
    forward_s = np.maximum(0.0, ring - FORWARD_OVERLAP_OF_ATTENTION * attention_s) + RING_REST * ring
    backward_s = np.maximum(0.0, 2 * ring - 2 * attention_s) + RING_REST * ring
    gathers, ulysses = (jobs.context_kind == CONTEXT_KINDS.index(kind) for kind in ("all-gather", "ulysses"))
    if gathers.any():
        gathered_s = links.seconds("all_gather", block_bytes * jobs.context, jobs.context, jobs.tensor)
        forward_s, backward_s = np.where(gathers, gathered_s, forward_s), np.where(gathers, 2 * gathered_s, backward_s)
    if ulysses.any():
        changed_bytes = 2 * (jobs.query_width + jobs.kv_width) / jobs.tensor * jobs.tokens * jobs.element_bytes
        change_s = links.seconds("alltoall", changed_bytes, jobs.context, jobs.tensor)
        forward_s, backward_s = np.where(ulysses, change_s, forward_s), np.where(ulysses, change_s, backward_s)
    if jobs.changed_width.any():
        changed_bytes = jobs.changed_width / jobs.tensor * jobs.tokens * jobs.element_bytes
        change_s = links.seconds("alltoall", changed_bytes, jobs.context, jobs.tensor)
        forward_s, backward_s = forward_s + change_s, backward_s + change_s
    return forward_s, backward_s


def _expert_s(jobs: Jobs, links: Clock, p: Parameters) -> Floats:
    """Tokens to their experts and back, one way through the layer.

    Ranks that share an expert's matrices are neighbours, so an expert group skips them, and each of them then needs the
    tokens of all: they are gathered before the experts and their results scattered after them.
    """
    token_bytes = jobs.expert_width * jobs.element_bytes
    sent_bytes = jobs.tokens / jobs.tensor * jobs.top_k * jobs.expert_skew * token_bytes * jobs.expert_layers
    both_s = 2 * links.seconds("alltoall", sent_bytes, jobs.expert, jobs.expert_tensor)
    shared = (jobs.expert_tensor > 1) & (jobs.top_k > 0)
    if shared.any():
        gathered_s = 2 * links.seconds(
            "all_gather", sent_bytes * jobs.expert_tensor, jobs.expert_tensor, np.ones_like(jobs.tensor)
        )
        both_s = both_s + np.where(shared, gathered_s, 0.0)
    hidden = np.where(jobs.expert_overlap, np.maximum(p.expert_overlap, BESIDE_HIDDEN), p.expert_overlap)
    exposed: Floats = both_s * (1 - np.minimum(hidden, LONGEST_OVERLAP))
    return exposed


def _gather_s(jobs: Jobs, links: Clock, forward_s: Floats, backward_s: Floats, p: Parameters) -> tuple[Floats, Floats]:
    """ZeRO stage 3: weights of a layer are gathered each way and its gradients scattered, beside compute."""
    sharded = jobs.zero_stage == 3
    dense = jobs.layer_parameters / jobs.tensor / jobs.layers
    experts = jobs.expert_parameters / expert_shards(jobs) / jobs.layers
    gather_s = _reduced_s(jobs, links, jobs.shards, (dense * jobs.weight_bytes, experts * jobs.weight_bytes))
    wide = np.where(jobs.gradient_bytes > jobs.weight_bytes, REDUCED_SHARE, 1.0)
    scatter_s = _reduced_s(
        jobs, links, jobs.shards, (dense * jobs.weight_bytes * wide, experts * jobs.weight_bytes * wide)
    )
    groups = np.maximum(jobs.replicas / jobs.shards, 1.0)
    kept_bytes = (dense + experts) * jobs.gradient_bytes / jobs.shards
    across_s = links.seconds("all_reduce", kept_bytes, groups, jobs.tensor * jobs.shards)
    both_s = gather_s + scatter_s
    reduced_s = both_s + np.where(groups > 1, across_s / jobs.micro_batches, 0.0)
    window = np.where(jobs.prefetch, p.data_overlap, 0.0)
    forward = np.maximum(0.0, gather_s - window * forward_s) + p.contention * np.minimum(gather_s, forward_s)
    backward = np.maximum(0.0, reduced_s - window * backward_s) + p.contention * np.minimum(both_s, backward_s)
    return np.where(sharded, forward, 0.0), np.where(sharded, backward, 0.0)


def _reduced_s(jobs: Jobs, links: Clock, ranks: Floats, size_bytes: tuple[Floats, Floats]) -> Floats:
    """Gathering or scattering dense and expert weights over ``ranks`` replicas of the dense ones.

    Replicas of an expert are as many devices, over those that hold all experts of a layer once; they are so far apart.
    """
    dense_bytes, expert_bytes = size_bytes
    dense_s = links.seconds("all_gather", dense_bytes, ranks, jobs.tensor)
    if not jobs.expert_parameters.any():
        return dense_s
    return dense_s + links.seconds("all_gather", expert_bytes, _expert_replicas(jobs, ranks), expert_shards(jobs))


def _expert_replicas(jobs: Jobs, ranks: Floats) -> Floats:
    """Replicas of an expert where the dense weights have ``ranks``."""
    return np.maximum(np.round(ranks * jobs.tensor / expert_shards(jobs)), 1.0)


def _send_s(jobs: Jobs, links: Clock) -> Floats:
    """Activations to the next chunk's stage, or gradients back; each tensor rank sends its share."""
    size_bytes = _stream_bytes(jobs) / jobs.tensor
    return np.where(
        jobs.stages > 1,
        links.seconds("send_recv", size_bytes, np.full_like(jobs.stages, 2.0), jobs.tensor * jobs.replicas),
        0.0,
    )


def _data_s(jobs: Jobs, links: Clock, stage_s: Floats, p: Parameters) -> Floats:
    """Gradients of a step reduced over replicas, and ZeRO's weights gathered, as far as compute does not hide them.

    Stage 2 reduces after every micro-batch (Rajbhandari et al. 2020, section 5.2), in a pipeline after the last.
    """
    dense, experts = parameters_held(jobs)
    dense, experts = dense * jobs.trained, experts * jobs.trained
    reduce_s = _reduced_s(jobs, links, jobs.replicas, (dense * jobs.gradient_bytes, experts * jobs.gradient_bytes))
    gather_s = _reduced_s(jobs, links, jobs.replicas, (dense * jobs.weight_bytes, experts * jobs.weight_bytes))
    traffic_s = reduce_s + gather_s
    again = np.where((jobs.zero_stage == 2) & (jobs.stages == 1), jobs.micro_batches - 1, 0.0)
    if not jobs.zero_stage.all():
        summed_s = links.seconds("all_reduce", dense * jobs.gradient_bytes, jobs.replicas, jobs.tensor)
        if jobs.expert_parameters.any():
            copies = _expert_replicas(jobs, jobs.replicas)
            summed_s = summed_s + links.seconds(
                "all_reduce", experts * jobs.gradient_bytes, copies, expert_shards(jobs)
            )
        traffic_s = np.where(jobs.zero_stage == 0, summed_s, traffic_s)
    window_s = np.where(jobs.overlap & jobs.buckets, p.data_overlap * stage_s, 0.0)

    def exposed_s(moved_s: Floats) -> Floats:
        return np.maximum(0.0, moved_s - window_s) + p.contention * np.minimum(moved_s, window_s)

    return np.where(jobs.zero_stage == 3, 0.0, exposed_s(traffic_s) + again * exposed_s(reduce_s))
