"""Which settings, which machine, how many, how long, how much? ``hwprof plan``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hwprof.cli.plan_request import choice_options, goal_options, job_options
from hwprof.specs.files import write_atomically

if TYPE_CHECKING:
    from hwprof.plan.answer import Answer


@click.command(short_help="Choose layout, hardware and number of devices for a training.")
@job_options
@goal_options
@choice_options
@click.option("--csv", "csv_path", type=click.Path(path_type=Path, dir_okay=False), help="Write the plans here.")
@click.option("--output", type=click.Path(path_type=Path, file_okay=False), help="Write all tables into this folder.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
def command(*, csv_path: Path | None, output: Path | None, form: str, **typed: Any) -> None:
    """Search every layout of MODEL on each HARDWARE; rank those that fit, say why the others don't.

    Nothing runs and no torch is needed. Several --hardware or --devices stand side by side: capacity planning.
    """
    from hwprof.cli.plan_json import answer_json
    from hwprof.cli.plan_request import questions_of
    from hwprof.plan.answer import answer_of, option_of
    from hwprof.report.plan_text import plan_text

    asked = questions_of(typed)
    options = [option_of(one.question, one.rates, tokens=typed["tokens"]) for one in asked]
    answer = answer_of(options, typed["objective"])
    _write(answer, csv_path, output)
    click.echo(json.dumps(answer_json(answer), indent=2, allow_nan=False) if form == "json" else plan_text(answer))


def _write(answer: Answer, csv_path: Path | None, output: Path | None) -> None:
    """The plans into a file; all tables, one a file, into a folder."""
    from hwprof.report.csv import render_csv
    from hwprof.report.plan_tables import build_plan_sheets

    sheets = {sheet.name: sheet for sheet in build_plan_sheets(answer)}
    targets = [(output / f"{name}.csv", sheet) for name, sheet in sheets.items()] if output else []
    targets += [(csv_path, sheets["plan"])] if csv_path else []
    for path, sheet in targets:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, render_csv(sheet))
