"""Which settings, which machine, how many, how long, how much? ``hwprof plan``."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hwprof.cli.examples import examples
from hwprof.cli.format_option import format_option, language_option
from hwprof.cli.plan.goals import fleet_part, goal_part
from hwprof.cli.plan.request import choice_part, job_part
from hwprof.specs.files import write_atomically

if TYPE_CHECKING:
    from hwprof.plan.answer.machines import Answer
    from hwprof.predict.machine import Machine
    from hwprof.report.chinese import Language


@click.command(
    epilog=examples(
        "hwprof plan --model 70b --hardware h100-sxm,b200 --devices 64,128 --global-batch 1024",
        "hwprof plan --model 70b --hardware h100-sxm --tokens 15T --deadline 60d",
        "hwprof plan --model 8b --hardware h100-sxm --devices 8 --global-batch 64 --tokens 100B --output plans/8b",
    )
)
@job_part
@goal_part
@fleet_part
@choice_part
@click.option("--csv", "csv_path", type=click.Path(path_type=Path, dir_okay=False), help="Write the plans here.")
@click.option(
    "--xlsx",
    "xlsx_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write all tables into this Excel workbook; needs `pip install 'hwprof[xlsx]'`.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write plan.html, pictures, tables and the first plan's settings for training frameworks into this folder.",
)
@click.option(
    "--scaling", "with_scaling", is_flag=True, help="Plan for fewer and more devices too (always with --output)."
)
@click.option("--verbose", is_flag=True, help="Show more plans, goodput, and every rule that ruled layouts out.")
@language_option
@format_option
def command(
    *,
    verbose: bool,
    language: Language,
    csv_path: Path | None,
    xlsx_path: Path | None,
    output: Path | None,
    with_scaling: bool,
    output_format: str,
    **typed: Any,
) -> None:
    """Search every layout of MODEL on each HARDWARE; rank those that fit, say why the others don't.

    Nothing runs and no torch is needed. Several --hardware or --devices stand side by side: capacity planning. With
    --deadline or --budget and no --devices it finds how many it takes. Exit code 1: nothing keeps to what was asked;
    the nearest change that does is named.
    """
    from hwprof.cli.plan.answer_json import answer_json
    from hwprof.cli.plan.request import answer_to
    from hwprof.report.plan.text import print_plan

    answer = answer_to(typed)
    if with_scaling or output or xlsx_path:
        answer = _scaled(answer, typed)
    if output:
        from hwprof.report.files.plan import write_plan

        write_plan(answer, output, language=language)
    _write_tables(answer, csv_path, xlsx_path)
    if output_format == "json":
        click.echo(json.dumps(answer_json(answer), indent=2, allow_nan=False))
    else:
        print_plan(answer, sys.stdout, verbose=verbose, language=language)
    if answer.chosen is None:
        click.get_current_context().exit(1)


def _scaled(answer: Answer, typed: dict[str, Any]) -> Answer:
    """The answer with scaling curves of its first plan."""
    from hwprof.cli.plan.question import machine_for
    from hwprof.plan.answer.scaling import scaling

    if not answer.plans:
        return answer
    question = answer.plans[0].question
    hardware = question.machine.device.id

    def machine_at(devices: int) -> Machine:
        return machine_for(hardware, devices, typed)

    strong = scaling(question, "strong", machine_at)
    return replace(answer, scaling=(*strong, *scaling(question, "weak", machine_at)))


def _write_tables(answer: Answer, csv_path: Path | None, xlsx_path: Path | None) -> None:
    """The plans as CSV, all tables as a workbook."""
    from hwprof.report.csv import render_csv
    from hwprof.report.plan.tables import build_plan_sheets
    from hwprof.report.xlsx import render_xlsx

    sheets = build_plan_sheets(answer)
    for path, render in ((csv_path, lambda: render_csv(sheets[0])), (xlsx_path, lambda: render_xlsx(sheets))):
        if path:
            content = render()
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, content)
