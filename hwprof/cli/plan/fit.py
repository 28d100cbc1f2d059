"""Does a fine-tuning fit, at which batch and length, and how fast is it? ``hwprof fit``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hwprof.cli.examples import examples
from hwprof.cli.format_option import format_option, language_option, verbose_option
from hwprof.cli.job_options import (
    POSITIVE,
    TOKENS,
    capture_options,
    counted_hardware,
    job_options,
    model_option,
    stack_of,
    switch_options,
    switched,
)
from hwprof.cli.options import Amount, Devices, Listed, Word
from hwprof.errors import InputError
from hwprof.plan.fit.question import ADAPTATIONS, TASKS, FitQuestion, usual_lengths
from hwprof.plan.fit.rows import USUAL_LENGTH
from hwprof.predict.machine import machine_of
from hwprof.session.captured import LINE, Shapes, counted_model
from hwprof.specs.catalogue.lookup import cluster_of, counted, list_devices, list_models
from hwprof.specs.catalogue.simulator import simulator_parameters
from hwprof.specs.files import write_atomically
from hwprof.units import format_bytes, parse_typed

if TYPE_CHECKING:
    from hwprof.plan.fit.nearest import Change, Smallest
    from hwprof.plan.fit.rows import Fit, FitRow, Room
    from hwprof.report.chinese import Language
    from hwprof.specs.model.spec import ModelSpec

USUAL_BATCHES = (1, 2, 4, 8, 16)
USUAL_LENGTHS = (512, 1024, 2048, 4096, 8192)
USUAL_RANK = 16


@click.command(
    epilog=examples(
        "hwprof fit --model 8b --hardware rtx-4090",
        "hwprof fit --model 8b --memory 24GB --adaptation lora,qlora --batch-size 2 --seq-len 2048",
        "hwprof fit --model 70b --adaptation qlora",
        "hwprof fit --hardware rtx-4090",
        "hwprof fit --model 8b --hardware rtx-4090 --adaptation qlora --tokens 10M",
    )
)
@model_option()
@capture_options
@click.option("--hardware", help="Device of the catalogue, or a TOML file; 2xrtx-4090 for two of them.")
@click.option("--memory", help="In place of a device only its memory: 24GB (24e9 bytes) or 24GiB.")
@click.option("--devices", type=Devices(), help="How many hold the model together, sharded; default: 1.")
@click.option(
    "--adaptation",
    "adaptations",
    type=Listed(Word(ADAPTATIONS)),
    help="Ways to look at: all weights, the same with an 8-bit optimizer, LoRA, QLoRA; default: all of them.",
)
@click.option("--batch-size", "batches", type=Listed(POSITIVE), help="Sequences at a time; default: 1,2,4,8,16.")
@click.option(
    "--seq-len",
    "lengths",
    type=Listed(TOKENS),
    help="Tokens of a sequence; default: 512 to 8192, as the model allows; 2048 of a captured one.",
)
@click.option("--tokens", type=Amount(), help="Of the whole fine-tuning, for example 10M: how long it takes.")
@click.option("--task", type=Word(TASKS), default="sft", show_default=True, help="What is trained for.")
@job_options(
    *("lora_rank", "lora_targets", "optimizer", "recompute"),
    lora_rank={"default": USUAL_RANK, "help": "Rank of the adapters."},
    optimizer={"help": "Of all ways but full-8bit."},
    recompute={"default": "full", "help": "What backward computes again (gradient checkpointing)."},
)
@click.option("--accumulation", type=POSITIVE, default=1, show_default=True, help="Batches before an update.")
@click.option("--zero", type=click.IntRange(0, 3), default=3, show_default=True, help="With --devices: ZeRO stage.")
@job_options("offload")
@switch_options("huggingface")
@click.option("--csv", "csv_path", type=click.Path(path_type=Path, dir_okay=False), help="Write the rows here.")
@click.option(
    "--output", type=click.Path(path_type=Path, file_okay=False), help="Write settings for TRL and axolotl here."
)
@verbose_option
@language_option
@format_option
def command(
    *,
    csv_path: Path | None,
    output: Path | None,
    verbose: bool,
    language: Language,
    output_format: str,
    **typed: Any,
) -> None:
    """Find the largest batches of a fine-tuning of MODEL that fit, by full training, LoRA and QLoRA.

    The software is Hugging Face's (transformers, PEFT, TRL) as it comes, unless --stack, --compile, --loss or another
    switch says otherwise; --stack unsloth has fused kernels and a loss without whole logits. Without --hardware and
    --memory it finds the smallest device that works, without --model the largest models. Exit code 1: nothing fits.
    """
    _complete(typed)
    question = _question(typed)
    if typed["model"] is None:
        _answer_models(question, _room(typed, question), output_format, language)
        return
    if typed["hardware"] is None and typed["memory"] is None:
        _answer_devices(question, output_format, language)
        return
    from hwprof.plan.fit.nearest import nearest_change
    from hwprof.plan.fit.rows import fit_of
    from hwprof.plan.settings.finetune import finetune_settings
    from hwprof.report.plan.fit_text import fit_csv, print_fit

    table = simulator_parameters()
    fit = fit_of(question, _room(typed, question), table)
    change = None if fit.any_fits else nearest_change(question, fit.room, table)
    if csv_path:
        csv_path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(csv_path, fit_csv(fit))
    if output:
        output.mkdir(parents=True, exist_ok=True)
        for one in finetune_settings(fit):
            if one.text:
                write_atomically(output / one.file_name, one.text)
            else:
                click.echo(f"{one.framework} can't express {'; '.join(one.lacks)}", err=True)
    if output_format == "json":
        click.echo(json.dumps(_fit_json(fit, change), indent=2, allow_nan=False))
    else:
        print_fit(fit, change, sys.stdout, verbose=verbose, language=language)
    if not fit.any_fits:
        click.get_current_context().exit(1)


def _complete(typed: dict[str, Any]) -> None:
    """That a model or a place to train in was typed; ``2x24GB`` says devices and memory."""
    if typed["model"] is None and typed["hardware"] is None and typed["memory"] is None:
        raise InputError(
            "neither a model nor a device is named",
            remedy="give --model, --hardware (or --memory), or both: `hwprof fit --model 8b --hardware rtx-4090`",
        )
    if typed["memory"] and typed["memory"].strip().isdigit():
        size = typed["memory"].strip()
        raise InputError(f"--memory {size} has no unit", remedy=f"write {size}GB, or {size}GiB for {size} x 2^30 bytes")
    number, memory = counted(typed["memory"] or "")
    if number is not None and typed["devices"] in {None, number}:
        typed |= {"memory": memory, "devices": number}


def _question(typed: dict[str, Any]) -> FitQuestion:
    stack, model = stack_of(typed), _model(typed)
    devices = typed["devices"] or 1
    if typed["hardware"] and (typed["devices"] or counted(typed["hardware"], alone=True)[0]):
        typed["hardware"], devices = counted_hardware(typed["hardware"], typed["devices"])
    return FitQuestion(
        model=model,
        stack=stack,
        switches=switched(typed, stack),
        adaptations=typed["adaptations"] or ADAPTATIONS,
        batches=typed["batches"] or USUAL_BATCHES,
        lengths=typed["lengths"] or (_usual_lengths(model) if typed["model"] else (USUAL_LENGTH,)),
        task=typed["task"],
        rank=typed["lora_rank"],
        targets=typed["lora_targets"],
        optimizer=typed["optimizer"],
        recompute=typed["recompute"],
        accumulation=typed["accumulation"],
        devices=devices,
        zero_stage=typed["zero"],
        offload=typed["offload"],
        tokens=typed["tokens"],
    )


def _model(typed: dict[str, Any]) -> ModelSpec:
    """The model; should it have to be captured, at all lengths that were named, as it is trained and frozen."""
    lengths = typed["lengths"] or (None,)
    ways = typed["adaptations"] or ADAPTATIONS
    shapes = Shapes(
        batch_sizes=LINE,
        seq_len=lengths[0],
        more_lengths=tuple(lengths[1:]),
        narrow=True,
        longest=USUAL_LENGTH,
        adapted=bool({"lora", "qlora"} & set(ways)),
        images=typed["images"],
        seconds=typed["seconds"],
        freeze=typed["freeze"],
    )
    return counted_model(typed["model"] or SOME_MODEL, shapes)


def _usual_lengths(model: ModelSpec) -> tuple[int, ...]:
    """Those that the model was made for, or at which it was captured."""
    if model.captured:
        return tuple(dict.fromkeys(shot.seq_len for shot in model.captured.shots))
    return usual_lengths(model, USUAL_LENGTHS)


def _room(typed: dict[str, Any], question: FitQuestion) -> Room:
    from hwprof.plan.fit.rows import Room

    if typed["hardware"] is None:
        capacity_bytes = parse_typed(typed["memory"], "byte")
        return Room(name=f"{format_bytes(capacity_bytes)} of memory", capacity_bytes=capacity_bytes)
    machine = machine_of(cluster_of(question.devices, typed["hardware"]))
    if typed["memory"] is not None:
        raise InputError(
            "--memory stands in place of a device, and --hardware names one",
            remedy=f"leave one of them out; {machine.device.id} has {format_bytes(machine.capacity_bytes)}",
        )
    return Room(name=machine.device.id, capacity_bytes=machine.capacity_bytes, machine=machine)


SOME_MODEL = "8b"
"""That stands in a question until each model takes its place."""


def _answer_models(question: FitQuestion, room: Room, output_format: str, language: Language) -> None:
    """The largest models of the catalogue that can be trained in so much room."""
    from hwprof.plan.fit.nearest import trainable_of
    from hwprof.report.plan.fit_text import print_trainable

    decoders = [model for model in list_models() if model.kind == "decoder"]
    found = trainable_of(question, decoders, room, simulator_parameters())
    if output_format == "json":
        rows = [
            {
                "adaptation": one.adaptation,
                "models": [{"model": model.name, "row": _row_json(row)} for model, row in one.models],
            }
            for one in found
        ]
        click.echo(json.dumps({"largest_models": rows}, indent=2, allow_nan=False))
    else:
        print_trainable(question, room, found, sys.stdout, language=language)
    if not any(one.models for one in found):
        click.get_current_context().exit(1)


def _answer_devices(question: FitQuestion, output_format: str, language: Language) -> None:
    """The smallest devices of the catalogue on which each way works."""
    from hwprof.plan.fit.nearest import smallest_of
    from hwprof.plan.fit.rows import Room
    from hwprof.plan.settings.launch import backend_of
    from hwprof.report.plan.fit_text import print_smallest

    rooms = [
        Room(name=device.id, capacity_bytes=device.memory.capacity_bytes)
        for device in list_devices()
        if backend_of(device) == "cuda" and device.memory.capacity_bytes is not None
    ]
    found = smallest_of(question, rooms, simulator_parameters())
    if output_format == "json":
        click.echo(json.dumps({"smallest": [_smallest_json(one) for one in found]}, indent=2, allow_nan=False))
    else:
        print_smallest(question, found, sys.stdout, language=language)
    if not any(one.devices for one in found):
        click.get_current_context().exit(1)


def _fit_json(fit: Fit, change: Change | None) -> dict[str, Any]:
    question = fit.question
    return {
        "fits": fit.any_fits,
        "hardware": fit.room.machine.device.id if fit.room.machine else None,
        "capacity_bytes": fit.room.capacity_bytes,
        "devices": question.devices,
        "stack": question.stack.name,
        "task": question.task,
        "notes": question.notes,
        "rows": [_row_json(row) | {"training_s": row.training_s(question.tokens)} for row in fit.rows],
        "largest": [
            {
                "adaptation": each.adaptation,
                "seq_len": each.seq_len,
                "batch_size": each.likely.batch_size if each.likely else 0,
                "sure_batch_size": each.sure.batch_size if each.sure else 0,
                "row": _row_json(each.likely) if each.likely else None,
            }
            for each in fit.largest
        ],
        "change": {"words": list(change.words), "row": _row_json(change.row)} if change else None,
    }


def _row_json(row: FitRow) -> dict[str, Any]:
    return {
        "adaptation": row.adaptation,
        "batch_size": row.batch_size,
        "seq_len": row.seq_len,
        "fits": row.verdict != "no",
        "verdict": row.verdict,
        "peak_bytes": row.peak_bytes,
        "interval_bytes": list(row.interval_bytes),
        "device_bytes": row.device_bytes,
        "device_interval_bytes": list(row.device_interval_bytes),
        "margin_bytes": row.capacity_bytes - row.device_bytes,
        "host_bytes": row.host_bytes,
        "step_s": row.step_s,
        "step_interval_s": list(row.step_interval_s) if row.step_interval_s else None,
        "tokens_per_s": row.tokens_per_s,
    }


def _smallest_json(one: Smallest) -> dict[str, Any]:
    row = one.row
    return {
        "adaptation": one.adaptation,
        "devices": one.devices or None,
        "hardware": [room.name for room in one.rooms],
        "batch_size": row.batch_size,
        "seq_len": row.seq_len,
        "peak_bytes": row.peak_bytes,
        "interval_bytes": list(row.interval_bytes),
        "device_bytes": row.device_bytes,
    }
