"""`hwprof emulate -- train.py`: your own script as one rank of many devices that are not here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from hwprof.cli.examples import examples
from hwprof.cli.format_option import format_option, language_option, tell
from hwprof.errors import InputError
from hwprof.report.chinese import Language
from hwprof.specs.catalogue.simulator import simulator_parameters
from hwprof.specs.files import write_atomically
from hwprof.units import format_bytes, format_fraction, format_quantity, format_seconds

if TYPE_CHECKING:
    from hwprof.emulate.answer import Emulation
    from hwprof.emulate.recording import Recording


@click.command(
    "emulate",
    context_settings={"ignore_unknown_options": True},
    epilog=examples(
        "hwprof emulate --hardware h100-sxm --devices 256 --output reports/mine -- train.py --batch-size 2",
        "hwprof emulate --hardware b200 reports/mine",
        "hwprof emulate --hardware h100-sxm --devices 8 --compare a100-sxm,b200 --format json -- -m mypackage.train",
        "hwprof emulate --calibration cpu.json --calibration links.json --devices 2 -- train.py",
    ),
)
@click.option("--hardware", help="Device of the catalogue, or a TOML file; with --calibration the probed processor.")
@click.option("--devices", type=click.IntRange(1), help="How many there are; of a recording those it was made for.")
@click.option(
    "--rank",
    "--rank-of",
    "rank",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Which of them the script is.",
)
@click.option(
    "--steps", type=click.IntRange(1), help="End after so many steps; default: when two are alike, 4 at most."
)
@click.option(
    "--expert-skew",
    type=click.FloatRange(min=1),
    default=1.0,
    show_default=True,
    help="Tokens of the busiest expert, the first, over the mean; 1: as many to each.",
)
@click.option("--compare", metavar="HARDWARE,...", help="Price the same recording on other devices, too.")
@click.option(
    "--calibration",
    "calibrations",
    metavar="FILE_OR_RUN",
    type=click.Path(path_type=Path),
    multiple=True,
    help="File of `hwprof probe`, or folder of `hwprof run`, on HARDWARE: measured rates, calls and collectives first.",
)
@click.option("--trace", type=click.Path(path_type=Path), help="Write the step as a Chrome trace (Perfetto).")
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the report, the trace, a memory snapshot, and the recording, which this command prices again.",
)
@language_option
@format_option
@click.argument("script", nargs=-1, required=True, type=click.UNPROCESSED, metavar="SCRIPT [ARGS]... | DIR")
def command(
    *,
    hardware: str | None,
    devices: int | None,
    rank: int,
    steps: int | None,
    expert_skew: float,
    compare: str | None,
    calibrations: tuple[Path, ...],
    trace: Path | None,
    output: Path | None,
    language: Language,
    output_format: str,
    script: tuple[str, ...],
) -> None:
    """Run SCRIPT unmodified as one rank of DEVICES of HARDWARE: time, memory, bottleneck. Nothing is computed.

    SCRIPT is a Python file and its arguments, or -m and a module; a launcher before it is left out. It believes in
    CUDA, NCCL, its world size and its launcher; what it prints goes to standard error. DIR is a folder that --output
    left: its recording is priced again.
    """
    from hwprof.emulate.answer import emulation, emulation_json
    from hwprof.emulate.here import measured_machine
    from hwprof.emulate.start import machine_named, recorded, script_of

    saved = _saved(script, devices)
    count = saved[0].devices if saved else devices
    if count is None:
        raise InputError("--devices is missing", expectation="how many devices the script is one of")
    machine, table, here, notes = measured_machine(hardware, count, calibrations)
    others = [machine_named(name.strip(), count) for name in compare.split(",")] if compare else []
    recordings = saved or recorded(
        script_of(script), machine, rank=rank, steps=steps, expert_skew=expert_skew, history=output is not None
    )
    found = emulation(recordings, machine, table, notes, here)
    if trace is not None:
        from hwprof.emulate.timeline import chrome_trace

        write_atomically(trace, chrome_trace(found))
    compared = [emulation(recordings, other, simulator_parameters()) for other in others]
    if output is not None:
        from hwprof.emulate.folder import write_emulation

        write_emulation(found, compared, output, language)
    more = {"compare": [emulation_json(each) for each in compared]} if others else {}
    tell(output_format, lambda: emulation_json(found) | more, lambda: _text(found, compared, language))


def _saved(script: tuple[str, ...], devices: int | None) -> tuple[Recording, ...]:
    """The recording in a folder, where that is named in place of a script.

    Raises:
        InputError: it is no recording, or one of another number of devices.
    """
    if not Path(script[0]).is_dir():
        return ()
    from hwprof.emulate.saved import read_recordings

    if len(script) > 1:
        raise InputError(f"{script[0]} is a folder, which takes no arguments", remedy="name its recording alone")
    found = read_recordings(Path(script[0]))
    if devices not in {None, found[0].devices}:
        raise InputError(
            f"{script[0]} is the recording of one of {found[0].devices} devices, not of {devices}",
            expectation="another number of devices is another program",
            remedy="leave --devices out, or run the script again",
        )
    return found


def _text(found: Emulation, compared: list[Emulation], language: Language) -> str:
    from hwprof.emulate.in_chinese import answer_in_chinese, caution_in_chinese

    recording = found.recording
    low_s, high_s = found.interval_s
    memory, width = recording.memory, 28
    need, room = format_bytes(memory.reserved_bytes), format_bytes(found.capacity_bytes)
    work = f"{format_quantity(float(recording.flop), 'flop')}, {recording.call_count:,} calls"
    where = f"{recording.devices:,} x {found.hardware}"
    first = [f"{where}: {format_seconds(found.step_s)} a step, {found.bound}, as rank {recording.rank} emulates it"]
    first += _refusal(found)
    if language == "zh":
        first = list(filter(None, [answer_in_chinese(found), caution_in_chinese(found)]))
    parts = [(name.replace("_", " "), value) for name, value in found.breakdown_s.items() if value]
    return "\n".join(
        [
            *first,
            "",
            f"step    {format_seconds(found.step_s)}  (90 %: {format_seconds(low_s)} to {format_seconds(high_s)})",
            f"bound   {found.bound}",
            f"work    {work}, {format_fraction(found.assumed_share)} of the time at assumed prices",
            f"memory  {need} of {room} reserved, {format_bytes(memory.peak_bytes)} of tensors",
            "",
            "where the step goes",
            *(f"  {name:{width}} {_share(value, found.step_s)}" for name, value in parts),
            "",
            "what takes most of it, each for itself",
            *(f"  {name:{width}} {format_seconds(seconds):>10}  {line}" for name, line, seconds in found.slowest),
            *_collectives(found),
            "",
            "memory at its peak",
            *(f"  {name:{width}} {format_bytes(value):>10}" for name, value in memory.kinds.items()),
            *(["", "the same step on"] if compared else []),
            *(f"  {each.hardware:{width}} {format_seconds(each.step_s):>10}" for each in compared),
            "",
            *(f"basis: {line}" for line in found.basis),
        ]
    )


def _share(seconds: float, whole_s: float) -> str:
    return f"{format_seconds(seconds):>10}  {format_fraction(seconds / whole_s):>8}"


def _collectives(found: Emulation) -> list[str]:
    """The kinds of collectives that nothing hides longest."""
    from hwprof.emulate.answer import collective_rows

    rows = collective_rows(found.recording, found.played)
    longest = sorted(rows, key=lambda row: -row["exposed_s"])[:MOST_COLLECTIVES]
    lines = [
        f"  {row['op'] + ' over ' + str(row['ranks']):{28}} {row['count']:5} x {format_bytes(row['bytes']):>9}"
        f" {format_seconds(row['duration_s']):>10} {format_seconds(row['exposed_s']):>10} exposed"
        for row in longest
    ]
    return ["", "collectives, those first that nothing hides", *lines] if lines else []


MOST_COLLECTIVES = 6


def _refusal(found: Emulation) -> list[str]:
    refusal = found.refusal
    if refusal is None:
        need = format_bytes(found.recording.memory.reserved_bytes)
        return [] if found.fits else [f"OUT OF MEMORY: {need} reserved; the times are those of a device with room"]
    asked, held = format_bytes(refusal.asked_bytes), format_bytes(refusal.allocated_bytes)
    return [f"OUT OF MEMORY at {refusal.line}: {asked} more beside {held}; the rest is of a device with room"]
