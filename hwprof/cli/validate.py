"""How good are the predictions? ``hwprof validate``: published measurements next to what hwprof predicts for them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hwprof.cli.deploy.serving_table import serving_report
from hwprof.cli.examples import examples
from hwprof.cli.format_option import format_option, say, tell
from hwprof.cli.kernel_tables import SHIPPED, kernels_report
from hwprof.errors import InputError
from hwprof.report.csv import csv_text
from hwprof.specs.catalogue.published import read_published
from hwprof.specs.catalogue.simulator import simulator_parameters
from hwprof.specs.files import write_atomically
from hwprof.units import format_fraction

if TYPE_CHECKING:
    from hwprof.simulate.published.validation import Errors, Validation, ValidationRow

COLUMNS = (
    "id",
    "measured_step_s",
    "predicted_step_s",
    "step_lo_s",
    "step_hi_s",
    "measured_memory_gib",
    "predicted_memory_gib",
    "memory_lo_gib",
    "memory_hi_gib",
    "assumptions",
    "refused",
)


@click.command(
    epilog=examples(
        "hwprof validate",
        "hwprof validate --data my-runs.csv --csv predicted.csv",
        "hwprof validate --kernels gemm.csv.gz --csv predicted.csv",
        "hwprof validate --serving servers.csv --csv predicted.csv",
    )
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    multiple=True,
    help="CSV with the columns of the table that hwprof ships, in its place; several: one after another.",
)
@click.option(
    "--kernels",
    is_flag=False,
    flag_value=SHIPPED,
    metavar="[FILE]",
    help="Predict a table of single kernels instead; its columns say which (products, experts, attention, decode, "
    "elementwise, collectives). Without FILE the measured kernels that hwprof ships.",
)
@click.option(
    "--serving",
    is_flag=False,
    flag_value=SHIPPED,
    metavar="[FILE]",
    help="Predict a table of measured servers instead (docs/serving.md has its columns). Without FILE those that "
    "hwprof ships.",
)
@click.option("--csv", "out", type=click.Path(path_type=Path), help="Write a line for each input row.")
@format_option
def command(
    *, data: tuple[Path, ...], kernels: str | None, serving: str | None, out: Path | None, output_format: str
) -> None:
    """Predict published training runs from their configuration alone and compare with what they measured.

    Blank cells get stated assumptions (see --csv); rows that can't be modelled are refused with the reason.
    """
    if bool(data) + (kernels is not None) + (serving is not None) > 1:
        raise InputError(
            "--data names training runs, --kernels kernels and --serving servers", remedy="give one of them at a time"
        )
    if serving is not None:
        say(serving_report(serving, out, output_format, shipped=SHIPPED))
        return
    if kernels is not None:
        say(kernels_report(kernels, out, output_format))
        return
    from hwprof.simulate.published.validation import validate

    runs = [run for path in data or (None,) for run in read_published(path)]
    result = validate(runs, simulator_parameters())
    if out is not None:
        write_atomically(out, _csv(result.rows))
    tell(output_format, lambda: _json(result), lambda: _text(result))


def _csv(rows: tuple[ValidationRow, ...]) -> str:
    return csv_text((COLUMNS, *map(_cells, rows)))


def _cells(row: ValidationRow) -> list[str]:
    low_s, high_s = row.interval_s or (None, None)
    numbers = (row.measured_step_s, row.predicted_step_s, low_s, high_s)
    memory = (row.measured_memory_gib, row.predicted_memory_gib, *(row.memory_interval_gib or (None, None)))
    shown = ["" if number is None else f"{number:.6g}" for number in (*numbers, *memory)]
    return [row.id, *shown, "; ".join(row.assumptions), row.refused]


def _json(result: Validation) -> dict[str, Any]:
    return {
        "rows": len(result.rows),
        "predicted": len(result.predicted),
        "coverage": result.coverage,
        "step_time": {**_errors(result.step_time), "interval_coverage": result.interval_coverage},
        "memory": {**_errors(result.memory), "interval_coverage": result.memory_interval_coverage},
        "by_accelerator": {key: _errors(errors) for key, errors in result.by("accelerator").items()},
        "by_source": {key: _errors(errors) for key, errors in result.by("source").items()},
        "by_kind": {key: _errors(errors) for key, errors in result.by("kind").items()},
        "refused": dict(result.refused),
    }


def _errors(errors: Errors | None) -> dict[str, Any]:
    return {} if errors is None else dataclasses.asdict(errors)


def _text(result: Validation) -> str:
    lines = [
        f"{len(result.rows)} rows, {len(result.predicted)} predicted ({format_fraction(result.coverage)})",
        *_inside("step time", result.interval_coverage),
        *_inside("peak memory", result.memory_interval_coverage),
        "",
        f"{'difference from the measurement [%]':38} {'n':>5} {'median':>7} {'p90':>7} {'max':>7} {'bias':>7}",
        _line("step time", result.step_time),
        _line("peak memory", result.memory),
    ]
    for kind in ("accelerator", "source", "kind"):
        lines += ["", f"step time by {kind}"]
        lines += [_line(key, errors) for key, errors in result.by(kind).items()]
    if result.refused:
        lines += ["", "refused", *(f"  {count:4}  {reason}" for reason, count in result.refused.items())]
    return "\n".join(lines)


def _inside(name: str, covered: float | None) -> list[str]:
    return [f"{name}: {format_fraction(covered)} inside the 90 % interval"] if covered is not None else []


def _line(name: str, errors: Errors | None) -> str:
    if errors is None:
        return f"  {name:36} nothing to compare"
    return (
        f"  {name[:36]:36} {errors.count:5} {errors.median_abs_pct:7.1f} {errors.p90_abs_pct:7.1f} "
        f"{errors.max_abs_pct:7.0f} {errors.bias_pct:+7.1f}"
    )
