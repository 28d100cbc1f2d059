"""Are the points of the pictures true to the record?"""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwprof.report.pictures import thin
from hwprof.report.run.figures import (
    loss_picture,
    memory_picture,
    samples_picture,
    telemetry_pictures,
    timeline_picture,
)
from hwprof.report.run.step_figures import targets_picture, waterfall_picture
from hwprof.specs.record.run import RunRecord, Series


def test_samples_are_in_the_unit_of_the_axis(record: RunRecord) -> None:
    picture = samples_picture(record)
    assert record.step is not None
    assert picture.y_title == "time [ms]"
    assert picture.lines[0].ys == pytest.approx([1e3 * sample for sample in record.step.samples_s])
    assert picture.band == pytest.approx(tuple(1e3 * end for end in record.step.interval_s))


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=500), st.integers(min_value=4, max_value=100))
def test_thinning_keeps_extremes_and_order_and_drops_what_is_not_finite(values: list[float], most: int) -> None:
    xs, ys = thin(range(len(values)), values, most)
    finite = [value for value in values if math.isfinite(value)]
    assert len(ys) <= max(most, 4) + 2
    assert xs == sorted(xs)
    if finite:
        assert (min(ys), max(ys)) == (min(finite), max(finite))


def test_memory_parts_add_up_to_the_predicted_peak_and_the_measured_one_follows(record: RunRecord) -> None:
    picture = memory_picture(record)
    assert picture.x_title == "memory [MB]"
    labels = [bar.label for bar in picture.bars]
    assert labels[0] == "saved activations"
    assert labels[-2:] == ["predicted peak", "measured peak"]
    assert sum(bar.length for bar in picture.bars[:-2]) == pytest.approx(picture.bars[-2].length)


def test_a_near_capacity_is_marked_and_a_far_one_is_noted(record: RunRecord) -> None:
    assert record.memory is not None
    near = record.memory.model_copy(update={"capacity_bytes": 300e6})
    picture = memory_picture(record.model_copy(update={"memory": near}))
    assert [(mark.label, mark.value) for mark in picture.marks] == [("capacity 300 MB", 300)]
    assert memory_picture(record).marks == ()
    assert memory_picture(record).note == "Beyond the picture: capacity 8.2 GB (psutil, total memory)."


def test_timeline_has_both_units(record: RunRecord) -> None:
    picture = timeline_picture(record)
    assert (picture.x_title, picture.y_title) == ("time in the profiled window [ms]", "allocated [MB]")


def test_peaks_are_marks_on_the_timeline_and_equal_ones_share_one(record: RunRecord) -> None:
    assert record.memory is not None
    differing = record.memory.model_copy(update={"predicted_peak_bytes": 150e6, "measured_peak_bytes": 171e6})
    alike = record.memory.model_copy(update={"predicted_peak_bytes": 171.02e6, "measured_peak_bytes": 171.04e6})
    two = timeline_picture(record.model_copy(update={"memory": differing}))
    one = timeline_picture(record.model_copy(update={"memory": alike}))
    assert two.from_zero
    assert [mark.label for mark in two.marks] == ["predicted peak 150 MB", "measured peak 171 MB"]
    assert [mark.label for mark in one.marks] == ["predicted and measured peak 171 MB"]


def test_loss_curve_starts_at_step_one(record: RunRecord) -> None:
    picture = loss_picture(record)
    assert picture.lines[0].xs[0] == 1
    assert picture.note == "Evaluation loss at the end: 2.31 nats per token."


def test_cores_share_a_panel_and_other_series_have_their_own(record: RunRecord) -> None:
    titles = [(picture.title, len(picture.lines), picture.y_title) for picture in telemetry_pictures(record)]
    assert titles == [
        ("cpu.core#.utilisation (2 series)", 2, "%"),
        ("cpu.clock", 1, "GHz"),
        ("process.rss", 1, "MB"),
        ("disk.read", 1, "MB/s"),
    ]


def test_many_cores_are_drawn_in_part_and_the_rest_is_counted(record: RunRecord) -> None:
    cores = tuple(Series(name=f"core{n}", unit="percent", times_s=(0, 1), values=(n, n)) for n in range(64))
    (picture,) = telemetry_pictures(record.model_copy(update={"telemetry": cores}))
    assert len(picture.lines) == 16
    assert picture.note == "48 more stand in the table."


@pytest.mark.parametrize(
    "draw",
    [waterfall_picture, targets_picture, samples_picture, loss_picture, memory_picture, timeline_picture],
    ids=lambda f: f.__name__,
)
def test_a_picture_without_data_says_why(draw: object, bare_record: RunRecord) -> None:
    assert callable(draw)
    assert "interrupted first (Ctrl-C in warm-up)" in draw(bare_record).empty


def test_a_capacity_that_is_not_known_is_neither_marked_nor_noted(record: RunRecord) -> None:
    assert record.memory is not None
    unknown = record.memory.model_copy(update={"capacity_bytes": None})
    picture = memory_picture(record.model_copy(update={"memory": unknown}))
    assert (picture.marks, picture.note) == ((), "")


def test_series_without_values_have_no_panel(record: RunRecord) -> None:
    silent = Series(name="gpu.power", unit="watt", times_s=(), values=())
    assert telemetry_pictures(record.model_copy(update={"telemetry": (silent,)})) == ()


def test_times_of_steps_are_said_with_their_median_and_interval(record: RunRecord) -> None:
    picture = samples_picture(record)
    assert [mark.label for mark in picture.marks] == ["median 290.3 ms"]
    assert picture.note == ("Band: 95 % interval of the median, 285.9 to 295.2 ms; 3 warm-up steps are not shown.")
