"""How does ``hwprof validate --serving`` show what came of a table of measured servers? As JSON, as text, as rows."""

from __future__ import annotations

import dataclasses
import json
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

from hwprof.report.csv import csv_text
from hwprof.report.folding import folded
from hwprof.specs.files import write_atomically
from hwprof.units import format_fraction

if TYPE_CHECKING:
    from hwprof.deploy.accuracy import ServingErrors
    from hwprof.deploy.published import ServingRows
    from hwprof.predict.curves.misses import GroupErrors

ADDED = (
    "predicted_ttft_ms",
    "ttft_lo_ms",
    "ttft_hi_ms",
    "predicted_tpot_ms",
    "tpot_lo_ms",
    "tpot_hi_ms",
    "refused",
    "assumptions",
)


def serving_report(table: str, out: Path | None, output_format: str, *, shipped: str) -> str:
    """What the command prints of a table, or of the one that hwprof ships; writes its rows to ``out``.

    Raises:
        InputError: the table can't be read, or lacks columns.
    """
    from hwprof.deploy.accuracy import serving_errors
    from hwprof.deploy.published import SHIPPED_TABLE, serving_rows
    from hwprof.specs.files import data_roots

    seen = table == shipped
    found = serving_rows(data_roots()[0] / SHIPPED_TABLE if seen else Path(table))
    if out is not None:
        write_atomically(out, _csv(found))
    errors = serving_errors(found)
    return (
        json.dumps(dataclasses.asdict(errors), indent=2)
        if output_format == "json"
        else folded(_text(errors, seen=seen))
    )


def _csv(found: ServingRows) -> str:
    names = list(found.rows[0]) if found.rows else []
    kept = [name for name in names if name not in ADDED and name != "id"]
    rows = [["id", *ADDED, *kept]]
    for number, row in enumerate(found.rows):
        shown = [f"{1e3 * time:.6g}" if isfinite(time) else "" for time in found.times[number].tolist()]
        own = [row.get(name, "") for name in kept]
        notes = "; ".join(found.notes[number])
        rows.append([row.get("id", str(number + 1)), *shown, found.refused[number], notes, *own])
    return csv_text(rows)


def _text(errors: ServingErrors, *, seen: bool) -> str:
    note = "; the engines' numbers are fitted to these rows" if seen else ""
    share = f" ({format_fraction(errors.coverage)})" if errors.rows else ""
    lines = [
        f"{errors.rows} rows, {errors.predicted} predicted{share}{note}",
        "",
        f"{'difference from the measurement [%]':43} {'n':>4} {'median':>6} {'p90':>6} {'bias':>6}  inside",
        _line("", "token", errors.tpot),
        _line("", "first token", errors.ttft),
        "  inside: share of measurements inside the 90 % interval",
    ]
    for name in ("by_mode", "by_engine", "by_device", "by_model"):
        lines += ["", name.replace("_", " ")]
        for group, pair in getattr(errors, name).items():
            lines += [_line(group, "token", pair.tpot), _line("", "first token", pair.ttft)]
    if errors.refused:
        lines += ["", "refused", *(f"  {count:4}  {reason}" for reason, count in errors.refused.items())]
    return "\n".join(lines)


def _line(group: str, what: str, errors: GroupErrors | None) -> str:
    name = f"  {group[:28]:28} {what:12}"
    if errors is None:
        return f"{name} nothing to compare"
    return (
        f"{name} {errors.count:4} {errors.median_abs_pct:6.1f} {errors.p90_abs_pct:6.1f} {errors.bias_pct:+6.1f}  "
        f"{format_fraction(errors.interval_coverage):>6}"
    )
