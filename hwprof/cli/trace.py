"""``hwprof trace``: where did the time of a traced loop go? Reads Kineto traces; needs neither GPU nor torch."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from hwprof.cli.ceilings import ceiling_options, chosen_ceilings
from hwprof.cli.format_option import format_option
from hwprof.cli.progress import progress_on_stderr
from hwprof.errors import WorkError
from hwprof.specs.record.trace import TraceReport
from hwprof.version import __version__


@click.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@ceiling_options
@click.option("--top", type=click.IntRange(min=1), default=12, show_default=True, help="Rows of each table as text.")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Also write trace.json, trace.html and CSV files into this folder.",
)
@format_option
def command(
    files: tuple[Path, ...],
    *,
    hardware: str | None,
    calibration: Path | None,
    top: int,
    output: Path | None,
    output_format: str,
) -> None:
    """Analyse Chrome traces that torch.profiler wrote (.json, .json.gz) of any training loop, one FILE a rank.

    Where the time went (computation, exposed communication and copies, idle and why), by step, module, operator, shape
    and kernel; overlap, launches and queues, the critical path, memory, and which rank keeps the others waiting.

    With --hardware or --calibration also which roof binds each operator. A file that is cut off or damaged is analysed
    up to where it broke; the exit code is then 1.
    """
    from hwprof.trace.analysis import analyse

    ceilings = chosen_ceilings(hardware, calibration)
    with progress_on_stderr(quiet=False) as show:
        found = analyse(files, ceilings, progress=show)
    report = TraceReport(
        hwprof_version=__version__,
        devices=found.devices,
        stragglers=found.stragglers,
        ceilings=ceilings,
        notes=found.notes,
    )
    if output is not None:
        from hwprof.report.files.trace import write_trace_report

        write_trace_report(report, output)
    if output_format == "json":
        click.echo(report.model_dump_json(indent=1))
    else:
        from hwprof.report.trace.text import print_trace

        print_trace(report, sys.stdout, top=top)
    _raise_broken(report)


def _raise_broken(report: TraceReport) -> None:
    broken = {device.file: device.broken for device in report.devices if device.broken}
    if broken:
        places = "; ".join(
            f"{file} broke at byte {found.offset_bytes}: {found.reason}" for file, found in broken.items()
        )
        raise WorkError(places, remedy="what stands before was analysed; export the trace again for the rest")
