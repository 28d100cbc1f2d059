"""What does the terminal show of the doctor's findings? What is to be done first, then everything."""

from __future__ import annotations

from typing import TextIO

from hwprof.report.cells import Field, build_table
from hwprof.report.terminal import Section, print_sections
from hwprof.specs.record.doctor import Check, DoctorReport
from hwprof.units import format_seconds

_CHECKS: tuple[Field[Check], ...] = (
    Field("status", "Status", lambda check: check.status),
    Field("name", "What", lambda check: check.name),
    Field("found", "Found", lambda check: check.found, style="long"),
    Field("adds", "For", lambda check: check.adds, style="long"),
)


def print_doctor(report: DoctorReport, stream: TextIO) -> None:
    """Print the findings."""
    lines = [
        line
        for check in report.checks
        if check.remedy
        for line in (f"- {check.name}: {check.found}", f"  for {check.adds}", f"  do: {check.remedy}")
    ]
    lead = lines or ["Nothing is to be done."]
    table = build_table("checks", "All that was looked at", _CHECKS, report.checks)
    took = f"looked at {len(report.checks)} things in {format_seconds(report.duration_s)}"
    print_sections([Section(f"hwprof {report.hwprof_version} on this machine", lead, [table], [took])], stream)
