"""How is the memory of a training job asked for? ``hwprof count`` with a layout, a storage, an adaptation."""

from __future__ import annotations

from typing import Any, get_args

import click

from hwprof.cli.count.step_report import Counted
from hwprof.cli.job_options import (
    POSITIVE,
    SWITCHES,
    check_model,
    job_of,
    job_options,
    layout_of,
    stack_of,
    switch_options,
)
from hwprof.cli.options import given, with_options
from hwprof.count.blocks.transformer import CONVENTIONS
from hwprof.count.job.ops import job_step_ops
from hwprof.count.job.totals import flop_of
from hwprof.count.memory.job import job_memory
from hwprof.count.memory.step import MemoryNeed
from hwprof.errors import InputError
from hwprof.specs.job.settings import Dtype, OptimizerName, RunSettings
from hwprof.specs.job.step import TrainingJob
from hwprof.specs.job.switches import JobDtype, JobOptimizer
from hwprof.specs.model.spec import ModelSpec
from hwprof.units import format_bytes

_LAYOUT = (
    *("tp", "pp", "vp", "cp", "context_kind", "ep", "etp", "expert_skew", "dp", "zero", "shard_ranks", "schedule"),
    "no_sequence_parallel",
)
_JOB = ("recompute_layers", "offload", "offload_to", "offload_layers", "lora_rank", "lora_targets", "qlora")
JOB_OPTIONS = (*_LAYOUT, "micro_batches", *_JOB, "stack", *(name for name in SWITCHES if name != "compile"))
"""What only a job has."""

job_part = with_options(
    job_options(*_LAYOUT, schedule={"default": None}),
    click.option("--micro-batches", type=POSITIVE, help="Micro-batches of a replica in a step; default: the stages."),
    job_options(*_JOB),
    switch_options(),
)


def job_words(context: click.Context, *, dtype: JobDtype, optimizer: JobOptimizer) -> list[str]:
    """What was typed that goes beyond a step of hwprof's own training loop on one device."""
    beyond = {
        f"--dtype {dtype}": dtype not in get_args(Dtype),
        f"--optimizer {optimizer}": optimizer not in get_args(OptimizerName),
    }
    return [*given(context, *JOB_OPTIONS), *(word for word, holds in beyond.items() if holds)]


def refuse_job_options(context: click.Context, *, dtype: JobDtype, optimizer: JobOptimizer) -> None:
    """Say that a layout goes with a training step of a model.

    Raises:
        InputError: one of the options was given.
    """
    for word in job_words(context, dtype=dtype, optimizer=optimizer):
        raise InputError(
            f"{word} does not go here", expectation="it goes with a training step of --model", remedy="leave it out"
        )


def counted_job(
    context: click.Context, spec: ModelSpec, settings: RunSettings, *, dtype: JobDtype, optimizer: JobOptimizer
) -> Counted:
    """A step of the job that was typed; ``settings`` hold its micro-batch.

    Raises:
        InputError: the parts contradict each other.
    """
    job = _job(context, spec, settings)
    full, causal = (job_step_ops(job, attention=convention) for convention in CONVENTIONS)
    need = job_memory(job)
    return Counted(
        spec=spec,
        settings=settings,
        dtype=dtype,
        optimizer=optimizer,
        ops=full,
        flop=flop_of(full, causal),
        need=need,
        job_json=_memory_json(need, job),
        job_lines=tuple(_memory_lines(need, job)),
    )


def _job(context: click.Context, spec: ModelSpec, settings: RunSettings) -> TrainingJob:
    typed = context.params
    if settings.target_len not in {None, settings.seq_len}:
        raise InputError(
            "--target-len does not go with a job", expectation="both sides have one length", remedy="leave it out"
        )
    layout = layout_of(typed)
    check_model(stack_of(typed).trained(spec), layout)
    return job_of(
        typed,
        stack_of(typed),
        model=spec,
        seq_len=settings.seq_len,
        global_batch=settings.micro_batch * layout.data_parallel * (typed["micro_batches"] or layout.pipeline_parallel),
        micro_batch=settings.micro_batch,
        layout=layout,
    )


def _memory_json(need: MemoryNeed, job: TrainingJob) -> dict[str, Any]:
    """What a job's memory has beside the peak and its parts."""
    return {
        "stage": need.stage,
        "stage_bytes": [round(size) for size in need.stage_bytes],
        "reserved_bytes": round(need.reserved_bytes),
        "libraries_bytes": round(need.libraries_bytes),
        "device_bytes": round(need.device_bytes),
        "micro_batches": job.micro_batches,
        "storage": job.storage,
        "framework": job.framework,
        "layout": job.layout.model_dump(mode="json"),
    }


def _memory_lines(need: MemoryNeed, job: TrainingJob) -> list[str]:
    """The same for people."""
    stages = ", ".join(format_bytes(size) for size in need.stage_bytes)
    libraries = f"CUDA and NCCL {format_bytes(need.libraries_bytes)}"
    beside = f"{format_bytes(need.reserved_bytes)} reserved by the allocator, {libraries}"
    used = f"{job.storage} storage as {job.framework} keeps it"
    return [
        f"  on each of {job.layout.devices} device(s), {used}, {job.micro_batches} micro-batch(es) a step",
        *([f"  stages: {stages}"] if len(need.stage_bytes) > 1 else []),
        f"  estimated: {beside}; of the device {format_bytes(need.device_bytes)}",
    ]
