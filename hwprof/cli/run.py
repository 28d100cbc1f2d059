"""`hwprof run`: probe, train, record, classify, predict, recommend, report."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from hwprof.cli.examples import examples
from hwprof.cli.format_option import format_option
from hwprof.cli.options import options_of
from hwprof.cli.progress import caller
from hwprof.session.request import RunRequest
from hwprof.specs.parsing import checked


@click.command(
    "run",
    help="Measure one Transformer training step on this machine and say what holds it back.",
    epilog=examples(
        "hwprof run --model 1b --device cuda",
        "hwprof run --model my-model.toml --data my-text.txt --cluster 8xh100-sxm --output reports/first",
        "torchrun --nproc-per-node 8 -m hwprof run --model 1b --parallel fsdp",
    ),
)
@options_of(
    RunRequest,
    {"micro_batch": ("--micro-batch", "--batch-size")},
    parallel={"metavar": "LAYOUT"},
    output={"type": click.Path(path_type=Path, file_okay=False)},
)
@format_option
@click.option("--quiet", is_flag=True, help="No progress, only the summary.")
def command(output_format: str, *, quiet: bool, **asked: Any) -> None:
    """Run the main job."""
    from hwprof.measure.world import launched
    from hwprof.report.run.text import print_summary
    from hwprof.session.ranks import run_ranks
    from hwprof.session.run import run_alone

    with caller(quiet=quiet) as told:
        request = checked(RunRequest, **asked)
        ran = run_ranks(request, told) if launched() else run_alone(request, told)
    if ran is None:
        return
    if output_format == "json":
        click.echo(ran.record.model_dump_json(indent=1))
    else:
        print_summary(ran.record, sys.stdout, ran.directory)
    if ran.report_error is not None:
        raise ran.report_error
