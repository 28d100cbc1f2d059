"""Does every moment of the loop's thread belong to one activity, and to the right side of each meeting?"""

from __future__ import annotations

import threading
import time

import pytest

from hwprof.measure.entries.ledger import Ledger
from hwprof.measure.timing import WallTimer


@pytest.fixture
def ledger():
    made = Ledger(WallTimer())
    yield made
    made.close()


def _spin(seconds: float) -> None:
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


def test_time_between_meetings_is_booked_by_activity(ledger):
    """Asleep in data, running in forward, a collection inside of it; then a wait that is nobody's own."""
    time.sleep(0.02)
    ledger.switch("forward")
    _spin(0.02)
    ledger.begin("garbage collection")
    time.sleep(0.01)
    ledger.end()
    ledger.arrive("allreduce_")
    ledger.wait()
    time.sleep(0.03)
    ledger.go_on()
    (sync,) = ledger.step(counts=True).syncs
    assert sync.key == "allreduce_"
    assert set(sync.spent) == {"data", "forward", "garbage collection"}
    assert sync.spent["data"].wall_s >= 0.02
    assert sync.spent["data"].ran_s < sync.spent["data"].wall_s / 2
    assert sync.spent["forward"].ran_s >= 0.018
    assert sync.spent["garbage collection"].wall_s >= 0.01
    assert sync.went_on.host_s - sync.arrived.host_s >= 0.03


def test_after_a_meeting_the_count_begins_anew(ledger):
    for number in range(2):
        ledger.switch("forward" if number else "data")
        ledger.arrive("a")
        ledger.wait()
        ledger.go_on()
    first, second = ledger.step(counts=True).syncs
    assert first.left is None
    assert second.left == first.went_on
    assert set(second.spent) <= {"data", "forward"}
    assert ledger.step(counts=False).syncs == ()


def test_of_collectives_in_flight_the_last_one_counts(ledger):
    """The reducer's buckets go out while the backward pass runs on; their end is that of the pass."""
    ledger.switch("backward")
    ledger.arrive("first")
    time.sleep(0.01)
    ledger.arrive("second")
    ledger.go_on()
    ledger.go_on()
    (sync,) = ledger.step(counts=True).syncs
    assert sync.key == "second"
    assert sync.spent["backward"].wall_s >= 0.01


def test_what_it_does_between_asking_and_waiting_is_its_own(ledger):
    ledger.switch("forward")
    ledger.arrive("a")
    time.sleep(0.02)
    ledger.wait()
    ledger.go_on()
    (sync,) = ledger.step(counts=True).syncs
    assert sync.spent["forward"].wall_s >= 0.02
    assert sync.went_on.host_s - sync.arrived.host_s < 0.02


def test_a_phase_that_begins_inside_something_begins_after_it(ledger):
    ledger.begin("checkpoint")
    ledger.switch("optimizer")
    ledger.end()
    ledger.arrive("a")
    ledger.go_on()
    (sync,) = ledger.step(counts=True).syncs
    assert set(sync.spent) == {"data", "checkpoint", "optimizer"}


def test_other_threads_switch_nothing(ledger):
    thread = threading.Thread(target=lambda: (ledger.switch("forward"), ledger.begin("checkpoint"), ledger.end()))
    thread.start()
    thread.join()
    ledger.arrive("a")
    ledger.go_on()
    (sync,) = ledger.step(counts=True).syncs
    assert set(sync.spent) == {"data"}
