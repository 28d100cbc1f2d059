"""``hwprof diff A B``: what changed between two runs or traces, by how much beyond noise? Fails a build on request."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import click

from hwprof.cli.examples import examples
from hwprof.cli.format_option import format_option, language_option
from hwprof.compare.diff import compare
from hwprof.compare.sides import Side, side_of_run, side_of_traces
from hwprof.errors import InputError, UndecidedError, WorkError
from hwprof.report.chinese import Language
from hwprof.report.files.run import RECORD_FILE, read_run
from hwprof.specs.record.diff import DiffReport
from hwprof.units import format_change, format_fraction

_FRACTION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(%?)\s*")
_TRACES = ("*.json", "*.json.gz")


class _Share(click.ParamType[float]):
    """A share: ``3%`` or ``0.03``."""

    name = "share"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        found = _FRACTION.fullmatch(str(value))
        if found is None:
            self.fail(f"{value!r} is no share; write for example 3% or 0.03", param, ctx)
        return float(found[1]) / (100 if found[2] else 1)


@click.command(
    epilog=examples(
        "hwprof diff reports/before reports/after --fail-if-slower 3%",
        "hwprof diff before.json.gz after.json.gz --top 20",
    )
)
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@click.option(
    "--fail-if-slower",
    "limit_fraction",
    type=_Share(),
    metavar="SHARE",
    help="Exit with 1 if B or one of its ranks is slower by more than SHARE (3%), beyond noise; with 3 if undecided.",
)
@click.option("--top", type=click.IntRange(min=1), default=10, show_default=True, help="Rows of each level as text.")
@language_option
@format_option
def command(
    a: Path, b: Path, *, limit_fraction: float | None, top: int, language: Language, output_format: str
) -> None:
    """Compare A with B: run directories (or their run.json), traces, or folders of traces with one file a rank.

    What got slower, by phase, part of the time, module, operation and kernel; whether the change is beyond the noise of
    the steps (95 % bootstrap interval of the medians), each rank compared with itself; which settings and facts of the
    machine differ.
    """
    sides = _side(a), _side(b)
    if sides[0].kind != sides[1].kind:
        raise InputError(
            f"{a} is a {sides[0].kind}, {b} is a {sides[1].kind}",
            expectation="two runs, or two traces, can be compared",
            remedy=f"a run directory holds its own trace: give {a if sides[0].kind == 'run' else b}/trace.json.gz",
        )
    report = compare(*sides, limit_fraction=limit_fraction)
    if output_format == "json":
        click.echo(report.model_dump_json(indent=1))
    else:
        from hwprof.report.diff_text import print_diff

        print_diff(report, sys.stdout, top=top, language=language)
    _judge(report)


def _judge(report: DiffReport) -> None:
    """Fail the build where B is slower than it may be, or where that can't be told."""
    allowed = f"at most {format_fraction(report.limit_fraction)} is allowed"
    if report.outcome == "undecided":
        raise UndecidedError(
            f"it can't be told whether B is slower than A: {format_change(report.step.change_fraction)}, "
            + ("within noise" if report.step.interval else "with too few samples to know the noise"),
            expectation=allowed,
            remedy="record more steps",
        )
    if report.outcome == "failed":
        worst = max((one for one in report.ranks if one.slower), key=lambda one: one.change_fraction, default=None)
        if report.step.verdict != "slower" and worst is not None:
            raise WorkError(
                f"rank {worst.rank} is {format_fraction(worst.change_fraction)} slower in B, beyond noise",
                expectation=allowed,
            )
        raise WorkError(
            f"B is {format_fraction(report.step.change_fraction)} slower than A, beyond noise",
            expectation=allowed,
        )


def _side(path: Path) -> Side:
    if (path / RECORD_FILE).is_file() or _is_record(path):
        side = side_of_run(str(path), read_run(path))
        if side is None:
            raise InputError(f"{path} has no step time: that run did not get so far", remedy="run it again")
        return side
    from hwprof.trace.analysis import analyse

    files = _files(path)
    return side_of_traces(str(path), analyse(files).devices)


def _is_record(path: Path) -> bool:
    """Whether a file is a run's record, by its beginning."""
    if not path.is_file() or path.suffix != ".json":
        return False
    with path.open("rb") as file:
        start = file.read(4096)
    return b'"hwprof_version"' in start and b'"traceEvents"' not in start


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = sorted({file for pattern in _TRACES for file in path.glob(pattern)})
    if not files:
        raise InputError(
            f"{path} holds neither a {RECORD_FILE} nor traces",
            expectation="expected a directory that hwprof run wrote, or .json and .json.gz traces",
            remedy="give a run directory, a trace, or a folder of traces",
        )
    return files
