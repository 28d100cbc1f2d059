"""Does the terminal show a device's findings with what helps, then its tables?"""

from __future__ import annotations

import io

from made_up_trace import made_up_device, made_up_report

from hwprof.report.trace.text import print_trace, trace_sections
from hwprof.specs.record.trace import TraceBreak, TraceFinding


def test_each_finding_stands_with_its_share_its_evidence_and_what_helps():
    hidden = TraceFinding(title="is rarely busy", share=0.0, evidence="", change="larger batches")
    device = made_up_device(findings=(*made_up_device().findings, hidden))
    (section,) = trace_sections(made_up_report(device), 5)
    assert section.lead[1:] == [
        "- It waits for the next batch: 20 % of the time",
        "  4 ms",
        "  try: more workers",
        "- It is rarely busy",
        "  try: larger batches",
    ]
    assert [table.name for table in section.tables][:2] == ["parts", "steps"]


def test_what_is_broken_comes_first():
    device = made_up_device(broken=TraceBreak(offset_bytes=7, reason="cut off"))
    (section,) = trace_sections(made_up_report(device), 5)
    assert section.lead[0] == "BROKEN at byte 7: cut off; this is what stands before."


def test_all_ranks_have_a_section_of_their_own_at_the_end():
    report = made_up_report(made_up_device(0), made_up_device(1), notes=("one file is missing",))
    assert [section.title.split(",")[0] for section in trace_sections(report, 5)] == [
        "Rank 0 of 2",
        "Rank 1 of 2",
        "All ranks",
    ]
    pipe = io.StringIO()
    print_trace(report, pipe, top=5)
    assert pipe.getvalue().endswith("\n\n  one file is missing\n")
