"""How does a terminal show titles, lines and tables? Styled on a screen, plain and aligned when piped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from hwprof.report.cells import Column, Table
from hwprof.report.chinese import phrase, said, table_in_chinese
from hwprof.report.folding import COLUMNS, folded_line, text_width
from hwprof.report.pictures import Segment
from hwprof.report.printable import printable

_INDENT = "  "
_BAR_CELLS = 60
_WIDEST = 60
"""Longer names, such as those of kernels, are cut in the middle; JSON and CSV have them whole."""
_STYLES = {"strong": "bold", "quiet": "dim"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A title, and below it lines and a table; one empty line from the next block.

    Attributes:
        title: stands one step further to the left than what is below it, in bold.
        lines: in ``style``, as the library rich names styles.
        bar: shown on a screen alone.
        table: without a header where no column has a title.
        indent: steps from the left.
    """

    title: str = ""
    lines: Sequence[str] = ()
    bar: Sequence[Segment] = ()
    table: Table | None = None
    indent: int = 1
    style: str = ""

    @property
    def filled(self) -> bool:
        """Whether there is anything below the title; without both a block is not shown."""
        return any(self.lines) or bool(self.table and self.table.rows)


@dataclass(frozen=True, slots=True)
class Section:
    """A title, lines below it, tables and notes."""

    title: str
    lead: Sequence[str]
    tables: Sequence[Table]
    notes: Sequence[str]

    def blocks(self) -> list[Block]:
        """The section as a terminal shows it."""
        tables = [Block(title=table.title, table=table, indent=2) for table in self.tables]
        return [Block(title=self.title, lines=self.lead), *tables, Block(lines=self.notes, style="dim")]


def block_in_chinese(block: Block) -> Block:
    """What a terminal shows, in all its lines."""
    table = None if block.table is None else table_in_chinese(block.table)
    return replace(block, title=said(block.title), lines=[phrase(line) for line in block.lines], table=table)


def print_sections(sections: Sequence[Section], stream: TextIO) -> None:
    """Print sections, styled if the stream is a terminal."""
    print_blocks([block for section in sections for block in section.blocks()], stream)


def print_blocks(blocks: Sequence[Block], stream: TextIO) -> None:
    """Print blocks, styled if the stream is a terminal."""
    if stream.isatty():
        Console(file=stream, highlight=False).print(styled(blocks))  # each text is made by _text
    else:
        encoding = stream.encoding or "utf-8"
        stream.write(printable(plain(blocks)).encode(encoding, "replace").decode(encoding))


def plain(blocks: Sequence[Block]) -> str:
    """Aligned lines without colour, within a screen; ends with a newline."""
    texts = []
    for block in _shown(blocks):
        left = _INDENT * block.indent
        title = [_INDENT * max(block.indent - 1, 0) + block.title] if block.title else []
        lines = [*title, *(left + line for line in block.lines)]
        notes = [left + line for line in block.table.note.splitlines()] if block.table else []
        rows = [left + line for line in _table_lines(block.table, COLUMNS - len(left))] if block.table else []
        parts = [*_folded(lines), *rows, *_folded(notes)]
        texts.append("\n".join(line.rstrip() for line in parts))
    return "\n\n".join(texts) + "\n"


def _folded(lines: Sequence[str]) -> list[str]:
    return [part for line in lines for part in folded_line(line)]


def styled(blocks: Sequence[Block]) -> RenderableType:
    """The same for a screen, with bars."""
    parts: list[RenderableType] = []
    for block in _shown(blocks):
        left = (0, 0, 0, len(_INDENT) * block.indent)
        if block.title:
            parts.append(_text(_INDENT * max(block.indent - 1, 0) + block.title, "bold"))
        parts += [Padding(_text(line, block.style), left) for line in block.lines]
        parts += [Padding(_rich_bar(block.bar), left)] if block.bar else []
        if block.table:
            parts.append(Padding(_rich_table(block.table), left))
            parts += [Padding(_text(line, "dim"), left) for line in block.table.note.splitlines()]
        parts.append(Text())
    return Group(*parts)


def _text(text: str, style: str = "") -> Text:
    return Text(printable(text), style=style)


def _shown(blocks: Sequence[Block]) -> list[Block]:
    return [block for block in blocks if block.title or block.filled]


def _heading(column: Column) -> str:
    return f"{column.title} [{column.unit}]" if column.unit else column.title


def _rows(table: Table) -> list[list[str]]:
    return [[_short(cell.text, column) for cell, column in zip(row, table.columns, strict=True)] for row in table.rows]


def _short(text: str, column: Column) -> str:
    """Prose is never cut, and what has no header is prose."""
    if len(text) <= _WIDEST or column.style == "long" or not column.title:
        return text
    half = (_WIDEST - 1) // 2
    return f"{text[:half]}…{text[-half:]}"


def _table_lines(table: Table, columns: int) -> list[str]:
    """Rows in columns; where they are wider than the screen, prose in the last column goes on below itself."""
    header = [_heading(column) for column in table.columns]
    rows = [header, *_rows(table)] if any(header) else _rows(table)
    widths = [max(map(text_width, column)) for column in zip(*rows, strict=True)]
    before = sum(widths[:-1]) + 2 * len(widths[:-1])
    prose = bool(widths) and table.columns[-1].style != "number" and columns > before
    lines = []
    for row in rows:
        *cells, last = (_aligned(*each) for each in zip(row, widths, table.columns, strict=True))
        parts = folded_line(last.rstrip(), max(columns - before, _NARROWEST_PROSE)) if prose else [last]
        first = "  ".join([*cells, parts[0]])
        lines += [first, *(" " * before + part for part in parts[1:])]
    return lines


_NARROWEST_PROSE = 8


def _aligned(text: str, width: int, column: Column) -> str:
    fill = " " * (width - text_width(text))
    return fill + text if column.style == "number" else text + fill


def _rich_table(table: Table) -> RichTable:
    titled = any(column.title for column in table.columns)
    drawn = RichTable(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=titled, header_style="dim")
    for column in table.columns:
        drawn.add_column(
            _text(_heading(column)),
            justify="right" if column.style == "number" else "left",
            overflow="fold",
            style=_STYLES.get(column.style, ""),
        )
    for row in _rows(table):
        drawn.add_row(*map(_text, row))
    return drawn


def _rich_bar(segments: Sequence[Segment]) -> RichTable:
    """A stacked bar of coloured cells; the ratios are the segments' fractions."""
    bar = RichTable.grid(expand=False)
    bar.width = _BAR_CELLS
    for segment in segments:
        bar.add_column(ratio=max(round(1000 * segment.fraction), 1), no_wrap=True, overflow="ellipsis")
    bar.add_row(*(_text(segment.label, f"{segment.ink} on {segment.colour}") for segment in segments))
    return bar
