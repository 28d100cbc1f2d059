"""Metrics of a running loop, on a clock made by hand."""

import itertools

import pytest

from hwprof.loop.live import LiveMetrics, metrics


def test_step_time_is_the_mean_since_the_last_entry(kept):
    clock = itertools.accumulate([0, 1, 1, 4, 2])
    live = LiveMetrics([kept], every=2, clock_s=lambda: next(clock))
    live.step(1, watched=False)  # the clock starts here
    for number in range(2, 8):
        live.step(number, watched=False)
    assert kept.entries == [
        (3, {"hwprof/step_time_s": 0.5}),
        (5, {"hwprof/step_time_s": 0.5}),
        (7, {"hwprof/step_time_s": 2.0}),
    ]
    assert live.latest == {"hwprof/step_time_s": 2.0}


def test_watched_steps_are_no_measure_of_the_loop(kept):
    clock = iter([0.0, 100.0, 101.0])
    live = LiveMetrics([kept], every=1, clock_s=lambda: next(clock))
    live.step(1, watched=True)
    live.step(2, watched=True)
    live.step(3, watched=False)
    assert kept.entries == [(3, {"hwprof/step_time_s": 1.0})]


def test_rates_scale_with_the_step_time_and_shares_do_not(measured):
    record = measured.prof.record
    found = metrics(record, step_s=2 * record.step.median_s)
    assert found["hwprof/mfu"] == pytest.approx(record.step.mfu / 2)
    assert found["hwprof/tokens_per_s"] == pytest.approx(record.step.tokens_per_s / 2)
    assert found["hwprof/bound_share/host"] == record.verdict.shares["host"]


def test_what_is_not_known_is_left_out():
    assert metrics(None, step_s=0.5) == {"hwprof/step_time_s": 0.5}
