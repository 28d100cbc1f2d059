"""How do tables become an Excel workbook? One sheet a table, by openpyxl, which is an optional dependency."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence

from hwprof.errors import WorkError
from hwprof.report.cells import Cell, Table

_NOT_IN_XML = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_WIDEST = 60


def render_xlsx(tables: Sequence[Table]) -> bytes:
    """A workbook with the tables as sheets: a header row that stays in view, numbers as numbers, text as text.

    Raises:
        WorkError: openpyxl is not installed.
    """
    try:
        from openpyxl import Workbook
    except ImportError:
        raise WorkError(
            "openpyxl is not installed", expectation="it writes .xlsx files", remedy="pip install 'hwprof[xlsx]'"
        ) from None
    from openpyxl.styles import Font
    from openpyxl.utils import get_column_letter

    book = Workbook(write_only=False)
    book.remove(book.worksheets[0])
    for table in tables:
        sheet = book.create_sheet(table.name)
        for place, column in enumerate(table.columns, start=1):
            sheet.cell(row=1, column=place, value=column.name).font = Font(bold=True)
            texts = [column.name, *(row[place - 1].text for row in table.rows)]
            sheet.column_dimensions[get_column_letter(place)].width = min(max(map(len, texts)) + 2, _WIDEST)
        for number, row in enumerate(table.rows, start=2):
            for place, cell in enumerate(row, start=1):
                put = sheet.cell(row=number, column=place)
                put.value = _plain(cell)
                if isinstance(put.value, str):
                    put.data_type = "s"  # else openpyxl would make a formula of what begins with "="
        sheet.freeze_panes = "A2"
        sheet.auto_filter.ref = sheet.dimensions
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def _plain(cell: Cell) -> str | float | None:
    return _NOT_IN_XML.sub("�", cell.value) if isinstance(cell.value, str) else cell.value
