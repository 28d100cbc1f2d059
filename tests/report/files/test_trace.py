"""Are a page, the JSON and every table of analysed traces written, each device apart?"""

from __future__ import annotations

import csv
import json
import re
from typing import get_args

from made_up_trace import made_up_device, made_up_report

from hwprof.report.files.trace import PART_COLOURS, trace_page, write_trace_report
from hwprof.report.trace.tables import PART_WORDS
from hwprof.specs.record.stragglers import RankWait, Stragglers
from hwprof.specs.record.trace import TimePart, TraceBreak, TraceGap, TraceReport

TABLES = [
    "steps",
    "categories",
    "modules",
    "ops",
    "rates",
    "kernels",
    "counters",
    "copies",
    "collectives",
    "gathers",
    "critical_path",
    "causes",
    "queues",
    "memory",
]


def test_one_device_has_files_with_plain_names_that_read_back(tmp_path):
    report = made_up_report()
    written = write_trace_report(report, tmp_path / "new")
    assert [path.name for path in written] == ["trace.json", "trace.html", *(f"{name}.csv" for name in TABLES)]
    assert TraceReport.model_validate(json.loads(written[0].read_text())) == report
    with (tmp_path / "new" / "steps.csv").open(newline="") as file:
        assert [float(row["duration_s"]) for row in csv.DictReader(file)] == [0.01, 0.01]


def test_files_of_several_devices_are_told_apart(tmp_path):
    report = made_up_report(made_up_device(0), made_up_device(1, kind="cpu"))
    names = {path.name for path in write_trace_report(report, tmp_path)}
    assert {"rank0-0-steps.csv", "rank1-steps.csv"} < names
    assert "steps.csv" not in names


def test_the_page_of_one_device_is_named_after_its_file_and_has_nothing_of_all_ranks():
    page = trace_page(made_up_report(made_up_device(file="folder/rank0.json")))
    assert (page.title, page.together) == ("rank0.json", ())
    assert [table.name for table in page.devices[0].tables][:2] == ["rank0-0-findings", "rank0-0-steps"]


def test_the_bar_of_a_device_has_its_parts_and_labels_those_with_room():
    (device,) = trace_page(made_up_report(made_up_device(shares={"compute": 0.95, "host": 0.05}))).devices
    assert [(part.label, part.text, part.labelled) for part in device.parts] == [
        ("computation", "95 %", True),
        ("idle: waiting for the host", "5 %", False),
    ]


def test_every_part_of_the_time_has_words_and_a_colour():
    assert set(get_args(TimePart)) == set(PART_COLOURS) == set(PART_WORDS)


def test_the_page_names_the_longest_gap():
    gap = TraceGap(start_s=0.001, duration_s=0.002, cause="lock", host=("train.py(7): wait",), then="gemm")
    (device,) = trace_page(made_up_report(made_up_device(largest_gap=gap))).devices
    assert device.sentence.endswith("Longest gap: 2 ms, waiting for a lock, the host in train.py(7): wait.")


def test_the_page_says_what_is_broken_and_who_waited(tmp_path):
    waits = Stragglers(
        collectives=1,
        unmatched=0,
        transfer_s=0.0,
        ranks=(RankWait(rank=0, waited_s=0.0012345, caused_s=0.0, last=0),),
    )
    broken = made_up_device(1, broken=TraceBreak(offset_bytes=9, reason="cut <off>"), notes=("marked by hand",))
    write_trace_report(made_up_report(made_up_device(0), broken, stragglers=waits, notes=("rank 2 missing",)), tmp_path)
    page = (tmp_path / "trace.html").read_text()
    assert '<p class="banner" role="status">BROKEN at byte 9: cut &lt;off&gt;; this is what stands before.</p>' in page
    assert '<section id="together">' in page
    assert "rank 2 missing" in page
    assert "<li>marked by hand</li>" in page
    assert re.search(r'data-value="0.0012345">1\.234<', page)
