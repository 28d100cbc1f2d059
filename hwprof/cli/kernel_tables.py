"""How does ``hwprof validate --kernels`` show what came of a table of kernels? As JSON, as text, and row by row."""

from __future__ import annotations

import dataclasses
import json
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

from hwprof.errors import InputError
from hwprof.report.csv import csv_text
from hwprof.report.folding import folded
from hwprof.specs.files import write_atomically
from hwprof.units import format_fraction

if TYPE_CHECKING:
    from hwprof.predict.kernels.tables import TableErrors, TableTimes

SHIPPED = "\0"
"""Stands for the tables that hwprof ships; no file has this name."""

ADDED = ("predicted_s", "lo_s", "hi_s", "refused")


def kernels_report(table: str, out: Path | None, output_format: str) -> str:
    """What the command prints of a table, or of those that hwprof ships; writes its rows to ``out``.

    Raises:
        InputError: the table can't be read, is of no known kind, or rows of the shipped tables are asked for.
    """
    from hwprof.predict.kernels.tables import predicted_file, predicted_shipped, table_errors

    if table == SHIPPED:
        if out is not None:
            raise InputError(
                "--csv writes the rows of one table, but --kernels names none",
                remedy="give it a file: --kernels FILE --csv OUT",
            )
        errors, seen = table_errors(list(predicted_shipped())), True
    else:
        found = predicted_file(Path(table))
        if out is not None:
            write_atomically(out, _csv(found))
        errors, seen = table_errors([found]), False
    return json.dumps(_json(errors), indent=2) if output_format == "json" else folded(_text(errors, seen=seen))


def _csv(found: TableTimes) -> str:
    rows = [[*found.names, *ADDED]]
    times = zip(found.times.seconds, found.times.lo_s, found.times.hi_s, strict=True)
    for values, numbers, refused in zip(found.cells, times, found.times.refused, strict=True):
        shown = [f"{number:.6g}" if isfinite(number) else "" for number in numbers]
        cells = [*values[: len(found.names)], *[""] * (len(found.names) - len(values))]
        rows.append([*cells, *shown, refused])
    return csv_text(rows)


def _json(errors: TableErrors) -> dict[str, object]:
    return {
        "rows": errors.rows,
        "predicted": errors.predicted,
        "groups": {name: dataclasses.asdict(one) for name, one in errors.groups.items()},
        "refused": errors.refused,
        "basis": {name: {"word": basis.word, "text": basis.text} for name, basis in errors.bases.items()},
    }


def _text(errors: TableErrors, *, seen: bool) -> str:
    share = f" ({format_fraction(errors.predicted / errors.rows)})" if errors.rows else ""
    note = "; the curves have seen these rows" if seen else ""
    lines = [
        f"{errors.rows} rows, {errors.predicted} predicted{share}{note}",
        f"{'difference from the measurement [%]':42} {'n':>5} {'median':>7} {'p90':>7} {'bias':>7}  inside",
    ]
    for name, one in errors.groups.items():
        lines.append(
            f"  {name[:40]:40} {one.count:5} {one.median_abs_pct:7.1f} {one.p90_abs_pct:7.1f} {one.bias_pct:+7.1f}  "
            f"{format_fraction(one.interval_coverage):>6}"
        )
    lines.append("  inside: share of measurements inside the 90 % interval")
    if errors.bases:
        lines += ["", "said by"]
        lines += [f"  {name}: {basis.word}: {basis.text}" for name, basis in sorted(errors.bases.items())]
    if errors.refused:
        lines += ["", "refused", *(f"  {count:4}  {reason}" for reason, count in errors.refused.items())]
    return "\n".join(lines)
