"""`hwprof run`: probe, train, record, classify, predict, recommend, report."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hwprof.cli.examples import examples
from hwprof.cli.format_option import format_option, language_option
from hwprof.cli.options import options_of
from hwprof.cli.progress import caller
from hwprof.errors import InputError, WorkError
from hwprof.session.request import RunRequest
from hwprof.specs.parsing import checked

if TYPE_CHECKING:
    from hwprof.report.chinese import Language
    from hwprof.session.outcome import Ran
    from hwprof.specs.record.run import RunRecord


@click.command(
    "run",
    help="Measure one Transformer training step on this machine, or with --inference how it generates, and say what "
    "holds it back; or, after --, attach to a program that trains (python train.py, torchrun ... train.py), which "
    "needs no change.",
    epilog=examples(
        "hwprof run --model 1b --device cuda",
        "hwprof run --model 125m --inference --seq-len 512 --new-tokens 64",
        "hwprof run --model my-model.toml --data my-text.txt --cluster 8xh100-sxm --output reports/first",
        "torchrun --nproc-per-node 8 -m hwprof run --model 1b --parallel fsdp",
        "hwprof run --output reports/mine -- python train.py --epochs 1",
        "hwprof run -- torchrun --nproc-per-node 8 train.py",
    ),
)
@options_of(
    RunRequest,
    {"micro_batch": ("--micro-batch", "--batch-size"), "seq_len": ("--seq-len", "--prompt-len")},
    parallel={"metavar": "LAYOUT"},
    output={"type": click.Path(path_type=Path, file_okay=False)},
)
@click.option(
    "--goodput",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Of a program after --: book its time in FILE (steps, checkpoints, evaluation, recompilation). Started again "
    "with the same FILE after it died, it books the restart and the steps that were lost.",
)
@click.argument("program", nargs=-1, type=click.UNPROCESSED, metavar="[-- PROGRAM...]")
@language_option
@format_option
@click.option("--quiet", is_flag=True, help="No progress, only the summary.")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    output_format: str,
    *,
    program: tuple[str, ...],
    quiet: bool,
    goodput: Path | None,
    language: Language,
    **asked: Any,
) -> None:
    """Run the main job, or a program of somebody else's."""
    if program:
        _attached(ctx, program, output_format, asked, goodput, language=language)
        return
    if goodput is not None:
        raise InputError(
            "--goodput holds for a program of your own",
            expectation="hwprof's own run saves nothing and is not gone on with",
            remedy="hwprof run --goodput FILE -- python train.py",
        )
    from hwprof.measure.world import launched
    from hwprof.session.ranks import run_ranks
    from hwprof.session.run import run_alone

    with caller(quiet=quiet) as told:
        request = checked(RunRequest, **asked)
        ran = run_ranks(request, told) if launched() else run_alone(request, told)
    if ran is None:
        return
    try:
        _show(ran, output_format, language)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"interrupted; all that was measured, and its report, are in {ran.directory}") from None
    if ran.report_error is not None:
        raise ran.report_error


def _show(ran: Ran, output_format: str, language: Language) -> None:
    from hwprof.report.run.text import print_summary

    _translate(ran.record, ran.directory, language)
    if output_format == "json":
        click.echo(ran.record.model_dump_json(indent=1))
    else:
        print_summary(ran.record, sys.stdout, ran.directory, language)


_OF_PROGRAMS = {"output", "warmup_steps", "steps", "profiled_steps"}
"""Options that hold for a program of somebody else's; the program decides all others."""


def _attached(
    ctx: click.Context,
    program: tuple[str, ...],
    output_format: str,
    asked: Mapping[str, Any],
    goodput: Path | None,
    *,
    language: Language,
) -> None:
    """Start a program, measure what it trains, and print the report that it left.

    Raises:
        InputError: an option is given that the program decides.
        WorkError: it left no report.
    """
    from hwprof.attach.launch import launch
    from hwprof.attach.options import Attach

    given = {name for name in asked if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE}
    if wrong := sorted(given - _OF_PROGRAMS):
        raise InputError(
            f"--{wrong[0].replace('_', '-')} does not hold for a program of your own",
            expectation="the program decides that",
            remedy="--output, --warmup-steps, --steps and --profiled-steps are those that hold",
        )
    chosen = {name: int(asked[f"{option}steps"]) for name, option in _SCHEDULE.items() if f"{option}steps" in given}
    output = asked["output"] or Path("reports") / f"attached-{datetime.now(UTC).strftime('%Y%m%d-%H%M%S')}"
    attach = Attach(output=str(Path(output).absolute()), goodput=str(goodput.absolute()) if goodput else "", **chosen)
    code = launch(program, attach, quiet=output_format == "json")
    _print_left(Path(output), output_format, code, language)
    if code:
        ctx.exit(code if code > 0 else 128 - code)


_SCHEDULE = {"warmup": "warmup_", "timed": "", "profiled": "profiled_"}


def _translate(record: RunRecord, directory: Path, language: Language) -> None:
    """The report again, in another language than English, which it was written in."""
    from hwprof.report.files.run import write_reports

    if language != "en":
        write_reports(record, directory, language)


def _print_left(output: Path, output_format: str, code: int, language: Language) -> None:
    """The record that the program left; of one that failed, nothing is said where it left none."""
    from hwprof.report.files.run import RECORD_FILE, read_run
    from hwprof.report.run.text import print_summary

    if not (output / RECORD_FILE).is_file():
        if code:
            return
        raise WorkError(
            "the program left no report: hwprof found no optimizer step of torch in it",
            expectation="expected a program that trains a torch.nn.Module with a torch.optim.Optimizer",
            remedy="start it with the python that has hwprof, without -I or -E; or use hwprof.profile in the loop",
        )
    record = read_run(output)
    _translate(record, output, language)
    if output_format == "json":
        click.echo(record.model_dump_json(indent=1))
    else:
        print_summary(record, sys.stdout, output, language)
