"""What does a published run do where it says nothing? The usual, as far as it fits the device that it ran on."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable

from hwprof.count.memory.job import job_memory
from hwprof.predict.machine import Machine
from hwprof.predict.stacks import Stack
from hwprof.specs.catalogue.published import PublishedRun
from hwprof.specs.job.parallel import ParallelLayout
from hwprof.specs.job.step import TrainingJob

SMALL_RECIPES = {"torchtune": {"optimizer": "adamw-8bit", "optimizer_paged": True, "update_in_backward": True}}
"""By stack: the optimizer of recipes that train all weights on one device
(torchtune: recipes/configs/llama3_1/8B_full_single_device.yaml, ``PagedAdamW8bit``, ``optimizer_in_bwd``)."""


def fitted_in(
    job: TrainingJob, machine: Machine, stack: Stack, run: PublishedRun, *, stated: bool, notes: list[str]
) -> TrainingJob:
    """The job with the least change, in what the run leaves open, with which it fits; as it is where none does.

    The optimizer is open where the run has none and the stack has a recipe for one device; recompute is open unless
    ``stated``; else the micro-batch, where the run has none.
    """
    fits = _fits_in(machine.capacity_bytes)
    if stack.name in SMALL_RECIPES and run.n_devices == 1 and not (run.optimizer or job.lora or fits(job)):
        job = job.changed(**SMALL_RECIPES[stack.name])
        notes.append(f"optimizer not stated: 8-bit AdamW in backward, {stack.name}'s recipe for one device")
    if not stated:
        return _recomputed(job, fits, notes)
    if run.micro_batch_seqs or fits(job):
        return job
    share = job.global_batch // job.layout.data_parallel
    smaller = [size for size in range(job.micro_batch - 1, 0, -1) if share % size == 0]
    found = next((size for size in smaller if fits(job.changed(micro_batch=size))), job.micro_batch)
    notes.append(f"micro-batch not stated: {found}, the most with which it fits")
    return job.changed(micro_batch=found)


def _fits_in(room_bytes: float) -> Callable[[TrainingJob], bool]:
    return lambda job: job_memory(job).device_bytes <= room_bytes


def _recomputed(job: TrainingJob, fits: Callable[[TrainingJob], bool], notes: list[str]) -> TrainingJob:
    """Full recompute in the fewest layers; under XLA, where all are too few, with their inputs on the host.

    That is how Google's recipes have long layers of large models fit (tpu-recipes: ``decoder_layer_input=offload``).
    """
    layers = job.model.layers
    if fits(job):
        notes.append("recompute not stated: none, since it fits without")
        return job

    def full(count: int) -> TrainingJob:
        return job.changed(recompute="full", recompute_layers=count)

    fewest = bisect.bisect_left(range(1, layers), True, key=lambda count: fits(full(count))) + 1
    notes.append(f"recompute not stated: full in {fewest} of {layers} layers, the fewest with which it fits")
    found = full(fewest)
    offloaded = found.changed(offload="activations")
    if job.framework == "xla" and job.offload == "none" and not fits(found) and fits(offloaded):
        notes.append("offload not stated: layers' inputs, since it does not fit without")
        return offloaded
    return found


def assumed_virtual_stages(run: PublishedRun, stages: int, replicas: int) -> int:
    """One layer a chunk, as Megatron's fast recipes have it, where layers and micro-batches divide; otherwise 1."""
    micro_batches = run.global_batch_seqs / replicas / (run.micro_batch_seqs or 1)
    divides = run.n_layers is not None and run.n_layers % stages == 0 and micro_batches % stages == 0
    return run.n_layers // stages if run.n_layers and divides else 1


LARGEST_ASSUMED_TOKENS = 16384


def assumed_micro_batch(run: PublishedRun, layout: ParallelLayout, stack: Stack, notes: list[str]) -> int:
    """Of one replica; a fraction of a sequence (JAX shards tokens) is rounded up to a whole one."""
    share = max(run.global_batch_seqs // layout.data_parallel, 1)
    if run.micro_batch_seqs:
        return _largest_divisor(share, max(round(run.micro_batch_seqs), 1))
    stages = layout.pipeline_parallel
    fitting = max(LARGEST_ASSUMED_TOKENS // run.seq_len, 1) if stages == 1 else 1
    if stages > 1 and stack.fills_pipeline:
        fitting = max(share // stages, 1)
    chosen = _largest_divisor(share, fitting)
    notes.append(f"micro-batch not stated: {chosen}")
    return chosen


def _largest_divisor(number: int, most: int) -> int:
    """The largest divisor that is not above ``most``; each comes in a pair, of which one is at most the root."""
    small = [size for size in range(1, math.isqrt(number) + 1) if number % size == 0]
    return max(size for one in small for size in (one, number // one) if size <= most)
