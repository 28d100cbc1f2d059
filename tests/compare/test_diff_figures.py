"""Does the picture of a comparison show each change with its sign, the largest first?"""

from __future__ import annotations

import pytest

from hwprof.report.diff_figures import diff_pictures
from hwprof.specs.record.diff import DiffReport, DiffRow, DiffSide, DiffStep


def row(name, a_s, b_s, level="phase"):
    change_s = (b_s or 0) - (a_s or 0)
    return DiffRow(level=level, name=name, a_s=a_s, b_s=b_s, change_s=change_s, share=None, beyond_noise=True)


def report(*rows):
    side = DiffSide(name="x", kind="run", step_median_s=1.0, samples=20)
    step = DiffStep(change_s=0, change_fraction=0, interval=None, verdict="within noise")
    return DiffReport(hwprof_version="0", a=side, b=side, step=step, rows=rows, settings=(), environment=())


def test_bars_have_the_sign_of_the_change_and_come_largest_first():
    rows = row("forward", 0.010, 0.008), row("host_to_device", None, 0.001), row("backward", 0.020, 0.025)
    (picture,) = diff_pictures(report(*rows))
    assert [(bar.label, bar.text) for bar in picture.bars] == [
        ("backward", "+5 ms"),
        ("forward", "-2 ms"),
        ("host to device", "+1 ms"),
    ]
    assert [bar.length for bar in picture.bars] == pytest.approx([5, -2, 1])
    assert picture.bars[0].detail == "backward: +5 ms, from 20 ms to 25 ms, beyond noise"
    assert picture.bars[2].detail.startswith("host_to_device: +1 ms, from nothing to 1 ms")


def test_more_than_twelve_changes_are_counted_in_the_note():
    (picture,) = diff_pictures(report(*(row(f"op{n}", 0.01, 0.01 + 1e-3 * n, "operation") for n in range(1, 16))))
    assert len(picture.bars) == 12
    assert "3 smaller changes" in picture.note


def test_where_nothing_changed_there_is_no_picture():
    assert diff_pictures(report(row("forward", 0.01, 0.01))) == ()
