"""What does a person ask of the planner? Options of ``hwprof plan`` to questions, checked."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from hwprof.cli.job_options import (
    POSITIVE,
    capture_options,
    job_choices,
    job_options,
    model_option,
    named_hardware,
    seq_len_of,
    switch_options,
)
from hwprof.cli.options import Devices, Listed, Word, with_options
from hwprof.cli.plan.goals import limited, limits_typed, reliability_typed
from hwprof.cli.plan.question import asked, model_of
from hwprof.count.blocks.parameters import parameter_tensors
from hwprof.errors import InputError, UnknownNameError, WorkError
from hwprof.plan.answer.cost import DAY_S, RunningRates, step_limits_s
from hwprof.plan.answer.fleet import best_plan, fleet_of
from hwprof.plan.answer.machines import Answer, Objective, Option, Unable, answer_of, option_of
from hwprof.plan.answer.nearest import Change, nearest_change
from hwprof.plan.space.question import Question
from hwprof.specs.catalogue.lookup import cluster_of
from hwprof.specs.job.settings import RunSettings
from hwprof.specs.record.run import RunRecord

NUMBERS = Listed(Devices())
SWITCH = Listed(Word(["on", "off"]))

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
        "--emulation",
        metavar="DIR",
        type=click.Path(path_type=Path),
        help="Folder that `hwprof emulate --output` left: the model of its script.",
    ),
    click.option(
        "--run", "run_directory", type=click.Path(path_type=Path), help="A run on one device: job and calibration."
    ),
)
"""What is trained, and in which formats."""

choice_part = with_options(
    job_choices(
        *("tp", "pp", "vp", "cp", "ep", "etp", "dp", "micro_batch", "zero", "recompute", "offload"),
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


def answer_to(typed: dict[str, Any]) -> Answer:
    """Every hardware with every number of devices, searched; those that can't be are set apart with the reason.

    With a deadline or a budget and no devices, the number of devices is searched for.

    Raises:
        UnknownNameError: a name is in no catalogue.
        InputError: something that is needed is missing, or no machine can be searched.
    """
    record = _run_of(typed["run_directory"]) if typed["run_directory"] else None
    if typed["emulation"]:
        typed = typed | _emulated(typed)
    alone = not (typed["devices"] or typed["max_devices"] or limited(typed))
    typed = typed | named_hardware(typed["hardware"] or _hardware_of(record), typed["devices"], alone=alone)
    searched = limited(typed) and not typed["devices"] and typed["objective"] in SEARCHED
    if searched and not typed["hardware"]:
        typed = typed | {"hardware": USUAL_HARDWARE}
    _complete(typed, record, searched=searched)
    typed = typed | _usual_batch(typed, record)
    if searched and typed["deadline"] is None and typed["objective"] is None:
        return _within_budget(typed, record)
    if searched:
        return _fleets(typed, record)
    answer = _machines(typed, record)
    return answer if answer.plans else replace(answer, change=_change(answer, typed, record))


def _change(answer: Answer, typed: dict[str, Any], record: RunRecord | None) -> Change | None:
    """The nearest that works, on the first hardware."""
    question, free = answer.options[0].question, typed | {"deadline": None, "budget": None}

    def ask(devices: int, batch: int) -> tuple[Question, RunningRates]:
        return asked(typed["hardware"][0], devices, free, record, batch=batch)

    limits = limits_typed(typed, typed["global_batch"]) if limited(typed) else None
    return nearest_change(question, ask, limits, reliability_typed(typed, question.machine.devices))


def _machines(typed: dict[str, Any], record: RunRecord | None) -> Answer:
    options, errors, unable = [], [], []
    for hardware, devices in [(name, devices) for name in typed["hardware"] for devices in _counts(name, typed)]:
        try:
            options.append(_best_batch(hardware, devices, typed, record))
        except UnknownNameError:
            raise
        except InputError as error:  # one machine of several; told in its row
            errors.append(error)
            unable.append(Unable(hardware=cluster_of(1, hardware).device.id, devices=devices, reason=error.fact))
    if not options:
        raise errors[0]
    return answer_of(options, typed["objective"] or "time", unable)


def _best_batch(hardware: str, devices: int, typed: dict[str, Any], record: RunRecord | None) -> Option:
    """The batch as typed, or where it may move, the one near it that trains fastest."""
    movable = limited(typed) or (typed.get("batch_assumed") and typed["batch_tolerance"] is None)
    near = limits_typed(typed | {"tokens": typed["tokens"] or 1.0}, typed["global_batch"])
    batches = near.batches(devices) if movable else (None,)
    found = []
    for batch in batches:
        question, rates = asked(hardware, devices, typed, record, batch=batch)
        found.append(option_of(question, rates, tokens=typed["tokens"], reliability=reliability_typed(typed, devices)))
    return min(found, key=_time_s)


def _time_s(option: Option) -> tuple[bool, float]:
    best = option.plans[0] if option.plans else option.beyond
    return not option.plans, best.bill.time_s if best else float("inf")


LONGEST_USUAL_S = 117 * DAY_S
"""A budget alone asks for a training of at most so long, where there is one: as BLOOM's 1,082,990 hours of 384 A100
took (Luccioni et al. 2022, section 4.1). The cheapest of all would be a few devices for years."""


def _within_budget(typed: dict[str, Any], record: RunRecord | None) -> Answer:
    """The cheapest that is done in a usual time; the cheapest of all where nothing is."""
    try:
        found = _fleets(typed | {"deadline": LONGEST_USUAL_S, "time_assumed": LONGEST_USUAL_S}, record)
    except WorkError:
        found = None
    return _fleets(typed | {"time_assumed": 0.0}, record) if found is None or found.chosen is None else found


def _fleets(typed: dict[str, Any], record: RunRecord | None) -> Answer:
    """What each hardware takes to keep to the limits."""
    limits, fleets, unable = limits_typed(typed, typed["global_batch"]), [], []
    free = typed | {"deadline": None, "budget": None}
    for hardware in typed["hardware"]:

        def ask(devices: int, batch: int, hardware: str = hardware) -> tuple[Question, RunningRates]:
            return asked(hardware, devices, free, record, batch=batch)

        device = cluster_of(1, hardware).device
        if typed["budget"] is not None:
            step_limits_s(
                steps=1, devices=1, rates=ask(1, limits.batch)[1], deadline_s=None, budget_usd=typed["budget"]
            )
        found = fleet_of(device.id, device.node.devices, ask, limits, reliability_typed(typed, 1))
        fleets.append(found)
        if not found.options:
            unable.append(Unable(hardware=device.id, devices=0, reason=found.reason))
    options = tuple({option.name: option for fleet in fleets for option in fleet.options}.values())
    if not options:
        raise WorkError(
            f"no number of {', '.join(fleet.hardware for fleet in fleets)} keeps to this: {fleets[0].reason}",
            remedy="allow more time or money, or name other hardware",
        )
    return answer_of(options, "cost", unable, fleets=fleets, first=best_plan(tuple(fleets), limits, typed["objective"]))


def _complete(typed: dict[str, Any], record: RunRecord | None, *, searched: bool) -> None:
    """That all that is needed was typed.

    Raises:
        InputError: not all of it; every option that is missing is named.
    """
    needed = {
        "--model": typed["model"] or record,
        "--hardware": typed["hardware"],
        "--devices": searched or typed["devices"] or typed["max_devices"],
        "--global-batch": typed["global_batch"] or not typed["lora_rank"],
        "--tokens": not limited(typed) or typed["tokens"],
    }
    missing = [option for option, given in needed.items() if not given]
    if missing == ["--tokens"]:
        limits_typed(typed, 1)  # says why
    if missing:
        model, hardware = typed["model"] or "70b", ",".join(typed["hardware"]) or "h100-sxm"
        example = f"hwprof plan --model {shlex.quote(model)} --hardware {shlex.quote(hardware)}"
        example += f" --devices {','.join(map(str, typed['devices'] or (64,)))}"
        if typed["lora_rank"]:
            example += f" --lora-rank {typed['lora_rank']} --global-batch {typed['global_batch'] or 128}"
        how_many = ", or with --tokens 15T --deadline 60d to be told how many" if "--devices" in missing else ""
        raise InputError(
            f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing",
            remedy=f"for example `{example}`{how_many}",
        )


SEARCHED: tuple[Objective | None, ...] = (None, "time", "cost")
"""Objectives for which a number of devices is searched for."""

USUAL_HARDWARE = ("a100-sxm4-80gb", "h100-sxm5-80gb", "h200-sxm5-141gb", "b200-sxm-180gb")
"""What is compared where nobody names hardware: NVIDIA's nodes of eight that many rent, whose prices are known."""

USUAL_STEP_TOKENS = {30e9: 16e6, 5e9: 4e6, 1e9: 1e6, 0: 0.5e6}
"""Tokens of a step from so many parameters on: 16 M as Llama 3 405B ended (Llama Team 2024, section 3.4.1), 4 M as all
of Llama 2 had (Touvron et al. 2023, section 2.2), 1 M and 0.5 M as the small GPT-3 (Brown et al. 2020, table 2.1)."""


def _usual_batch(typed: dict[str, Any], record: RunRecord | None) -> dict[str, Any]:
    """A batch of pretraining where none was typed; said in the answer."""
    if typed["global_batch"]:
        return {}
    model = model_of(typed, record)
    size = sum(tensor.total for tensor in parameter_tensors(model))
    tokens = next(tokens for least, tokens in USUAL_STEP_TOKENS.items() if size >= least)
    power = round(math.log2(tokens / (typed["seq_len"] or seq_len_of(model))))
    return {"global_batch": 2 ** max(power, 0), "batch_assumed": 2 ** max(power, 0)}


def _emulated(typed: dict[str, Any]) -> dict[str, Any]:
    """The file of the model of an emulated script, and its adapters where none were typed.

    Raises:
        InputError: the script's model is none that can be planned, or another model was named, too.
    """
    from hwprof.emulate.decoder import FILE, trained_of
    from hwprof.emulate.saved import read_recordings

    if typed["model"] or typed["run_directory"]:
        raise InputError("--emulation says the model", remedy="leave --model and --run out")
    adapters = trained_of(read_recordings(typed["emulation"])[0]).adapters  # or why it can't be planned
    file: Path = typed["emulation"] / FILE
    if not file.is_file():
        raise InputError(f"{file} is not there", remedy="emulate the script again with --output")
    if adapters is None or typed["lora_rank"] is not None:
        return {"model": str(file)}
    click.echo(f"as the script trains: adapters of rank {adapters.rank} on {adapters.targets}", err=True)
    return {"model": str(file), "lora_rank": adapters.rank, "lora_targets": adapters.targets}


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


def _counts(hardware: str, typed: dict[str, Any]) -> Sequence[int]:
    if typed["devices"]:
        return [int(count) for count in typed["devices"]]
    most = typed["max_devices"]
    node = cluster_of(1, hardware).device.node.devices
    counts = [1, *(node * 2**power for power in range(32) if node > 1 or power)]
    return [count for count in counts if count <= most]
