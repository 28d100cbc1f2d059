"""How long does a training step take? The pipeline in closed form around the step's terms, for many jobs at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hwprof.predict.kernels.op_time import MicroBatchTimes
from hwprof.predict.parameters import Parameters
from hwprof.simulate.closed_forms.forms import pipeline_span_s
from hwprof.simulate.closed_forms.times import PassTimes, PipelineTimes
from hwprof.simulate.numbers import Floats, Jobs
from hwprof.simulate.parts import StepPart
from hwprof.simulate.step import StepTerms, step_terms
from hwprof.specs.job.schedules import SCHEDULES


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTimes:
    """Seconds of a step, arrays of one for each job. ``parts`` add up to ``step_s``."""

    step_s: Floats
    parts: dict[StepPart, Floats]


def step_times(jobs: Jobs, work: MicroBatchTimes, p: Parameters) -> StepTimes:
    """The step of every job in closed form; ``work`` is that of its micro-batches on one device."""
    return whole_step(jobs, work, step_terms(jobs, work, p))


def whole_step(jobs: Jobs, work: MicroBatchTimes, terms: StepTerms, span_s: Floats | None = None) -> StepTimes:
    """The step of every job, put together from its terms.

    ``span_s`` is how long the pipelines take where that is known, without stragglers; otherwise it is calculated.
    """
    layer, m, held = terms.layer, jobs.micro_batches, held_layers(jobs)
    times = pipeline_times(jobs, work, terms, held)
    busy_s = _busy_s(jobs, times)
    sent_s = terms.exposed_send_s * _passed_chunks(jobs) / jobs.chunks
    hidden_s = m * times.hidden_s
    if span_s is None:
        bubble_s = held.between * _bubble_s(jobs, times, m * busy_s - hidden_s)
    else:
        bubble_s = span_s - (m * busy_s - hidden_s)
    step_s = m * busy_s - hidden_s + bubble_s + terms.data_s + terms.update_s
    traffic_s = layer.tensor_s + layer.context_s + layer.expert_s + layer.gather_s
    moved_s = m * (held.most * traffic_s + sent_s)
    seen = 1 - np.divide(hidden_s, moved_s, out=np.zeros_like(moved_s), where=moved_s > 0)
    pass_s = layer.forward_s + layer.backward_s + layer.recompute_s
    kernels_s = pass_s - traffic_s - layer.offload_s
    host_s = np.minimum(work.host_s, kernels_s)
    return StepTimes(
        step_s=step_s * (1 + terms.slowdown) + terms.fixed_s,
        parts={
            StepPart.COMPUTE: m * held.most * (kernels_s - layer.recompute_s - host_s),
            StepPart.RECOMPUTE: m * held.most * layer.recompute_s,
            StepPart.HOST: m * held.most * host_s,
            StepPart.ENDS: m * (busy_s - held.most * pass_s - sent_s),
            StepPart.TENSOR: m * held.most * layer.tensor_s * seen,
            StepPart.CONTEXT: m * held.most * layer.context_s * seen,
            StepPart.EXPERT: m * held.most * layer.expert_s * seen,
            StepPart.GATHERING: m * held.most * layer.gather_s * seen,
            StepPart.OFFLOAD: m * held.most * layer.offload_s,
            StepPart.SENDS: m * sent_s * seen,
            StepPart.BUBBLE: bubble_s,
            StepPart.REDUCTION: terms.data_s,
            StepPart.OPTIMIZER: terms.update_s,
            StepPart.STRAGGLERS: step_s * terms.slowdown,
            StepPart.FIXED: terms.fixed_s,
        },
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldLayers:
    """Layers of a device, arrays of one for each job.

    Attributes:
        most: of the device that holds most, a typical one.
        first, last: what the first and the last chunk of the model have more; below zero, as the ends get less.
        between: share of the layers that the devices between the ends hold, of what they could hold.
    """

    most: Floats
    first: Floats
    last: Floats
    between: Floats


def held_layers(jobs: Jobs) -> HeldLayers:
    """How the layers lie on the devices, as :mod:`hwprof.count.job.pipeline_stages` cuts them."""
    p, layers = jobs.stages, jobs.layers
    two_ended, dual = jobs.turns_back, jobs.two_way
    rows = _passed_chunks(jobs)
    each, longer = np.divmod(layers, p * rows)
    start = (p * rows - longer) // 2
    first_has_longer, last_has_longer = start <= 0, start + longer >= p * rows
    most = np.where(two_ended & (longer > 1), 2 * (each + 1), np.ceil(layers / p))
    most = np.where(dual & (longer == 1), each + 0.5, most)  # a device has it one way, a shorter chunk the other
    first = rows * each + np.ceil((start + longer) / p) - np.ceil(start / p) - most
    last = rows * each + np.ceil((start + longer + 1) / p) - np.ceil((start + 1) / p) - most
    typical = most / 2
    first = np.where(two_ended, each + (first_has_longer & (longer > 0)) - typical, first)
    last = np.where(two_ended, each + (last_has_longer & (longer > 0)) - typical, last)
    inside = np.where(two_ended, p - 1, p - 2)
    room = inside * most
    between = np.divide(layers - 2 * most - first - last, room, out=np.ones_like(room), where=room > 0)
    between = np.where(two_ended, (layers - most - first - last) / np.maximum(room, 1.0), between)
    return HeldLayers(most=most, first=first, last=last, between=between)


def _passed_chunks(jobs: Jobs) -> Floats:
    """Chunks of a device that a micro-batch passes: in DualPipe one of the two, by its direction."""
    return np.where(jobs.two_way, 1.0, jobs.chunks)


def pipeline_times(jobs: Jobs, work: MicroBatchTimes, terms: StepTerms, held: HeldLayers) -> PipelineTimes:
    """Passes of a typical chunk of each job, and how the outer two differ; exposed sends stand in the passes."""
    layer = terms.layer
    chunk = held.most / _passed_chunks(jobs)
    exposed_s = terms.exposed_send_s / (2 * jobs.chunks)
    input_s = layer.backward_s + layer.recompute_s - work.weight_s
    typical = PassTimes(
        forward_s=chunk * layer.forward_s + exposed_s,
        backward_input_s=chunk * input_s + exposed_s,
        backward_weight_s=chunk * work.weight_s,
    )
    return PipelineTimes(
        stages=jobs.stages.astype(np.int64),
        chunks=jobs.chunks.astype(np.int64),
        micro_batches=jobs.micro_batches.astype(np.int64),
        typical=typical,
        first=PassTimes(
            forward_s=held.first * layer.forward_s + work.embedding_forward_s,
            backward_input_s=held.first * input_s + work.embedding_backward_s,
            backward_weight_s=held.first * work.weight_s,
        ),
        last=PassTimes(
            forward_s=held.last * layer.forward_s + work.head_forward_s,
            backward_input_s=held.last * input_s + work.head_backward_s,
            backward_weight_s=held.last * work.weight_s,
        ),
        send_s=terms.send_s,
        overlap_send=np.ones_like(jobs.overlap),
        hidden_s=_hidden_s(jobs, terms, typical, chunk, exposed_s),
    )


def _hidden_s(jobs: Jobs, terms: StepTerms, typical: PassTimes, chunk: Floats, exposed_s: Floats) -> Floats:
    """DualPipe: a forward and a backward pass together hide each other's communication."""
    layer = terms.layer
    half_s = chunk * (layer.tensor_s + layer.context_s + layer.expert_s + layer.gather_s) / 2 + exposed_s
    moved_s = np.minimum(half_s, typical.forward_s) + np.minimum(half_s, typical.backward_input_s)
    both_s = typical.both_s
    dual = jobs.two_way & (jobs.stages > 1)
    return np.where(dual, np.minimum(moved_s, both_s - moved_s), 0.0)


def _busy_s(jobs: Jobs, times: PipelineTimes) -> Floats:
    """One micro-batch on the device that sets the pace: one of layers alone, or one with an end of the model."""
    dual, two_ended = jobs.two_way, jobs.turns_back
    typical_s = _passed_chunks(jobs) * times.typical.both_s
    first_s, last_s = times.first.both_s, times.last.both_s
    end_s = np.where(two_ended, first_s + last_s, np.where(dual, (first_s + last_s) / 2, np.maximum(first_s, last_s)))
    return typical_s + np.where(jobs.stages > 1, np.maximum(end_s, 0.0), first_s + last_s)


def _bubble_s(jobs: Jobs, times: PipelineTimes, busy_s: Floats) -> Floats:
    """What the pipeline takes beyond ``busy_s`` on its slowest device, by the schedule's formula."""
    bubble_s = np.zeros_like(busy_s)
    piped = jobs.stages > 1
    for code in np.unique(jobs.schedule[piped]):
        chosen = piped & (jobs.schedule == code)
        bubble_s[chosen] = pipeline_span_s(SCHEDULES[int(code)], times.at(chosen)) - busy_s[chosen]
    return np.maximum(bubble_s, 0.0)
