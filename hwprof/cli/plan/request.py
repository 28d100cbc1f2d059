"""What does a person ask of the planner? Options of ``hwprof plan`` to questions, checked."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, get_args

import click

from hwprof.cli.job_options import (
    LONGEST_DEFAULT,
    POSITIVE,
    capture_options,
    job_choices,
    job_of,
    job_options,
    model_option,
    seq_len_of,
    stack_of,
    switch_options,
)
from hwprof.cli.options import FiniteRange, Listed, with_options
from hwprof.errors import InputError, UnknownNameError
from hwprof.plan.advice.from_run import calibrated, job_of_run
from hwprof.plan.answer.cost import RunningRates, rates_of, step_limits_s, steps_of
from hwprof.plan.answer.machines import Objective, Option, Unable, option_of
from hwprof.plan.space.question import MEMORY_MARGIN, Choices, Question
from hwprof.predict.machine import Machine, machine_of
from hwprof.predict.stacks import Stack
from hwprof.session.captured import Shapes, counted_model, of_products
from hwprof.specs.catalogue.lookup import load_cluster, load_device
from hwprof.specs.catalogue.simulator import simulator_parameters
from hwprof.specs.frozen import default_of
from hwprof.specs.hardware.spec import ClusterSpec
from hwprof.specs.job.settings import RunSettings
from hwprof.specs.job.step import TrainingJob
from hwprof.specs.model.spec import ModelSpec
from hwprof.specs.record.run import RunRecord
from hwprof.units import parse

_AMOUNT = re.compile(r"([0-9][0-9_]*(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)\s*([kKMGBT]?)")
_FACTORS = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "B": 1e9, "T": 1e12}
NONNEGATIVE = FiniteRange(min=0, min_open=True)
Item = TypeVar("Item")


class Amount(click.ParamType[float]):
    """A positive number that may end in k, M, B (or G) or T: ``15T`` tokens, ``2M`` dollars."""

    name = "amount"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number, or a usage error."""
        match = _AMOUNT.fullmatch(str(value).strip())
        if match is None or not 0 < float(match[1]) * _FACTORS[match[2]] < float("inf"):
            self.fail(f"{value!r} is no positive number such as 15T, 300B or 2.5M.", param, ctx)
        return float(match[1]) * _FACTORS[match[2]]


NUMBERS = Listed(POSITIVE)
SWITCH = Listed(click.Choice(["on", "off"]))

job_part = with_options(
    model_option(),
    click.option("--hardware", type=Listed(click.STRING), help="Devices of the catalogue, commas between them."),
    click.option("--devices", type=NUMBERS, help="How many; several counts with commas between them."),
    click.option("--max-devices", type=POSITIVE, help="Without --devices: all doublings of a node up to this."),
    job_options("global_batch", "seq_len"),
    capture_options,
    job_choices("dtype", dtype="One or several; default: bf16."),
    job_options(
        *("optimizer", "lora_rank", "lora_targets", "qlora", "offload_to", "offload_layers"),
        optimizer={"default": None, "help": "Default: adamw."},
    ),
    switch_options(),
    click.option(
        "--run", "run_directory", type=click.Path(path_type=Path), help="A run on one device: job and calibration."
    ),
)
"""What is trained, and in which formats."""

goal_part = with_options(
    click.option("--objective", type=click.Choice(get_args(Objective)), default="time", show_default=True),
    click.option("--tokens", type=Amount(), help="Tokens of the whole training, for example 15T."),
    click.option("--deadline", help="Longest time of the whole training, for example 30d."),
    click.option("--budget", type=Amount(), help="Most that the whole training may cost in USD, for example 2M."),
    click.option("--price", type=NONNEGATIVE, help="USD for an hour of one device; default: the device file's."),
    click.option("--watt", type=NONNEGATIVE, help="Power of one device; default: its TDP."),
    click.option("--pue", type=FiniteRange(min=1), help="Power of the building over that of its devices."),
    click.option(
        "--memory-margin",
        type=FiniteRange(min=0, max=0.9),
        default=MEMORY_MARGIN,
        show_default=True,
        help="Share of a device's memory to leave free.",
    ),
    click.option("--device-memory", help="Memory of a device, where its file does not say: 512GB."),
)
"""What is best, and what a plan must keep to."""

choice_part = with_options(
    job_choices(
        *("tp", "pp", "vp", "cp", "ep", "dp", "micro_batch", "zero", "recompute", "offload"),
        offload="What may live in host memory; default: none.",
    ),
    click.option("--host-memory", help="Of a node, for --offload: 2TB; default: not looked at."),
    job_choices("context_kind", context_kind="On several context ranks; default: ring."),
    click.option("--sequence-parallel", type=SWITCH, help="Beside tensor parallelism: on, off or both; default: on."),
    click.option("--overlap", type=SWITCH, help="Traffic of data and tensor ranks beside compute; default: on."),
    job_choices("schedule", schedule="Default: those that --stack has."),
    click.option("--no-hybrid", is_flag=True, help="ZeRO shards over all replicas, never over fewer (HSDP)."),
)
"""What the search may choose."""


def options_of(typed: dict[str, Any]) -> tuple[list[Option], list[Unable]]:
    """Every hardware with every number of devices, searched; those that can't be are set apart with the reason.

    Raises:
        UnknownNameError: a name is in no catalogue.
        InputError: something that is needed is missing, or no machine can be searched.
    """
    record = _run_of(typed["run_directory"]) if typed["run_directory"] else None
    names = typed["hardware"] or _needed(_hardware_of(record), "--hardware")
    options, errors, unable = [], [], []
    machines = [(name, devices) for name in names for devices in _counts(name, typed)]
    for hardware, devices in machines:
        try:
            question, rates = _asked(hardware, devices, typed, record)
            options.append(option_of(question, rates, tokens=typed["tokens"]))
        except UnknownNameError:
            raise
        except InputError as error:  # one machine of several; told in its row
            errors.append(error)
            unable.append(Unable(hardware=load_device(hardware).id, devices=devices, reason=error.fact))
    if not options:
        raise errors[0]
    return options, unable


def machine_for(hardware: str, devices: int, device_memory: str | None) -> Machine:
    """So many devices of a name, in their usual nodes.

    Raises:
        InputError: there is no such device, or so many of it are not defined.
    """
    return machine_of(_with_memory(load_cluster(f"{devices}x{hardware}"), device_memory))


def _run_of(directory: Path) -> RunRecord:
    """A run that plans may start from.

    Raises:
        InputError: there is none, it is of a loop that somebody else wrote, or of several devices.
    """
    from hwprof.report.files.run import read_run

    record = read_run(directory)
    if not isinstance(record.settings, RunSettings) or record.world_size > 1:
        what = "several devices" if record.world_size > 1 else "a loop of somebody else"
        raise InputError(f"{directory} is a run of {what}", expectation="plans start from `hwprof run` on one device")
    return record


def _hardware_of(record: RunRecord | None) -> tuple[str, ...]:
    return (record.device.catalogue_id,) if record is not None and record.device.catalogue_id else ()


def _needed(value: Item | None, option: str) -> Item:
    if not value:
        raise InputError(f"{option} is missing", remedy=f"give {option}; `hwprof plan --help` explains it")
    return value


def _counts(hardware: str, typed: dict[str, Any]) -> Sequence[int]:
    if typed["devices"]:
        return [int(count) for count in typed["devices"]]
    most = _needed(typed["max_devices"], "--devices or --max-devices")
    node = load_cluster(f"1x{hardware}").device.node.devices
    counts = [1, *(node * 2**power for power in range(32) if node > 1 or power)]
    return [count for count in counts if count <= most]


def _asked(
    hardware: str, devices: int, typed: dict[str, Any], record: RunRecord | None
) -> tuple[Question, RunningRates]:
    machine = machine_for(hardware, devices, typed["device_memory"])
    cpu = machine.device.kind == "cpu"
    stack = stack_of(typed | {"stack": typed["stack"] or ("torch" if cpu or record else None)})
    base = _base(typed, stack, record)
    rates = rates_of(machine.device, usd_per_hour=typed["price"], watt=typed["watt"], pue=typed["pue"])
    question = Question(
        base=base,
        machine=machine,
        stack=stack,
        table=simulator_parameters(),
        choices=_choices(typed),
        margin=typed["memory_margin"],
        **_longest(typed, base, devices, rates),
        host_memory_bytes=_host_memory(typed),
    )
    if record is not None and record.device.catalogue_id == machine.device.id:
        found = calibrated(record, question.table, replace(machine, devices=1))
        question = replace(question, table=found.table, memory_scale=found.memory_scale, notes=found.notes)
    return question, rates


def _host_memory(typed: dict[str, Any]) -> float | None:
    if typed["host_memory"] is None:
        return None
    if not typed["offload"] or set(typed["offload"]) == {"none"}:
        raise InputError("--host-memory bounds nothing without offload", remedy="give --offload too")
    found = parse(typed["host_memory"], "byte")
    if not found:
        raise InputError(
            "--host-memory 0 leaves no room for offload", remedy="leave --offload out, or give what a node has"
        )
    return found


def _with_memory(cluster: ClusterSpec, text: str | None) -> ClusterSpec:
    """The cluster with a device's memory of ``text``, where its file does not say."""
    if cluster.device.memory.capacity_bytes is not None:
        return cluster
    if text is None:
        raise InputError(
            f"the memory of {cluster.device.id} is not known", remedy="give --device-memory, such as 512GB"
        )
    memory = cluster.device.memory.changed(capacity_bytes=parse(text, "byte"))
    return cluster.changed(device=cluster.device.changed(memory=memory))


def _base(typed: dict[str, Any], stack: Stack, record: RunRecord | None) -> TrainingJob:
    """The job as typed; what was not typed is the run's, if there is one."""
    run = job_of_run(record) if record is not None else None
    own: ModelSpec | None = _model(typed) if typed["model"] else run.model if run else None
    model = _needed(own, "--model")
    ran = {name: getattr(run, field) for name, field in _OF_RUN.items()} if run else {}
    said = typed | {name: value for name, value in ran.items() if typed[name] is None} | dict.fromkeys(_CHOSEN)
    return job_of(
        said,
        stack,
        model=model,
        seq_len=said["seq_len"] or seq_len_of(model),
        global_batch=_needed(typed["global_batch"], "--global-batch"),
        dtype=typed["dtype"][0] if typed["dtype"] else run.dtype if run else default_of(TrainingJob, "dtype"),
        optimizer=said["optimizer"] or default_of(TrainingJob, "optimizer"),
    )


def _model(typed: dict[str, Any]) -> ModelSpec:
    """The model; should it have to be captured, at two batch sizes, so that all others are known."""
    dtype = of_products(typed["dtype"][0] if typed["dtype"] else "bf16")
    shapes = Shapes(
        batch_sizes=(1, 2),
        seq_len=typed["seq_len"],
        dtype=dtype,
        narrow=True,
        longest=LONGEST_DEFAULT,
        images=typed["images"],
        seconds=typed["seconds"],
    )
    return counted_model(typed["model"], shapes)


_OF_RUN = {"compile": "compiled", "fused": "fused", "optimizer": "optimizer", "seq_len": "seq_len"}
_CHOSEN = ("micro_batch", "recompute", "offload")
"""What the search sets in each layout."""


def _choices(typed: dict[str, Any]) -> Choices:
    plain = Choices()
    return Choices(
        tensor=typed["tp"] or (),
        context=typed["cp"] or (),
        pipeline=typed["pp"] or (),
        data=typed["dp"] or (),
        expert=typed["ep"] or (),
        virtual=typed["vp"] or (),
        micro_batch=typed["micro_batch"] or (),
        zero=typed["zero"] or plain.zero,
        recompute=typed["recompute"] or plain.recompute,
        schedule=typed["schedule"] or (),
        sequence_parallel=_switched(typed["sequence_parallel"]),
        overlap=_switched(typed["overlap"]),
        dtype=typed["dtype"] or (),
        offload=typed["offload"] or plain.offload,
        context_kind=typed["context_kind"] or plain.context_kind,
        hybrid=not typed["no_hybrid"],
    )


def _switched(given: tuple[str, ...] | None) -> tuple[bool, ...]:
    return tuple(value == "on" for value in given or ("on",))


def _longest(typed: dict[str, Any], base: TrainingJob, devices: int, rates: RunningRates) -> dict[str, Any]:
    if typed["deadline"] is None and typed["budget"] is None:
        return {}
    if not typed["tokens"]:
        raise InputError(
            "--deadline and --budget bound the whole training, and its length is not known",
            remedy="give its tokens too, such as --tokens 2T",
        )
    tokens = typed["tokens"]
    deadline_s = parse(typed["deadline"], "s") if typed["deadline"] else None
    steps = steps_of(base, tokens)
    budget_usd = typed["budget"]
    limits = step_limits_s(steps=steps, devices=devices, rates=rates, deadline_s=deadline_s, budget_usd=budget_usd)
    name, longest_s = min(limits.items(), key=lambda each: each[1])
    return {"longest_step_s": longest_s, "limit": name}
