"""How is the analysis of traces kept? A page that opens offline, the JSON, and CSV files for each device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from hwprof.report import palette
from hwprof.report.cells import Table
from hwprof.report.chinese import Language, chinese, phrase, table_in_chinese
from hwprof.report.csv import render_csv
from hwprof.report.files.folder import write_folder
from hwprof.report.html import render_page
from hwprof.report.pictures import Segment, segment
from hwprof.report.trace.in_chinese import (
    broken_in_chinese,
    gap_in_chinese,
    headline_in_chinese,
    title_in_chinese,
)
from hwprof.report.trace.tables import (
    PART_WORDS,
    SHEETS,
    broken_words,
    detail_tables,
    device_title,
    gap_words,
    headline,
    sheets,
    together_tables,
    waiting_words,
)
from hwprof.specs.record.trace import TimePart, TraceDevice, TraceReport

PAGE_ROWS = 200
"""Rows of a table on the page; the CSV files have all."""

_EARLIER = ("trace.json", "trace.html", *(f"{start}{name}.csv" for name in SHEETS for start in ("", "rank*-")))

PART_COLOURS: dict[TimePart, str] = {  # neighbours differ, and each has its words beside it
    "compute": palette.BLUE,
    "communication": palette.VERMILLION,
    "copy": palette.YELLOW,
    "input": palette.PURPLE,
    "recompilation": palette.BLACK,
    "allocation": palette.SLATE,
    "garbage_collection": palette.SLATE,
    "lock": palette.BLACK,
    "call": palette.BLACK,
    "blocking_copy": palette.ORANGE,
    "synchronisation": palette.ORANGE,
    "host": palette.SKY,
    "launch": palette.GREEN,
    "graph": palette.GREEN,
    "queued": palette.LIGHT_GREY,
    "unknown": palette.GREY,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DevicePage:
    """What the page says of one device."""

    anchor: str
    short: str
    title: str
    sentence: str
    broken: str
    parts: tuple[Segment, ...]
    tables: tuple[Table, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TracePage:
    """The whole page."""

    title: str
    version: str
    together: tuple[Table, ...]
    devices: tuple[DevicePage, ...]
    notes: tuple[str, ...]


def write_trace_report(report: TraceReport, directory: Path, language: Language = "en") -> list[Path]:
    """Write ``trace.json``, ``trace.html`` and the CSV files into ``directory``, which is made if need be.

    Returns:
        The files.

    Raises:
        WorkError: a file could not be written.
    """
    return write_folder(directory, _files(report, language), earlier=_EARLIER)


def _files(report: TraceReport, language: Language) -> Iterator[tuple[str, str]]:
    yield "trace.json", report.model_dump_json(indent=1) + "\n"
    page = trace_page(report)
    page = _in_chinese(page, report) if language == "zh" else page
    yield "trace.html", render_page("trace.html.j2", page=page, language=language)
    for number, device in enumerate(report.devices):
        prefix = f"{_anchor(number, device)}-" if len(report.devices) > 1 else ""
        for name, table in sheets(device).items():
            yield f"{prefix}{name}.csv", render_csv(table)


def trace_page(report: TraceReport) -> TracePage:
    """The view that the page's template shows."""
    return TracePage(
        title="Traces" if len(report.devices) > 1 else Path(report.devices[0].file).name,
        version=report.hwprof_version,
        together=tuple(together_tables(report)),
        devices=tuple(_device(number, device) for number, device in enumerate(report.devices)),
        notes=tuple(filter(None, [waiting_words(report), *report.notes])),
    )


def _in_chinese(page: TracePage, report: TraceReport) -> TracePage:
    """The same numbers in Chinese; names stay."""
    devices = (
        replace(
            each,
            short=f"进程 {device.rank}",
            title=title_in_chinese(device),
            sentence=headline_in_chinese(device) + (gap_in_chinese(device) if gap_words(device) else ""),
            broken=broken_in_chinese(device),
            parts=tuple(replace(part, label=chinese(part.label)) for part in each.parts),
            tables=tuple(map(table_in_chinese, each.tables)),
            notes=tuple(map(phrase, each.notes)),
        )
        for each, device in zip(page.devices, report.devices, strict=True)
    )
    together = tuple(map(table_in_chinese, page.together))
    return replace(
        page, title=chinese(page.title), together=together, devices=tuple(devices), notes=tuple(map(phrase, page.notes))
    )


def _anchor(number: int, device: TraceDevice) -> str:
    return f"rank{device.rank}" if device.kind == "cpu" else f"rank{device.rank}-{number}"


def _device(number: int, device: TraceDevice) -> DevicePage:
    anchor = _anchor(number, device)
    return DevicePage(
        anchor=anchor,
        short=f"Rank {device.rank}",
        title=device_title(device),
        sentence=" ".join(filter(None, [headline(device), gap_words(device)])),
        broken=broken_words(device),
        parts=tuple(segment(PART_WORDS[part], share, PART_COLOURS[part]) for part, share in device.shares.items()),
        tables=tuple(replace(table, name=f"{anchor}-{table.name}") for table in detail_tables(device, PAGE_ROWS)),
        notes=device.notes,
    )
