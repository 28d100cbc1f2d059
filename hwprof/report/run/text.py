"""What does the terminal show at the end of a run? A summary of its report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TextIO

from hwprof.report.cells import Cell, Column, Style, Table
from hwprof.report.chinese import Language
from hwprof.report.pictures import Segment
from hwprof.report.run.in_chinese import view_in_chinese
from hwprof.report.run.view import View, build_view
from hwprof.report.terminal import Block, block_in_chinese, plain, print_blocks
from hwprof.specs.record.run import RunRecord

_SHORT_COLUMNS = {
    "ranks": "rank step_s compute_s exposed_communication_s hidden_communication_s idle_s wait_s late_s",
    "collectives": (
        "collective axis calls_per_step size_bytes time_s exposed_s bus_byte_per_s probe_bus_byte_per_s probe_fraction"
    ),
    "counters": "op time byte_ratio dram tensor counted_bound measured_bound kernel",
}
"""What of each table of several ranks, and of a GPU's counters, the terminal shows."""
_MOST_SHORT_ROWS = 20


def print_summary(record: RunRecord, stream: TextIO, directory: Path | None = None, language: Language = "en") -> None:
    """Print the summary of ``record`` to ``stream``, and where its report is if it could be written."""
    page = None if directory is None else directory / "report.html"
    view, where = build_view(record), str(page) if page and page.is_file() else ""
    shown = summary(view_in_chinese(view) if language == "zh" else view, where)
    print_blocks([*map(block_in_chinese, shown)] if language == "zh" else shown, stream)


def plain_summary(view: View, report: str = "") -> str:
    """The summary as aligned lines without colour; ends with a newline."""
    return plain(summary(view, report))


def summary(view: View, report: str = "") -> list[Block]:
    """The verdict, the key numbers, where the time goes, what is lost, what to change, what could not run."""
    head = view.headline
    cards = [(card.title, card.value, card.brief) for card in head.cards]
    losses = [
        line
        for one in head.losses
        for line in (
            f"{one.label} {one.direction}: {one.lost} lost ({one.lost_share}, {one.bound})",
            f"  {one.advice}",
        )
    ]
    skipped = [(row[0].text, row[1].text) for row in view.tables["skipped"].rows]
    advice = [
        line
        for item, gain in head.recommendations
        for line in (f"{item.title}: {gain} ({item.basis})", f"  {item.change}")
        if line.strip()
    ]
    blocks = (
        Block(title=view.title, lines=[view.subtitle], indent=0, style="dim"),
        Block(lines=[view.status_text], indent=0, style="yellow"),
        Block(lines=[head.caution], indent=0, style="yellow"),
        Block(lines=[head.sentence], indent=0, style="bold"),
        Block(table=_headless(cards, "text", "strong", "quiet"), indent=0),
        _shares("Phases of the step", head.phases),
        _shares("Bound by", head.bounds),
        *(_short(view.tables[name], names.split()) for name, names in _SHORT_COLUMNS.items() if name in view.tables),
        Block(title="Largest losses: time, share of the step, bound by", lines=losses),
        Block(title="What to change", lines=advice),
        Block(title="Could not run", table=_headless(skipped, "text", "strong")),
        Block(title="Notes", lines=view.notes),
        Block(lines=[f"Report: {report}" if report else ""], indent=0),
    )
    return [block for block in blocks if block.filled]


def _headless(rows: Sequence[Sequence[str]], *styles: Style) -> Table:
    columns = tuple(Column(name="", title="", style=style) for style in styles)
    cells = tuple(tuple(Cell(value=text, text=text) for text in row) for row in rows)
    return Table(name="", title="", columns=columns, rows=cells)


def _shares(title: str, segments: Sequence[Segment]) -> Block:
    rows = [(one.label, one.text, one.detail) for one in segments]
    return Block(title=title, bar=segments, table=_headless(rows, "text", "strong", "quiet"))


def _short(table: Table, names: Sequence[str]) -> Block:
    """Some columns of the first rows; of a GPU's counters also why there are none."""
    if not table.rows:
        return Block(title=table.title, lines=[table.empty] if table.name == "counters" else [])
    places = [[column.name for column in table.columns].index(name) for name in names]
    more = len(table.rows) - _MOST_SHORT_ROWS
    shown = replace(
        table,
        columns=tuple(table.columns[place] for place in places),
        rows=tuple(tuple(row[place] for place in places) for row in table.rows[:_MOST_SHORT_ROWS]),
        note=f"{more} more in the report\n{table.note}" if more > 0 else table.note,
    )
    return Block(title=table.title, table=shown)
