"""How is the memory of a training job asked for? ``hwprof count`` with a layout, a storage, an adaptation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args

import click

from hwprof.cli.count.step_report import Counted
from hwprof.cli.job_checks import check_model, checked
from hwprof.count.blocks.transformer import CONVENTIONS
from hwprof.count.job.ops import job_step_ops
from hwprof.count.job.totals import flop_of
from hwprof.count.memory.job import job_memory
from hwprof.count.memory.step import MemoryNeed
from hwprof.errors import InputError
from hwprof.specs.job.parallel import ParallelLayout
from hwprof.specs.job.schedules import SCHEDULES, Schedule
from hwprof.specs.job.settings import Dtype, OptimizerName, RunSettings
from hwprof.specs.job.step import LoraSpec, TrainingJob
from hwprof.specs.job.switches import Framework, JobDtype, JobOptimizer, Offload, Storage
from hwprof.specs.model.spec import ModelSpec
from hwprof.units import format_bytes

_Function = TypeVar("_Function", bound=Callable[..., Any])

POSITIVE = click.IntRange(min=1)

_OPTIONS = (
    click.option("--tp", type=POSITIVE, help="Tensor-parallel devices."),
    click.option("--pp", type=POSITIVE, help="Pipeline stages."),
    click.option("--vp", type=POSITIVE, help="Model chunks a stage (interleaved)."),
    click.option("--cp", type=POSITIVE, help="Context-parallel devices."),
    click.option("--ep", type=POSITIVE, help="Devices over which experts are spread."),
    click.option("--dp", type=POSITIVE, help="Data-parallel replicas."),
    click.option("--zero", type=click.IntRange(0, 3), help="ZeRO stage; 3 = FSDP."),
    click.option("--shard-ranks", type=POSITIVE, help="Ranks over which ZeRO shards (HSDP); default: all."),
    click.option("--schedule", type=click.Choice(SCHEDULES), help="Default: 1f1b, interleaved with --vp."),
    click.option("--no-sequence-parallel", is_flag=True, help="Norms and residuals whole on each tensor rank."),
    click.option("--micro-batches", type=POSITIVE, help="Micro-batches of a replica in a step; default: the stages."),
    click.option("--storage", type=click.Choice(get_args(Storage)), help="Formats of weights and gradients."),
    click.option("--recompute-layers", type=POSITIVE, help="In how many layers; default: in all."),
    click.option("--attention", type=click.Choice(["flash", "materialised"]), help="Whether scores are stored."),
    click.option("--offload", type=click.Choice(get_args(Offload)), help="What lives in host memory."),
    click.option("--lora-rank", type=POSITIVE, help="Train low-rank adapters of this rank only."),
    click.option("--lora-targets", type=click.Choice(["attention", "ffn", "all"]), help="What has adapters."),
    click.option("--qlora", is_flag=True, help="With --lora-rank: frozen matrices in 4 bits."),
    click.option("--framework", type=click.Choice(get_args(Framework)), help="Whose way of keeping gradients."),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRequest:
    """What was typed about a job; None or False = not typed."""

    tp: int | None
    pp: int | None
    vp: int | None
    cp: int | None
    ep: int | None
    dp: int | None
    zero: Literal[0, 1, 2, 3] | None
    shard_ranks: int | None
    schedule: Schedule | None
    no_sequence_parallel: bool
    micro_batches: int | None
    storage: Storage | None
    recompute_layers: int | None
    attention: Literal["flash", "materialised"] | None
    offload: Offload | None
    lora_rank: int | None
    lora_targets: Literal["attention", "ffn", "all"] | None
    qlora: bool
    framework: Framework | None

    @property
    def given(self) -> tuple[str, ...]:
        """The options that were typed, as they are spelt."""
        return tuple(
            f"--{name.replace('_', '-')}" for name in self.__slots__ if getattr(self, name) not in {None, False}
        )


def job_options(function: _Function) -> _Function:
    """The options that only a job has."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def is_job(request: JobRequest, *, dtype: JobDtype, optimizer: JobOptimizer) -> bool:
    """Whether what was typed goes beyond a step of hwprof's own training loop on one device."""
    beyond = dtype not in get_args(Dtype) or optimizer not in get_args(OptimizerName)
    return bool(request.given) or beyond


def refuse_job_options(request: JobRequest, *, dtype: JobDtype, optimizer: JobOptimizer) -> None:
    """Say that a layout goes with a training step of a model.

    Raises:
        InputError: one of the options was given.
    """
    if is_job(request, dtype=dtype, optimizer=optimizer):
        name = request.given[0] if request.given else f"--dtype {dtype}"
        raise InputError(
            f"{name} does not go here", expectation="it goes with a training step of --model", remedy="leave it out"
        )


def counted_job(
    request: JobRequest, spec: ModelSpec, settings: RunSettings, *, dtype: JobDtype, optimizer: JobOptimizer
) -> Counted:
    """A step of the job that was typed; ``settings`` hold its micro-batch.

    Raises:
        InputError: the parts contradict each other.
    """
    job = _job(request, spec, settings, dtype=dtype, optimizer=optimizer)
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


def _job(
    request: JobRequest, spec: ModelSpec, settings: RunSettings, *, dtype: JobDtype, optimizer: JobOptimizer
) -> TrainingJob:
    if request.lora_rank is None and (request.qlora or request.lora_targets):
        raise InputError(
            "--qlora and --lora-targets describe adapters, but there are none", remedy="add --lora-rank, such as 16"
        )
    if settings.target_len not in {None, settings.seq_len}:
        raise InputError(
            "--target-len does not go with a job", expectation="both sides have one length", remedy="leave it out"
        )
    layout = _layout(request)
    check_model(spec, layout)
    storage = request.storage or "mixed"
    lora = request.lora_rank and LoraSpec(
        rank=request.lora_rank, targets=request.lora_targets or "all", quantized=request.qlora
    )
    return checked(
        TrainingJob,
        model=spec,
        seq_len=settings.seq_len,
        global_batch=settings.micro_batch * layout.data_parallel * (request.micro_batches or layout.pipeline_parallel),
        micro_batch=settings.micro_batch,
        dtype=dtype,
        storage=storage,
        optimizer=optimizer,
        recompute=settings.recompute,
        recompute_layers=request.recompute_layers,
        attention=request.attention or "flash",
        fused=settings.compile or storage == "mixed",
        offload=request.offload or "none",
        lora=lora or None,
        layout=layout,
    )


def _layout(request: JobRequest) -> ParallelLayout:
    typed = {
        "data_parallel": request.dp,
        "tensor_parallel": request.tp,
        "pipeline_parallel": request.pp,
        "virtual_stages": request.vp,
        "context_parallel": request.cp,
        "expert_parallel": request.ep,
        "zero_stage": request.zero,
        "shard_ranks": request.shard_ranks,
        "sequence_parallel": not request.no_sequence_parallel,
        "schedule": request.schedule or ("interleaved" if (request.vp or 1) > 1 else "1f1b"),
    }
    return checked(ParallelLayout, **{name: value for name, value in typed.items() if value is not None})


def _memory_json(need: MemoryNeed, job: TrainingJob) -> dict[str, Any]:
    """What a job's memory has beside the peak and its parts."""
    return {
        "stage": need.stage,
        "stage_bytes": [round(size) for size in need.stage_bytes],
        "allocator_bytes": round(need.allocator_bytes),
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
    beside = f"allocator {format_bytes(need.allocator_bytes)}, CUDA and NCCL {format_bytes(need.libraries_bytes)}"
    used = f"{job.storage} storage as {job.framework} keeps it"
    return [
        f"  on each of {job.layout.devices} device(s), {used}, {job.micro_batches} micro-batch(es) a step",
        *([f"  stages: {stages}"] if len(need.stage_bytes) > 1 else []),
        f"  beside it, estimated: {beside}; in all {format_bytes(need.device_bytes)}",
    ]
