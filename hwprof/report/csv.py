"""How does a table become a CSV file that opens cleanly in a spreadsheet?"""

from __future__ import annotations

import csv
import io

from hwprof.report.cells import Cell, Column, Table

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
"""First characters that make a spreadsheet run a cell as a formula (OWASP, CSV Injection)."""


def render_csv(table: Table) -> str:
    """One header row, one line a row; text that a spreadsheet would run as a formula gets a leading apostrophe."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow([column.name for column in table.columns])
    for row in table.rows:
        writer.writerow([_guarded(column, cell) for column, cell in zip(table.columns, row, strict=True)])
    return out.getvalue()


def _guarded(column: Column, cell: Cell) -> str:
    if column.style != "number" and cell.text.startswith(_FORMULA_STARTS):
        return "'" + cell.text
    return cell.text
