"""hwprof view: render a run directory again, and say what it found."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from hwprof.cli.examples import examples
from hwprof.cli.format_option import OutputFormat, format_option, language_option
from hwprof.errors import InputError
from hwprof.report.chinese import Language
from hwprof.report.files.run import RECORD_FILE, read_run, record_text, write_reports
from hwprof.report.run.text import print_summary
from hwprof.specs.files import write_atomically
from hwprof.specs.record.run import RunRecord


@click.command(
    epilog=examples(
        "hwprof view reports/first", "hwprof view reports --serve", "hwprof view reports/first --ncu counters.csv"
    )
)
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@language_option
@format_option
@click.option(
    "--ncu",
    "counters",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="CSV of Nsight Compute (ncu --csv) of the same training: holds its kernels against the run's, and keeps that.",
)
@click.option("--no-write", is_flag=True, help="Leave the files in DIR as they are.")
@click.option(
    "--serve", "serves", is_flag=True, help="Show all runs below DIR in a browser, on 127.0.0.1; changes no file."
)
def command(
    directory: Path,
    output_format: OutputFormat,
    counters: Path | None,
    *,
    language: Language,
    no_write: bool,
    serves: bool,
) -> None:
    """Render the run directory DIR again from its run.json, and print its summary.

    DIR may be the path of a run.json, too; its reports stand beside it. With --serve, DIR is a folder with any number
    of runs, to list, filter and compare.
    """
    if serves:
        from hwprof.cli.serve import serve

        if counters is not None or output_format == "json":
            raise InputError("--serve goes with neither --ncu nor --format json", remedy="leave one of them out")
        serve(directory, language)
        return
    path = directory / RECORD_FILE if directory.is_dir() else directory
    record = read_run(directory)
    if counters is not None:
        record = _with_counters(record, counters)
    if not no_write:
        if counters is not None:
            write_atomically(path, record_text(record))
        write_reports(record, path.parent, language)
    if output_format == "text":
        _show(record, path, language)
    else:
        click.echo(path.read_bytes() if counters is None else record_text(record), nl=False)


def _show(record: RunRecord, path: Path, language: Language) -> None:
    try:
        print_summary(record, sys.stdout, path.parent, language)
    except (ValueError, TypeError, LookupError, ArithmeticError, AssertionError) as error:
        raise InputError(
            f"{path} can't be shown: its values don't go together ({type(error).__name__}: {error})",
            remedy="give a file that hwprof wrote",
        ) from error


def _with_counters(record: RunRecord, path: Path) -> RunRecord:
    from hwprof.compare.counters import held_against
    from hwprof.trace.ncu.report import read_counters

    if record.settings.device != "cuda":
        raise InputError(
            f"this run was on a {record.settings.device.upper()}, whose kernels ncu does not count",
            expectation="expected a run on an NVIDIA GPU",
        )
    return record.changed(counters=held_against(record, read_counters(path), source=path.name))
