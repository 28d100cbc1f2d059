"""``hwprof trace``: where did the time of a traced loop go? Needs neither GPU nor torch."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hwprof.cli.examples import examples
from hwprof.cli.format_option import format_option, language_option, say
from hwprof.cli.progress import progress_on_stderr
from hwprof.errors import InputError, WorkError
from hwprof.specs.hardware.spec import DeviceSpec
from hwprof.specs.measurement import Ceiling
from hwprof.specs.record.calibration import Calibration
from hwprof.specs.record.trace import TraceReport
from hwprof.version import __version__

if TYPE_CHECKING:
    from hwprof.report.chinese import Language
    from hwprof.trace.analysis import Asked
    from hwprof.trace.windows import Chosen

_RANGE = re.compile(r"(\d+)|(\d*)-(\d*)")


def _numbers(_ctx: click.Context, _param: click.Parameter, value: str | None) -> tuple[int | None, int | None]:
    """``3-5``: the first and the last number, None where there is no limit."""
    found = _RANGE.fullmatch((value or "-").strip())
    if found is None or value == "-":
        raise click.BadParameter(f"{value!r} is no range of steps; write for example 3, 3-5, 3- or -5")
    first, last = (found[1], found[1]) if found[1] else (found[2], found[3])
    return int(first) if first else None, int(last) if last else None


@click.command(
    epilog=examples(
        "hwprof trace trace.json.gz --hardware h100-sxm",
        "hwprof trace traces/ --steps 3-5",
        "hwprof trace rank0.json rank1.json --calibration calibration.json --output reports/traces",
    )
)
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--hardware", help="Device of the catalogue, or a TOML file: its datasheet's roofs.")
@click.option(
    "--calibration",
    type=click.Path(path_type=Path),
    help="File that `hwprof probe` saved: measured roofs, which go before the datasheet's.",
)
@click.option("--steps", metavar="N-M", callback=_numbers, help="Only these steps, by their numbers: 3, 3-5, 3- or -5.")
@click.option("--warmup", type=click.IntRange(min=0), default=0, show_default=True, help="Steps left out at the start.")
@click.option("--annotation", default="", help="Steps are the annotations of this name; * stands for any text.")
@click.option(
    "--capture",
    "captures",
    multiple=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="A trace of the capture of graphs that FILE replays: their kernels get its operators and shapes.",
)
@click.option("--top", type=click.IntRange(min=1), default=12, show_default=True, help="Rows of each table as text.")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Also write trace.json, trace.html and CSV files into this folder.",
)
@language_option
@format_option
def command(
    files: tuple[Path, ...],
    *,
    hardware: str | None,
    calibration: Path | None,
    steps: tuple[int | None, int | None],
    warmup: int,
    annotation: str,
    captures: tuple[Path, ...],
    top: int,
    output: Path | None,
    language: Language,
    output_format: str,
) -> None:
    """Analyse traces of any training loop, one FILE a rank.

    Read are Chrome traces of torch.profiler (.json, .json.gz), exports of Nsight Systems (.sqlite), what rocprofv3
    wrote (JSON, *_kernel_trace.csv, .pftrace), and JAX's xplane.pb.

    A folder stands for the traces in it, a pattern for what it matches.

    Where the time went (computation, exposed communication and copies, idle and why), by step, module, operator, shape
    and kernel; overlap, launches and queues, the critical path, memory, and which rank keeps the others waiting.

    A snapshot of torch.cuda.memory (.pickle) says what filled the memory, by lines of the program, and which one asked
    for too much.

    With --hardware or --calibration also which roof binds each operator. A file that is cut off or damaged is analysed
    up to where it broke; the exit code is then 1.
    """
    from hwprof.trace.snapshot import is_pickle

    if len(files) == 1 and is_pickle(files[0]):
        _memory(files[0], output_format, top)
        return
    from hwprof.trace.analysis import analyse
    from hwprof.trace.windows import Chosen

    wanted = Chosen(first=steps[0], last=steps[1], warmup=warmup, annotation=annotation)
    asked = _asked(_device(hardware), calibration, wanted, _found(captures))
    with progress_on_stderr(quiet=False) as show:
        found = analyse(_found(files), asked, progress=show)
    report = TraceReport(
        hwprof_version=__version__,
        devices=found.devices,
        stragglers=found.stragglers,
        ceilings=tuple(asked.ceilings),
        notes=found.notes,
    )
    if output is not None:
        from hwprof.report.files.trace import write_trace_report

        write_trace_report(report, output, language)
    if output_format == "json":
        click.echo(report.model_dump_json(indent=1))
    else:
        from hwprof.report.trace.text import print_trace

        print_trace(report, sys.stdout, top=top, language=language)
    _raise_broken(report)


def _memory(path: Path, output_format: str, top: int) -> None:
    """What filled the memory, by a snapshot of it."""
    from hwprof.report.trace.memory_text import story_text
    from hwprof.trace.snapshot import read_story

    stories = read_story(path)
    if output_format == "json":
        click.echo(json.dumps({"devices": [asdict(story) for story in stories]}, indent=1))
    else:
        say("\n\n".join(story_text(story, top) for story in stories) or "No device has memory in use.")


def _found(given: Sequence[Path]) -> list[Path]:
    """The traces that are meant: a folder stands for all in it, and a pattern for what it matches.

    Raises:
        InputError: a folder or a pattern has none.
    """
    files: list[Path] = []
    for path in given:
        found = [path]
        if path.is_dir():
            found = _in_folder(path)
        elif not path.exists() and set(path.name) & set("*?["):
            found = sorted(path.parent.glob(path.name))
        if not found:
            raise InputError(
                f"{path} holds no traces",
                expectation="expected .json, .json.gz, .sqlite, .xplane.pb, .pftrace or *_kernel_trace.csv files",
                remedy="give a trace, a folder with one trace a rank, or a pattern such as 'traces/rank*.json.gz'",
            )
        files += found
    return files


def _asked(device: DeviceSpec | None, calibration: Path | None, wanted: Chosen, captures: Sequence[Path]) -> Asked:
    """How the traces are analysed: under which ceilings, which steps, joined with which captures."""
    from hwprof.trace.analysis import Asked

    probe = _probe(calibration)
    probed = tuple(one.changed(origin="calibrated") for one in probe.ceilings) if probe else ()
    return Asked(
        ceilings=(*_of_device(device), *probed),
        hardware=device,
        probed=probe.collectives if probe else (),
        wanted=wanted,
        captures=captures,
    )


_RECORD = "run.json"
"""What `hwprof run` writes beside its trace."""
_XPLANE, _OF_XPLANE = ".xplane.pb", ".trace.json.gz"
"""JAX draws a part of each profile a second time, for browsers."""


def _in_folder(folder: Path) -> list[Path]:
    """The traces in a folder; in folders below it, as profilers make them, where it has none itself."""
    from hwprof.spans.read.file import FORMATS

    patterns = {pattern for one in FORMATS for pattern in one.patterns}
    for each in ("{}", "**/{}"):
        found = {file for pattern in patterns for file in folder.glob(each.format(pattern))}
        beside = {file.name.removesuffix(_XPLANE) + _OF_XPLANE for file in found if file.name.endswith(_XPLANE)}
        if found:
            return sorted(file for file in found if file.name not in {*beside, _RECORD}) or sorted(found)
    return []


def _raise_broken(report: TraceReport) -> None:
    broken = {device.file: device.broken for device in report.devices if device.broken}
    if broken:
        places = "; ".join(
            f"{file} broke at byte {found.offset_bytes}: {found.reason}" for file, found in broken.items()
        )
        raise WorkError(places, remedy="what stands before was analysed; export the trace again for the rest")


def _device(hardware: str | None) -> DeviceSpec | None:
    if hardware is None:
        return None
    from hwprof.specs.catalogue.lookup import load_device

    return load_device(hardware)


def _of_device(device: DeviceSpec | None) -> tuple[Ceiling, ...]:
    if device is None:
        return ()
    from hwprof.predict.ceilings.datasheet import datasheet_ceilings

    ceilings = datasheet_ceilings(device)
    if not ceilings:
        raise InputError(
            f"the datasheet of {device.id} gives no roofs for a part of a processor",
            remedy="measure them on the machine with `hwprof probe`, and give the file with --calibration",
        )
    return ceilings


def _probe(path: Path | None) -> Calibration | None:
    if path is None:
        return None
    from hwprof.specs.record.calibration import read_calibration

    return read_calibration(path)
