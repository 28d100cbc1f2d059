"""How does a table become a CSV file that opens cleanly in a spreadsheet?"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence

from hwprof.report.cells import Cell, Column, Table

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
"""First characters that make a spreadsheet run a cell as a formula (OWASP, CSV Injection)."""

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def render_csv(table: Table) -> str:
    """One header row, one line a row; text that a spreadsheet would run as a formula gets a leading apostrophe."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow([column.name for column in table.columns])
    for row in table.rows:
        writer.writerow([_guarded(column, cell) for column, cell in zip(table.columns, row, strict=True)])
    return out.getvalue()


def csv_text(rows: Iterable[Sequence[str]]) -> str:
    """Rows of cells of unknown origin, one line each; the first is the header."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([guarded(cell) for cell in row] for row in rows)
    return out.getvalue()


def _guarded(column: Column, cell: Cell) -> str:
    return cell.text if column.style == "number" else guarded(cell.text)


def guarded(text: str) -> str:
    """Text of unknown origin as a cell: what a spreadsheet would run gets a leading apostrophe, a number does not."""
    runs = text.lstrip(" ").startswith(_FORMULA_STARTS) and not _NUMBER.fullmatch(text)
    return "'" + text if runs else text
