"""What would a step take elsewhere? ``hwprof simulate``: time with its interval, memory, bound, timeline."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hwprof.cli.examples import examples
from hwprof.cli.format_option import format_option, tell, verbose_option
from hwprof.cli.job_options import (
    capture_options,
    check_model,
    counted_hardware,
    job_of,
    job_options,
    layout_of,
    model_option,
    seq_len_of,
    shapes_of,
    stack_of,
    switch_options,
)
from hwprof.cli.options import Devices, given
from hwprof.cli.plan.goals import power_cap_option
from hwprof.errors import InputError
from hwprof.predict.machine import Machine, machine_of, with_power_cap
from hwprof.predict.stacks import Stack
from hwprof.session.captured import LINE, counted_model
from hwprof.simulate.parts import StepPart
from hwprof.specs.catalogue.lookup import cluster_of
from hwprof.specs.catalogue.simulator import simulator_parameters
from hwprof.specs.files import write_atomically
from hwprof.specs.job.step import TrainingJob
from hwprof.units import format_bytes, format_fraction, format_quantity, format_seconds

if TYPE_CHECKING:
    from hwprof.simulate.prediction import Prediction
    from hwprof.specs.catalogue.simulator import SimulatorParameters


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A job as typed, on a machine, with its software."""

    job: TrainingJob
    machine: Machine
    stack: Stack


@click.command(
    epilog=examples(
        "hwprof simulate --model 70b --hardware h100-sxm --devices 64 --tp 8 --pp 4 --global-batch 128",
        "hwprof simulate --model 8b --hardware a100-sxm4-80gb --devices 8 --zero 3 --stack torch --trace step.json",
    )
)
@model_option(required=True)
@click.option("--hardware", required=True, help="Device of the catalogue, or a TOML file; 8xh100 for eight of them.")
@click.option("--devices", type=Devices(), help="How many there are, where --hardware does not say.")
@capture_options
@job_options(
    *("seq_len", "global_batch", "micro_batch", "dtype", "optimizer", "recompute", "recompute_layers"),
    *("offload", "offload_to", "offload_layers", "lora_rank", "lora_targets", "qlora"),
)
@switch_options()
@job_options(
    *("tp", "pp", "vp", "cp", "context_kind", "ep", "etp", "expert_skew", "dp", "zero", "shard_ranks", "schedule"),
    *("no_sequence_parallel", "no_overlap"),
    dp={"default": None, "help": "Data-parallel replicas; default: what the other degrees leave."},
    zero={"default": 1},
    schedule={"default": None},
)
@power_cap_option
@click.option(
    "--calibration",
    metavar="FILE_OR_RUN",
    type=click.Path(path_type=Path),
    help="File of `hwprof probe`, or folder of `hwprof run`, on HARDWARE: measured rates first.",
)
@click.option("--trace", type=click.Path(path_type=Path), help="Write the timeline as a Chrome trace (Perfetto).")
@verbose_option
@format_option
def command(
    *,
    hardware: str,
    devices: int | None,
    calibration: Path | None,
    trace: Path | None,
    verbose: bool,
    output_format: str,
    **typed: Any,
) -> None:
    """Predict one optimizer step of MODEL on DEVICES of HARDWARE; nothing runs, no torch is needed."""
    from hwprof.simulate.prediction import predict_job

    placed = _placed(*counted_hardware(hardware, devices), typed)
    table, notes = _calibrated(placed, calibration)
    found = predict_job(placed.job, placed.machine, placed.stack, table, notes=notes)
    _refuse_unplaced(placed, found)
    if trace is not None:
        from hwprof.simulate.pipeline.trace import chrome_trace_json

        write_atomically(trace, chrome_trace_json(found.timeline))
    tell(output_format, lambda: prediction_json(found), lambda: _text(placed, found, verbose=verbose))


def _placed(hardware: str, devices: int, typed: dict[str, Any]) -> Placed:
    batch_sizes = LINE if typed["micro_batch"] > 1 else (1,)
    model = counted_model(typed["model"], shapes_of(typed, dtype=typed["dtype"], batch_sizes=batch_sizes))
    machine = with_power_cap(machine_of(cluster_of(devices, hardware)), typed["power_cap"])
    layout = layout_of(typed | {"dp": _data_parallel(devices, typed)})
    stack = stack_of(typed)
    check_model(stack.trained(model), layout)
    whole_pipeline = typed["micro_batch"] * layout.data_parallel * layout.pipeline_parallel
    job = job_of(
        typed,
        stack,
        model=model,
        seq_len=typed["seq_len"] or seq_len_of(model),
        global_batch=typed["global_batch"] or whole_pipeline,
        layout=layout,
    )
    return Placed(job=job, machine=machine, stack=stack)


_DEGREES = ("tp", "pp", "vp", "cp", "ep", "etp", "dp", "zero", "shard_ranks", "recompute", "offload")


def _refuse_unplaced(placed: Placed, found: Prediction) -> None:
    """Where no layout was named, the usual one of small models is meant, which says nothing of a large one.

    Raises:
        InputError: it is far from fitting.
    """
    low_bytes, _ = found.memory_interval_bytes
    if low_bytes <= placed.machine.capacity_bytes or given(click.get_current_context(), *_DEGREES):
        return
    need, room = format_bytes(found.memory.device_bytes), format_bytes(placed.machine.capacity_bytes)
    raise InputError(
        f"{placed.job.model.name} on data ranks alone needs {need} of {room} a device",
        remedy="name a layout (--tp, --pp, --zero), or let `hwprof plan` find one",
    )


def _data_parallel(devices: int, typed: dict[str, Any]) -> int:
    """What the other degrees leave."""
    product = typed["tp"] * typed["pp"] * typed["cp"]
    if devices % product or (typed["dp"] and typed["dp"] * product != devices):
        shown = f" x dp {typed['dp']}" if typed["dp"] else ""
        raise InputError(
            f"tp {typed['tp']} x pp {typed['pp']} x cp {typed['cp']}{shown} does not make up {devices} devices",
            expectation="the degrees multiply to the number of devices",
            remedy="change a degree or --devices",
        )
    return int(devices // product)


def _calibrated(placed: Placed, path: Path | None) -> tuple[SimulatorParameters, tuple[str, ...]]:
    """The shipped parameters, the device's as measured where there is a calibration, and what was taken from it."""
    if path is None:
        return simulator_parameters(), ()
    from hwprof.predict.ceilings.calibrated import check_probed, with_ceilings
    from hwprof.report.files.measured import read_measured
    from hwprof.simulate.runners import wide_dtype

    found = read_measured([path])
    check_probed(placed.machine.device, found.device, str(path))
    wide = wide_dtype(placed.job.dtype)
    return with_ceilings(
        simulator_parameters(),
        placed.machine,
        found.ceilings,
        wide,
        narrow=placed.job.dtype if placed.job.dtype != wide else None,
        collectives=found.collectives,
    )


def prediction_json(found: Prediction) -> dict[str, Any]:
    """A prediction with the fields of the JSON contract."""
    stages = found.timeline.stage_times
    return {
        "fits": found.fits,
        "step_s": found.step_s,
        "interval_s": list(found.interval_s),
        "tokens_per_s_per_device": found.tokens_per_s_per_device,
        "mfu": found.mfu,
        "hfu": found.hfu,
        "mfu_causal": found.mfu_causal,
        "memory": {
            "peak_bytes": found.memory.peak_bytes,
            "reserved_bytes": found.memory.reserved_bytes,
            "device_bytes": found.memory.device_bytes,
            "interval_bytes": list(found.memory_interval_bytes),
            "fits": found.fits,
            "moment": found.memory.moment,
            "breakdown": {part.name: part.predicted_bytes for part in found.memory.parts},
            "stage_bytes": list(found.memory.stage_bytes),
            "host_bytes": found.memory.host_bytes,
        },
        "breakdown_s": dict(found.breakdown_s),
        "bubble_s": [float(value) for value in stages.bubble_s],
        "bound": found.bound,
        "basis": list(found.basis),
    }


def _attended(found: Prediction) -> str:
    """Above 100 % of the peak says that not all pairs of tokens that count as work are multiplied."""
    return f"; of pairs that attend, {format_fraction(found.mfu_causal)}" if found.mfu > 1 else ""


WORTH_SAYING = 0.15
"""Share of a step from which on its pipeline bubble is spoken of."""


def _bubble_hint(placed: Placed, found: Prediction) -> list[str]:
    """What shrinks a large pipeline bubble."""
    layout, model = placed.job.layout, placed.job.model
    share = found.breakdown_s.get(StepPart.BUBBLE, 0.0) / found.step_s
    if share < WORTH_SAYING:
        return []
    stages = layout.pipeline_parallel
    chunks = [v for v in (8, 4, 2) if any(size % (stages * v) == 0 for size in (model.layers, model.pipeline_places))]
    smaller = [f"--vp {chunks[0]}"] if chunks and layout.virtual_stages == 1 else []
    more = f"--global-batch {4 * placed.job.global_batch}"
    return [f"        the pipeline bubble takes {format_fraction(share)}: {' or '.join([*smaller, more])} shrinks it"]


def _verdict(found: Prediction, need: str, room: str) -> list[str]:
    """What is to be said of memory before all else."""
    if not found.fits:
        return [f"DOES NOT FIT: needs {need} of {room} a device; the times are those of one with room"]
    tight = f"TIGHT: fits only where the allocator gives back what it keeps in vain ({need} of {room} with it)"
    return [tight] if found.tight else []


def _text(placed: Placed, found: Prediction, *, verbose: bool) -> str:
    from hwprof.report.plan.answer_text import mfu_words

    job, machine = placed.job, placed.machine
    low_s, high_s = found.interval_s
    low, high = found.memory_interval_bytes
    reserved, tensors = format_bytes(found.memory.reserved_bytes), format_bytes(found.memory.peak_bytes)
    need, room = format_bytes(found.memory.device_bytes), format_bytes(machine.capacity_bytes)
    where = f"{job.model.name} on {job.layout.devices:,} x {machine.device.id}"
    return "\n".join(
        [
            f"{format_seconds(found.step_s)} a step, {mfu_words(found)}, {found.bound}-bound",
            *_verdict(found, need, room),
            f"{where}, {job.dtype}, {job.tokens:,} tokens a step",
            "",
            f"step    {format_seconds(found.step_s)}  (90 %: {format_seconds(low_s)} to {format_seconds(high_s)})",
            f"rate    {format_quantity(found.tokens_per_s_per_device, 'count')} tokens/s/device",
            f"MFU     {format_fraction(found.mfu)}, HFU {format_fraction(found.hfu)}{_attended(found)}",
            *([f"bound   {found.bound}"] if verbose else []),
            *_bubble_hint(placed, found),
            f"memory  {need} of {room}  (90 %: {format_bytes(low)} to {format_bytes(high)})",
            *([f"        {reserved} reserved, {tensors} of tensors"] if verbose else []),
            *([f"host    {format_bytes(found.memory.host_bytes)} a device"] if found.memory.host_bytes else []),
            "",
            *_where_lines(found, None if verbose else 4),
            "",
            *_memory_lines(found, None if verbose else 3),
            "",
            *(f"basis: {line}" for line in found.basis[: None if verbose else 1]),
            *([] if verbose else [f"--verbose: all of it, and {len(found.basis) - 1} more lines of basis"]),
        ]
    )


def _where_lines(found: Prediction, most: int | None) -> list[str]:
    """The longest parts of the step."""
    parts = sorted(found.breakdown_s.items(), key=lambda part: -part[1])
    shown = [(str(name), value) for name, value in parts[:most]]
    shown += [("the rest", sum(value for _, value in parts[most:]))] if most and len(parts) > most else []
    return [
        "where the step goes",
        *(f"  {name:24} {format_seconds(each):>10}  {format_fraction(each / found.step_s):>8}" for name, each in shown),
    ]


def _memory_lines(found: Prediction, most: int | None) -> list[str]:
    """The largest parts of the memory."""
    parts = sorted(found.memory.parts, key=lambda part: -part.predicted_bytes)
    shown = [(part.name, part.predicted_bytes) for part in parts[:most]]
    shown += [("the rest", sum(part.predicted_bytes for part in parts[most:]))] if most and len(parts) > most else []
    return [
        f"memory at its peak ({found.memory.moment})",
        *(f"  {name:24} {format_bytes(size):>10}" for name, size in shown),
    ]
