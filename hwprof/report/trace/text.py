"""What does the terminal show of analysed traces? A section a device, and one for all ranks together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TextIO

from hwprof.report.chinese import Language, chinese, phrase, table_in_chinese
from hwprof.report.terminal import Section, print_sections
from hwprof.report.trace.in_chinese import headline_in_chinese, title_in_chinese
from hwprof.report.trace.tables import (
    broken_words,
    detail_tables,
    device_title,
    gap_words,
    headline,
    part_table,
    together_tables,
    waiting_words,
)
from hwprof.specs.record.trace import TraceDevice, TraceFinding, TraceReport
from hwprof.units import format_fraction


def print_trace(report: TraceReport, stream: TextIO, *, top: int, language: Language = "en") -> None:
    """Print the analysis; ``top`` rows a table."""
    sections = trace_sections(report, top)
    if language == "zh":
        sections = [*_in_chinese(sections, report)]
    print_sections(sections, stream)


def _in_chinese(sections: Sequence[Section], report: TraceReport) -> Iterator[Section]:
    """Titles, tables, findings and notes; the names of kernels and calls stay."""
    for number, section in enumerate(sections):
        title, lead = chinese(section.title), list(section.lead)
        if number < len(report.devices):
            device = report.devices[number]
            title = title_in_chinese(device)
            lead[lead.index(headline(device))] = headline_in_chinese(device)
        tables = [table_in_chinese(table) for table in section.tables]
        yield Section(title, [*map(phrase, lead)], tables, [*map(phrase, section.notes)])


def trace_sections(report: TraceReport, top: int) -> list[Section]:
    """One section a device, and one for all ranks together."""
    sections = [_section(device, top) for device in report.devices]
    tables = together_tables(report)
    return (
        [*sections, Section("All ranks", list(filter(None, [waiting_words(report)])), tables, report.notes)]
        if tables or report.notes
        else sections
    )


def _section(device: TraceDevice, top: int) -> Section:
    tables = [table for table in detail_tables(device, top) if table.name != "findings"]
    lead = [
        broken_words(device),
        headline(device),
        gap_words(device),
        *(line for found in device.findings for line in _finding(found)),
    ]
    return Section(device_title(device), list(filter(None, lead)), [part_table(device), *tables], device.notes)


def _finding(found: TraceFinding) -> list[str]:
    share = f": {format_fraction(found.share)} of the time" if found.share else ""
    evidence = [f"  {found.evidence}"] if found.evidence else []
    return [f"- It {found.title}{share}", *evidence, f"  try: {found.change}"]
