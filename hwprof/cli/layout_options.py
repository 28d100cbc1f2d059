"""How does a person type a training job and its layout? Options that commands share, and their checks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_args

import click

from hwprof.cli.job_checks import check_model, checked
from hwprof.cli.numbers import FiniteRange
from hwprof.errors import InputError
from hwprof.predict.machine import Machine, machine_of
from hwprof.predict.stacks import STACKS, Stack, stack_named
from hwprof.specs.catalogue.lookup import load_cluster, load_model
from hwprof.specs.job.parallel import CONTEXT_KINDS, ParallelLayout
from hwprof.specs.job.schedules import SCHEDULES
from hwprof.specs.job.step import LoraSpec, TrainingJob
from hwprof.specs.job.switches import Attention, JobDtype, JobOptimizer, Offload, OffloadTarget, Switches
from hwprof.specs.record.run import Recompute

POSITIVE = click.IntRange(min=1)
LONGEST_DEFAULT = 4096
"""Tokens of a sequence where none are said and the model was made for more."""

Command = Callable[..., None]


def job_options(command: Command) -> Command:
    """Options of the model, the batch and the formats."""
    for option in reversed(
        (
            click.option("--model", required=True, help="Catalogue name, TOML file or Hugging Face config.json."),
            click.option("--seq-len", type=POSITIVE, help="Tokens of a sequence; default: the model's, at most 4096."),
            click.option("--global-batch", type=POSITIVE, help="Sequences of a step over all devices."),
            click.option("--micro-batch", type=POSITIVE, default=1, show_default=True, help="Of one replica."),
            click.option("--dtype", type=click.Choice(get_args(JobDtype)), default="bf16", show_default=True),
            click.option("--optimizer", type=click.Choice(get_args(JobOptimizer)), default="adamw", show_default=True),
            click.option("--recompute", type=click.Choice(get_args(Recompute)), default="none", show_default=True),
            click.option("--recompute-layers", type=POSITIVE, help="In how many layers; default: in all."),
            click.option("--attention", type=click.Choice(get_args(Attention)), help="Default: that of --stack."),
            click.option("--offload", type=click.Choice(get_args(Offload)), default="none", show_default=True),
            click.option("--offload-to", type=click.Choice(get_args(OffloadTarget)), default="host", show_default=True),
            click.option("--lora-rank", type=POSITIVE, help="Train low-rank adapters of this rank only."),
            click.option(
                "--stack",
                type=click.Choice([stack.name for stack in STACKS]),
                default="megatron-core",
                show_default=True,
                help="Training software, whose overlap and overheads are meant.",
            ),
        )
    ):
        command = option(command)
    return command


def layout_options(command: Command) -> Command:
    """Options of the parallel layout."""
    for option in reversed(
        (
            click.option("--tp", type=POSITIVE, default=1, show_default=True, help="Tensor parallel."),
            click.option("--pp", type=POSITIVE, default=1, show_default=True, help="Pipeline stages."),
            click.option(
                "--vp", type=POSITIVE, default=1, show_default=True, help="Model chunks a stage (interleaved)."
            ),
            click.option("--cp", type=POSITIVE, default=1, show_default=True, help="Context parallel."),
            click.option(
                "--context-kind", type=click.Choice(CONTEXT_KINDS), default="ring", show_default=True, help="With --cp."
            ),
            click.option("--ep", type=POSITIVE, default=1, show_default=True, help="Expert parallel."),
            click.option(
                "--expert-skew",
                type=FiniteRange(min=1.0),
                default=1.0,
                show_default=True,
                help="Tokens of the busiest expert rank over the mean.",
            ),
            click.option("--dp", type=POSITIVE, help="Data parallel; default: what the other degrees leave."),
            click.option(
                "--zero", type=click.IntRange(0, 3), default=1, show_default=True, help="ZeRO stage; 3 = FSDP."
            ),
            click.option("--shard-ranks", type=POSITIVE, help="Ranks over which ZeRO shards (HSDP); default: all."),
            click.option("--schedule", type=click.Choice(SCHEDULES), help="Default: 1f1b, interleaved with --vp."),
            click.option("--no-sequence-parallel", is_flag=True, help="Norms and residuals whole on each tensor rank."),
            click.option("--no-overlap", is_flag=True, help="Traffic never runs beside compute."),
        )
    ):
        command = option(command)
    return command


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A job as typed, on a machine, with its software."""

    job: TrainingJob
    machine: Machine
    stack: Stack


def placed_job(hardware: str, devices: int, **typed: Any) -> Placed:
    """The job that a person typed.

    Raises:
        InputError: it can't be, and why.
    """
    model = load_model(typed["model"])
    machine = machine_of(load_cluster(f"{devices}x{hardware}"))
    layout = _layout(devices, typed)
    check_model(model, layout)
    share = typed["micro_batch"] * layout.data_parallel
    seq_len = typed["seq_len"] or min(model.max_seq_len, LONGEST_DEFAULT)
    stack = stack_named(typed["stack"])
    lora = LoraSpec(rank=typed["lora_rank"]) if typed["lora_rank"] else None
    job = checked(
        TrainingJob,
        model=model,
        seq_len=seq_len,
        global_batch=typed["global_batch"] or share * layout.pipeline_parallel,
        micro_batch=typed["micro_batch"],
        dtype=typed["dtype"],
        **stack.switches | _typed_switches(typed),
        optimizer=typed["optimizer"],
        recompute=typed["recompute"],
        recompute_layers=typed["recompute_layers"],
        offload=typed["offload"],
        offload_to=typed["offload_to"],
        expert_skew=typed["expert_skew"],
        lora=lora,
        layout=layout,
    )
    return Placed(job=job, machine=machine, stack=stack)


def _typed_switches(typed: dict[str, Any]) -> Switches:
    return Switches(attention=typed["attention"]) if typed["attention"] else Switches()


def _layout(devices: int, typed: dict[str, Any]) -> ParallelLayout:
    product = typed["tp"] * typed["pp"] * typed["cp"]
    if devices % product or (typed["dp"] and typed["dp"] * product != devices):
        shown = f" x dp {typed['dp']}" if typed["dp"] else ""
        raise InputError(
            f"tp {typed['tp']} x pp {typed['pp']} x cp {typed['cp']}{shown} does not make up {devices} devices",
            expectation="the degrees multiply to the number of devices",
            remedy="change a degree or --devices",
        )
    return checked(
        ParallelLayout,
        data_parallel=devices // product,
        tensor_parallel=typed["tp"],
        pipeline_parallel=typed["pp"],
        virtual_stages=typed["vp"],
        context_parallel=typed["cp"],
        context_kind=typed["context_kind"],
        expert_parallel=typed["ep"],
        zero_stage=typed["zero"],
        shard_ranks=typed["shard_ranks"],
        sequence_parallel=not typed["no_sequence_parallel"],
        schedule=typed["schedule"] or ("interleaved" if typed["vp"] > 1 else "1f1b"),
        overlap=not typed["no_overlap"],
    )
