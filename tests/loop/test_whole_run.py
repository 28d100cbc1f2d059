"""Are slow steps, drift and growing memory found over a whole run, with their causes? On clocks made by hand."""

from __future__ import annotations

import itertools
import random

import pytest
import torch

from hwprof.loop.whole_run import RunWatch, growth, run_words
from hwprof.specs.record.whole_run import WholeRun

CPU = torch.device("cpu")


def _run(steps_s, spent=None) -> RunWatch:
    """A watch that has seen these steps; ``spent`` gives activities of some of them by number."""
    clock = itertools.accumulate([0.0, *steps_s])
    watch = RunWatch(CPU, clock_s=lambda: next(clock))
    watch.step(0, {}, counts=True)  # the clock starts here
    for number, _ in enumerate(steps_s, start=1):
        watch.step(number, (spent or {}).get(number, {"forward": 0.1, "loading": 0.01}), counts=True)
    return watch


def _noisy(count, *, seed=0, usual_s=1.0) -> list[float]:
    source = random.Random(seed)
    return [usual_s * source.gauss(1.0, 0.02) for _ in range(count)]


def test_a_slow_step_is_named_with_the_activity_that_took_longer():
    """Step 50 takes 3 s, 1.9 of them loading; step 80 takes 2 s, and nothing that is known took longer."""
    steps_s = _noisy(120)
    steps_s[49], steps_s[79] = 3.0, 2.0
    found = _run(steps_s, {50: {"forward": 0.1, "loading": 1.91}}).found()
    assert [(one.number, one.cause) for one in found.slow] == [(50, "loading"), (80, "")]
    assert found.slow_by_cause == {"loading": 1, "": 1}
    assert found.lost_s == pytest.approx(3.0, rel=0.05)
    (words,) = run_words(found)
    assert words.startswith("2 of 120 steps were far slower than usual (1 loading, 1 not clear)")
    assert "step 50, 3 s where" in words


@pytest.mark.parametrize("seed", range(5))
def test_noise_alone_is_nothing(seed):
    found = _run(_noisy(600, seed=seed)).found()
    assert (found.slow_steps, found.drifts, list(run_words(found))) == (0, False, [])


def test_steps_that_get_slower_all_the_time_drift():
    """A tenth slower at the end: 9 % between the middles of the first and the last tenth."""
    found = _run([time_s * (1 + 0.1 * place / 600) for place, time_s in enumerate(_noisy(600))]).found()
    assert found.drifts
    assert found.drift_fraction == pytest.approx(0.09, abs=0.01)
    assert found.slow_steps == 0


def test_steps_that_were_watched_are_no_steps_of_the_loop():
    clock = itertools.accumulate([0.0, 1.0, 50.0, 50.0, 1.0, 1.0])
    watch = RunWatch(CPU, clock_s=lambda: next(clock))
    for number, counts in enumerate([True, True, False, False, True, True]):
        watch.step(number, {}, counts=counts)
    assert watch.found().steps == 2
    assert watch.found().median_s == 1.0


def test_memory_that_grows_through_all_quarters_grows():
    source = random.Random(0)
    steady = [1e9 + source.gauss(0, 1e5) for _ in range(200)]
    filling = [min(1e9, 5e8 + 5e7 * place) for place in range(200)]
    leaking = [1e9 + 1e6 * place for place in range(200)]
    assert (growth(steady), growth(filling), growth(leaking[:19])) == (0, 0, 0)
    assert growth(leaking) == pytest.approx(1e6)


def test_loggers_get_it_as_numbers():
    steps_s = _noisy(300)
    steps_s[149] = 4.0
    metrics = _run(steps_s, {150: {"checkpoint": 3.0}}).metrics()
    assert metrics["hwprof/slow_steps/checkpoint"] == metrics["hwprof/slow_steps"] == 1
    assert metrics["hwprof/slow_steps_lost_s"] == pytest.approx(3.0, rel=0.05)
    assert abs(metrics["hwprof/drift"]) < 0.05
    assert metrics["hwprof/memory_bytes"] > 1e6
    assert RunWatch(CPU).metrics() == {}


def test_a_record_of_nothing_is_none_and_says_nothing():
    assert RunWatch(CPU).found() is None
    assert list(run_words(WholeRun(steps=1, median_s=1.0))) == []
