"""What does the terminal show of analysed traces? The tables, styled on a terminal, plain and aligned when piped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from hwprof.report.cells import Cell, Column, Table, percent
from hwprof.report.trace.tables import (
    broken_words,
    detail_tables,
    device_table,
    device_title,
    headline,
    part_table,
    straggler_table,
)
from hwprof.specs.record.trace import TraceDevice, TraceFinding, TraceReport

_INDENT = "  "
_WIDEST = 60
"""Longer names of kernels are cut in the middle; JSON and CSV have them whole."""


@dataclass(frozen=True, slots=True)
class Section:
    """A title, lines below it, tables and notes."""

    title: str
    lead: list[str]
    tables: list[Table]
    notes: list[str]


def print_trace(report: TraceReport, stream: TextIO, *, top: int) -> None:
    """Print the analysis; ``top`` rows a table."""
    print_sections(trace_sections(report, top), stream)


def print_sections(sections: Sequence[Section], stream: TextIO) -> None:
    """Print sections of tables, styled if the stream is a terminal."""
    if stream.isatty():
        Console(file=stream, highlight=False).print(rich_sections(sections))
    else:
        encoding = stream.encoding or "utf-8"
        stream.write(plain_sections(sections).encode(encoding, "replace").decode(encoding))


def plain_sections(sections: Sequence[Section]) -> str:
    """Aligned lines without colour; ends with a newline."""
    blocks = []
    for section in sections:
        blocks.append("\n".join([section.title, *(_INDENT + line for line in section.lead)]))
        blocks += [
            "\n".join([_INDENT + table.title, *(_INDENT * 2 + line for line in _lines(table))])
            for table in section.tables
        ]
        blocks += ["\n".join(_INDENT + note for note in section.notes)] if section.notes else []
    return "\n\n".join(blocks) + "\n"


def rich_sections(sections: Sequence[Section]) -> RenderableType:
    """The same for a terminal."""
    parts: list[RenderableType] = []
    for section in sections:
        parts += [
            Text(section.title, style="bold"),
            *(Padding(Text(line), (0, 0, 0, 2)) for line in section.lead),
            Text(),
        ]
        for table in section.tables:
            parts += [Text(_INDENT + table.title, style="bold"), Padding(_rich_table(table), (0, 0, 0, 4))]
            parts += [Text(_INDENT * 2 + table.note, style="dim")] if table.note else []
            parts.append(Text())
        parts += [Text(_INDENT + note, style="dim") for note in section.notes]
    return Group(*parts)


def trace_sections(report: TraceReport, top: int) -> list[Section]:
    """One section a device, and one for all ranks together."""
    sections = [_section(device, top) for device in report.devices]
    tables = [device_table(report.devices)] if len(report.devices) > 1 else []
    tables += [straggler_table(report.stragglers)] if report.stragglers else []
    if tables or report.notes:
        sections.append(Section("All ranks", [], tables, list(report.notes)))
    return sections


def _section(device: TraceDevice, top: int) -> Section:
    tables = [table for table in detail_tables(device, top) if table.name != "findings"]
    lead = [broken_words(device), headline(device), *(line for found in device.findings for line in _finding(found))]
    return Section(
        device_title(device), [line for line in lead if line], [part_table(device), *tables], list(device.notes)
    )


def _finding(found: TraceFinding) -> list[str]:
    share = f" {percent(found.share)} of the time" if found.share else ""
    evidence = [f"{_INDENT}{found.evidence}"] if found.evidence else []
    return [f"- It {found.title}{':' if share else ''}{share}", *evidence, f"{_INDENT}try: {found.change}"]


def _lines(table: Table) -> list[str]:
    header = [f"{column.title} [{column.unit}]" if column.unit else column.title for column in table.columns]
    rows = [header, *([_short(cell) for cell in row] for row in table.rows)]
    widths = [max(len(row[place]) for row in rows) for place in range(len(header))]
    lines = [
        "  ".join(
            text.rjust(width) if column.style == "number" else text.ljust(width)
            for text, width, column in zip(row, widths, table.columns, strict=True)
        ).rstrip()
        for row in rows
    ]
    return [*lines, *([table.note] if table.note else [])]


def _rich_table(table: Table) -> RichTable:
    drawn = RichTable(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in table.columns:
        drawn.add_column(_heading(column), justify="right" if column.style == "number" else "left", overflow="fold")
    for row in table.rows:
        drawn.add_row(*(Text(_short(cell)) for cell in row))
    return drawn


def _heading(column: Column) -> Text:
    return Text(f"{column.title} [{column.unit}]" if column.unit else column.title, style="dim")


def _short(cell: Cell) -> str:
    if len(cell.text) <= _WIDEST:
        return cell.text
    half = (_WIDEST - 1) // 2
    return f"{cell.text[:half]}…{cell.text[-half:]}"
