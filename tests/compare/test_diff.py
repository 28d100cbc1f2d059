"""Is a change called one only beyond noise, and does each row say its part of it?"""

from __future__ import annotations

from dataclasses import replace

import pytest

from hwprof.compare.diff import compare
from hwprof.compare.sides import Item, Side

PLAIN = Side(
    name="a",
    kind="run",
    step_samples_s=tuple(0.01 + 1e-5 * place for place in range(9)),
    step_median_s=0.01,
    items={},
    settings={"micro_batch": "2", "dtype": "fp32"},
    environment={"device": "CPU"},
    tokens_per_s=100.0,
    peak_memory_bytes=1e6,
    notes=(),
)


def slower(factor, **changes):
    samples_s = tuple(factor * sample_s for sample_s in PLAIN.step_samples_s)
    return replace(PLAIN, name="b", step_samples_s=samples_s, step_median_s=factor * 0.01, **changes)


@pytest.mark.parametrize(
    ("factor", "verdict"), [(1.2, "slower"), (0.8, "faster"), (1.0, "within noise"), (1.0005, "within noise")]
)
def test_the_verdict_is_that_of_the_interval(factor, verdict):
    step = compare(PLAIN, slower(factor)).step
    assert step.verdict == verdict
    assert step.change_fraction == pytest.approx(factor - 1)
    assert step.change_s == pytest.approx((factor - 1) * 0.01)
    assert step.interval[0] <= step.change_fraction <= step.interval[1]


def test_few_samples_give_no_verdict_and_the_note_says_how_many_are_needed():
    few = replace(PLAIN, step_samples_s=(0.01, 0.01))
    report = compare(few, slower(2.0), limit_fraction=0.1)
    assert (report.step.verdict, report.step.interval, report.failed) == ("too few samples", None, False)
    assert report.notes == ("2 and 9 steps: at least 3 of each are needed to tell a change from noise",)


@pytest.mark.parametrize(
    ("factor", "limit_fraction", "failed"),
    [(1.2, 0.1, True), (1.2, 0.3, False), (1.2, None, False), (0.5, 0.1, False), (1.0005, 0.0, False)],
)
def test_only_what_is_slower_than_the_limit_and_beyond_noise_fails(factor, limit_fraction, failed):
    report = compare(PLAIN, slower(factor), limit_fraction=limit_fraction)
    assert (report.failed, report.limit_fraction) == (failed, limit_fraction)


def test_rows_stand_by_level_the_largest_change_first_with_their_share():
    a = {("phase", "forward"): Item(0.004), ("operation", "up"): Item(0.003, 2.0), ("phase", "loss"): Item(0.001)}
    b = {("phase", "forward"): Item(0.003), ("phase", "loss"): Item(0.004), ("operation", "down"): Item(0.002, 1.0)}
    report = compare(replace(PLAIN, items=a), slower(1.2, items=b))
    rows = [(row.level, row.name, row.a_s, row.b_s) for row in report.rows]
    assert rows == [
        ("phase", "loss", 0.001, 0.004),
        ("phase", "forward", 0.004, 0.003),
        ("operation", "up", 0.003, None),
        ("operation", "down", None, 0.002),
    ]
    assert [row.share for row in report.rows] == pytest.approx([1.5, -0.5, -1.5, 1.0])  # of 2 ms
    assert [(row.a_calls, row.b_calls) for row in report.rows[2:]] == [(2.0, None), (None, 1.0)]
    assert [row.beyond_noise for row in report.rows] == [None] * 4


def test_within_noise_a_row_has_no_share_of_the_change():
    report = compare(replace(PLAIN, items={("phase", "loss"): Item(0.001)}), slower(1.0005, items={}))
    assert report.rows[0].share is None


def test_samples_tell_whether_a_row_changed_beyond_noise():
    steady = tuple(0.004 + 1e-6 * place for place in range(9))
    grown = tuple(2 * sample_s for sample_s in steady)
    a = {("phase", "forward"): Item(0.004, samples_s=steady), ("phase", "loss"): Item(0.004, samples_s=steady)}
    b = {("phase", "forward"): Item(0.008, samples_s=grown), ("phase", "loss"): Item(0.004, samples_s=steady)}
    report = compare(replace(PLAIN, items=a), slower(1.4, items=b))
    assert {row.name: row.beyond_noise for row in report.rows} == {"forward": True, "loss": False}
    low, high = report.rows[0].interval_s
    assert low <= 0.004 <= high


def test_differences_of_settings_and_machine_are_named_and_equal_ones_are_not():
    other = slower(1.0, settings={"micro_batch": "4", "dtype": "fp32"}, environment={"device": "CPU", "torch": "2.13"})
    report = compare(PLAIN, other)
    assert [(one.key, one.a, one.b) for one in report.settings] == [("micro_batch", "2", "4")]
    assert [(one.key, one.a, one.b) for one in report.environment] == [("torch", None, "2.13")]


def test_tokens_of_a_step_follow_from_rate_and_time():
    step = compare(PLAIN, slower(1.5, tokens_per_s=133.0)).step
    assert step.tokens_ratio == pytest.approx(1.995)  # 133 x 1.5 over 100 x 1
    assert step.rate_change_fraction == pytest.approx(0.33)
    unknown = compare(PLAIN, slower(1.5, tokens_per_s=None)).step
    assert (unknown.tokens_ratio, unknown.rate_change_fraction) == (None, None)


def test_both_sides_and_their_notes_are_kept():
    report = compare(replace(PLAIN, notes=("a shook",)), slower(1.2, notes=("b shook",)))
    assert (report.a.name, report.b.name, report.a.samples, report.b.step_median_s) == ("a", "b", 9, 0.012)
    assert report.notes == (
        "a shook",
        "b shook",
        "noise is that within each run; other work on the machine between the two is not in it",
    )
