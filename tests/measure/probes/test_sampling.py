import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_timer import ScriptedTimer

from hwprof.measure.probes.sampling import Samples, sample_s
from hwprof.measure.timing import WallTimer


def nothing():
    """Work that takes as long as the script says."""


def scripted(durations_s, **options):
    settings = {"warmups": 0, "samples": 4, "deadline_s": 100.0} | options
    return sample_s(ScriptedTimer(durations_s), nothing, **settings)


def test_a_steady_first_round_is_the_result():
    found = scripted([1.0, 1.01, 1.02, 1.0])
    assert found == Samples(seconds=(1.0, 1.01, 1.02, 1.0), warmups=0, repeats=1, discarded=0)


def test_an_unsteady_round_is_discarded_for_the_next_steady_one():
    found = scripted([1.0, 2.0, 1.0, 3.0, 1.0, 1.0, 1.0, 1.01])
    assert found.seconds == (1.0, 1.0, 1.0, 1.01)
    assert found.discarded == 4


def test_without_a_steady_round_the_least_disturbed_one_is_kept_when_time_is_up():
    # rounds of 10 s, 7 s and 9 s: the deadline of 20 s passes in the third
    found = scripted([1.0, 2.0, 3.0, 4.0, 1.0, 1.5, 2.0, 2.5, 1.5, 2.0, 2.5, 3.0], deadline_s=20.0)
    assert found.seconds == (1.0, 1.5, 2.0, 2.5)
    assert found.discarded == 8


def test_one_sample_is_taken_even_when_the_time_is_up_before_it():
    found = sample_s(WallTimer(), nothing, warmups=0, samples=5, deadline_s=0.0)
    assert len(found.seconds) == 1


def test_short_work_is_repeated_until_a_sample_is_long_enough():
    # 1 call takes 0.1 s, so 10 calls should take 1 s; they take 0.8 s, so 20 are tried and take 1.6 s
    script = [0.1, 0.8, 1.6, 2.0, 2.0, 2.0, 2.0]
    found = scripted(script, minimum_sample_s=1.0)
    assert found.repeats == 20
    assert found.warmups == 1 + 10 + 20
    assert found.seconds == (0.1, 0.1, 0.1, 0.1)


def test_work_that_is_long_enough_is_not_repeated():
    calls = []
    timer = ScriptedTimer([3.0, 3.0, 3.0])
    found = sample_s(timer, lambda: calls.append(1), warmups=2, samples=2, deadline_s=100.0, minimum_sample_s=1.0)
    assert found.repeats == 1
    assert len(calls) == 2 + 1 + 2
    assert found.warmups == 3


def test_preparation_runs_before_each_sample_and_outside_its_marks():
    events = []

    class Watched(ScriptedTimer):
        def mark(self):
            events.append("mark")
            return super().mark()

    sample_s(
        Watched(itertools.repeat(1.0)),
        lambda: events.append("work"),
        warmups=0,
        samples=2,
        deadline_s=9.0,
        prepare=lambda: events.append("prepare"),
    )
    assert events[:9] == ["mark", "prepare", "mark", "work", "mark", "prepare", "mark", "work", "mark"]


def test_all_samples_of_a_round_are_enqueued_before_the_first_is_read():
    events = []

    class Watched(ScriptedTimer):
        def elapsed_s(self, start, stop):
            events.append("read")
            return super().elapsed_s(start, stop)

    sample_s(Watched([1.0, 1.0, 1.0]), lambda: events.append("work"), warmups=0, samples=3, deadline_s=9.0)
    assert events == ["work"] * 3 + ["read"] * 3


def test_a_round_that_waited_for_the_cpu_is_discarded_however_steady_it_is():
    waited_s = iter([0.0, 2.0, 2.0, 2.1])  # 2 s of 4 s in the first round, 0.1 s of 4 s in the second
    found = scripted([1.0] * 8, waited_s=lambda: next(waited_s))
    assert found.discarded == 4
    assert found.waited_fraction == pytest.approx(0.025)
    assert found.undisturbed


def test_work_that_always_waits_is_reported_as_disturbed():
    clock = itertools.count()
    found = scripted(itertools.repeat(1.0), deadline_s=20.0, waited_s=lambda: float(next(clock)))
    assert found.waited_fraction == 0.25  # 1 s of waiting in each round of 4 s
    assert not found.undisturbed


def test_where_waiting_is_unknown_it_condemns_nothing():
    found = scripted([1.0] * 4)
    assert found.waited_fraction is None
    assert found.undisturbed


@given(
    st.lists(st.floats(0.1, 10.0), min_size=8, max_size=40),
    st.integers(1, 6),
    st.floats(0.001, 30.0),
)
def test_samples_are_consecutive_readings_of_one_round(script, samples, deadline_s):
    endless = itertools.chain(script, itertools.repeat(script[-1]))
    found = sample_s(ScriptedTimer(endless), nothing, warmups=0, samples=samples, deadline_s=deadline_s)
    assert len(found.seconds) == samples
    assert found.discarded % samples == 0
    readings = script + [script[-1]] * (found.discarded + 2 * samples)
    starts = range(0, found.discarded + 1, samples)
    assert found.seconds in [tuple(readings[start : start + samples]) for start in starts]
