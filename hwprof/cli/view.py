"""hwprof view: render a run directory again, and say what it found."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

import click

from hwprof.report.directory import RECORD_FILE, read_run, write_reports
from hwprof.report.text import print_summary


@click.command()
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="A summary for people, or run.json alone on stdout.",
)
@click.option("--no-write", is_flag=True, help="Leave the files in DIR as they are.")
def command(directory: Path, output_format: Literal["text", "json"], *, no_write: bool) -> None:
    """Render the run directory DIR again from its run.json, and print its summary.

    DIR may be the path of a run.json, too; its reports stand beside it.
    """
    record = read_run(directory)
    home = directory if directory.is_dir() else directory.parent
    if not no_write:
        write_reports(record, home)
    if output_format == "json":
        path = directory / RECORD_FILE if directory.is_dir() else directory
        click.echo(path.read_bytes(), nl=False)
    else:
        print_summary(record, sys.stdout, home)
