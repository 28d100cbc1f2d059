"""What does the terminal show at the end of a run? A summary: styled on a terminal, plain and aligned when piped."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from hwprof.report.cells import Table
from hwprof.report.pictures import Segment
from hwprof.report.run.headline import Headline
from hwprof.report.run.view import View, build_view
from hwprof.specs.record.run import RunRecord

_TERMINAL_BAR_CELLS = 60
_INDENT = "  "


def print_summary(record: RunRecord, stream: TextIO, directory: Path | None = None) -> None:
    """Print the summary of ``record`` to ``stream``, and where its report is if it could be written."""
    view = build_view(record)
    page = None if directory is None else directory / "report.html"
    report = str(page) if page is not None and page.is_file() else ""
    if stream.isatty():
        Console(file=stream, highlight=False).print(rich_summary(view, report))
    else:
        encoding = stream.encoding or "utf-8"
        stream.write(plain_summary(view, report).encode(encoding, "replace").decode(encoding))


def plain_summary(view: View, report: str = "") -> str:
    """The summary as aligned lines without colour; ends with a newline."""
    head = view.headline
    blocks = [
        [view.title, view.subtitle],
        [view.status_text] if view.status_text else [],
        [head.sentence],
        [head.caution] if head.caution else [],
        _aligned([(card.title, card.value, card.brief) for card in head.cards]),
        _titled("Phases of the step", _aligned(_segment_rows(head.phases))),
        _titled("Bound by", _aligned(_segment_rows(head.bounds))),
        *_short_blocks(view),
        _titled("Largest losses", _aligned(_loss_rows(head))),
        _titled("What to change", _recommendation_lines(head)),
        _titled("Could not run", _aligned(_skipped_rows(view))),
        _titled("Notes", view.notes),
        [f"Report: {report}"] if report else [],
    ]
    return "\n\n".join("\n".join(line.rstrip() for line in block) for block in blocks if block) + "\n"


def rich_summary(view: View, report: str = "") -> RenderableType:
    """The summary for a terminal: the same content with bars and colours."""
    head = view.headline
    parts: list[RenderableType] = [Text(view.title, style="bold"), Text(view.subtitle, style="dim")]
    if view.status_text:
        parts.append(Text(view.status_text, style="yellow"))
    parts += [Text(), Text(head.sentence, style="bold")]
    if head.caution:
        parts.append(Text(head.caution, style="yellow"))
    parts.append(Text())
    parts.append(_grid([(card.title, card.value, card.brief) for card in head.cards], ("", "bold", "dim")))
    for title, segments in (("Phases of the step", head.phases), ("Bound by", head.bounds)):
        if segments:
            parts += [Text(), Text(title, style="bold"), Padding(_bar(segments), (0, 2))]
            parts.append(_grid(_segment_rows(segments), ("", "bold", "dim")))
    parts += [
        part for block in _short_blocks(view) for part in (Text(), Text(block[0], style="bold"), _lines(block[1:]))
    ]
    for title, rows in (("Largest losses", _loss_rows(head)), ("Could not run", _skipped_rows(view))):
        if rows:
            parts += [Text(), Text(title, style="bold"), _grid(rows, ("", "bold", "", "dim"))]
    if head.recommendations:
        lines = "\n".join(_recommendation_lines(head))
        parts += [Text(), Text("What to change", style="bold"), Padding(Text(lines), (0, 0, 0, 2))]
    if view.notes:
        parts += [Text(), Text("Notes", style="bold"), Padding(Text("\n".join(view.notes)), (0, 0, 0, 2))]
    if report:
        parts += [Text(), Text(f"Report: {report}")]
    return Group(*parts)


_SHORT_COLUMNS = {
    "ranks": ("rank", "step", "compute", "exposed", "hidden", "idle", "wait", "late"),
    "collectives": ("collective", "axis", "calls", "size", "time", "exposed", "rate", "probe", "fraction"),
    "counters": ("op", "time", "byte_ratio", "dram", "tensor", "counted_bound", "measured_bound", "kernel"),
}
"""What of each table of several ranks, and of a GPU's counters, the terminal shows."""
_MOST_SHORT_ROWS = 20
_LONGEST_CELL = 48


def _short_blocks(view: View) -> list[list[str]]:
    """Several ranks: who waited for whom, and the collectives; kernels beside counters; else nothing."""
    return [_short_table(view.tables[name], chosen) for name, chosen in _SHORT_COLUMNS.items() if name in view.tables]


def _short_table(table: Table, chosen: Sequence[str]) -> list[str]:
    if not table.rows:
        return _titled(table.title, [table.empty]) if table.name == "counters" else []
    places = [[column.name for column in table.columns].index(name) for name in chosen]
    heads = [
        f"{table.columns[at].title}{f' [{table.columns[at].unit}]' * bool(table.columns[at].unit)}" for at in places
    ]
    rows = [[_clipped(row[at].text) for at in places] for row in table.rows[:_MOST_SHORT_ROWS]]
    more = len(table.rows) - len(rows)
    lines = _titled(table.title, _aligned([heads, *rows]))
    return [
        *lines,
        *([f"{_INDENT}{more} more in the report"] if more else []),
        *([_INDENT + table.note] * bool(table.note)),
    ]


def _clipped(text: str) -> str:
    return text if len(text) <= _LONGEST_CELL else f"{text[: _LONGEST_CELL - 1]}…"


def _lines(lines: Sequence[str]) -> Text:
    return Text("\n".join(lines))


def _titled(title: str, lines: Sequence[str]) -> list[str]:
    return [title, *(_INDENT + line for line in lines)] if lines else []


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns as wide as their widest cell; the last one is as long as it is."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))] if rows else []
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _segment_rows(segments: Sequence[Segment]) -> list[tuple[str, str, str]]:
    return [(segment.label, segment.text, segment.detail) for segment in segments]


def _loss_rows(head: Headline) -> list[tuple[str, str, str, str]]:
    return [
        (f"{loss.label} {loss.direction}", f"{loss.lost} lost ({loss.lost_share} of the step)", loss.bound, loss.advice)
        for loss in head.losses
    ]


def _skipped_rows(view: View) -> list[tuple[str, str]]:
    return [(row[0].text, row[1].text) for row in view.tables["skipped"].rows]


def _recommendation_lines(head: Headline) -> list[str]:
    return [
        line
        for item in head.recommendations
        for line in (f"{item.title}: {item.gain} ({item.basis})", f"{_INDENT}{item.change}")
        if line.strip()
    ]


def _grid(rows: Sequence[Sequence[str]], styles: Sequence[str]) -> RenderableType:
    grid = RichTable.grid(padding=(0, 2, 0, 0))
    for style in styles[: len(rows[0])] if rows else ():
        grid.add_column(style=style, overflow="fold")
    for row in rows:
        grid.add_row(*(Text(cell) for cell in row))
    return Padding(grid, (0, 0, 0, 2))


def _bar(segments: Sequence[Segment]) -> RichTable:
    """A stacked bar of coloured cells; the ratios are the segments' fractions."""
    bar = RichTable.grid(expand=False)
    bar.width = _TERMINAL_BAR_CELLS
    for segment in segments:
        bar.add_column(ratio=max(round(1000 * segment.fraction), 1), no_wrap=True, overflow="ellipsis")
    bar.add_row(*(Text(segment.label, style=f"{segment.ink} on {segment.colour}") for segment in segments), style="")
    return bar
