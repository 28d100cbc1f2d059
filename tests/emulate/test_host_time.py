"""What of the time between calls is the script's own? A watch of which the test turns the hands."""

import numpy as np
import pytest

from hwprof.emulate.run import host_time
from hwprof.emulate.run.host_time import HostTime
from hwprof.emulate.tape import Tape
from hwprof.measure.host.caches import CacheLevel


class Hands:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def hands(monkeypatch):
    found = Hands()
    monkeypatch.setattr(host_time, "thread_time", found)
    return found


def test_time_within_this_package_does_not_count(hands):
    clock = HostTime()
    hands.now = 3.0
    with clock:
        hands.now = 10.0
        with clock:  # an operator made of others
            hands.now = 20.0
    hands.now = 24.0
    assert clock.take_s() == 3.0 + 4.0
    assert clock.take_s() == 0.0


def test_the_way_of_a_call_is_taken_off_once(hands):
    clock = HostTime()
    clock.way_s = 2.0
    hands.now = 5.0
    with clock:
        clock.arrive()
        with clock:
            clock.arrive()
    assert clock.take_s() == 3.0


def test_real_work_within_this_package_counts(hands):
    clock = HostTime()
    with clock:
        hands.now = 9.0
        clock.worked(4.0)
    assert clock.take_s() == 4.0


def test_what_another_thread_s_clock_says_is_no_time_of_this_one(hands, monkeypatch):
    monkeypatch.setattr(host_time, "get_ident", lambda: int(hands.now >= 50))
    clock = HostTime()
    hands.now = 4.0
    with clock:
        hands.now = 100.0  # the backward pass calls from a thread of its own
    hands.now = 103.0
    assert clock.take_s() == 4.0 + 3.0


def test_of_two_steps_that_are_alike_the_less_disturbed_one_counts():
    tape, times = Tape(), iter([0.0, 1.0, 5.0, 7.0, 0.5])
    tape.timed(lambda: next(times))
    tape.begin()
    for _ in range(2):
        tape.current.add(5, 0)
        tape.current.add(5, 0)
        tape.end_step()
    assert tape.last.host_s == [1.0, 5.0]


def test_what_is_read_in_place_of_a_call_is_other_memory_each_time(hands, monkeypatch):
    monkeypatch.setattr(host_time, "cpu_caches", lambda: (CacheLevel(level=2, instance_bytes=4096, instances=2),))
    clock, read = HostTime(), []

    class Memory(np.ndarray):
        def __getitem__(self, places):
            read.append((places.start, places.stop))
            return super().__getitem__(places)

    clock.sweep(0)
    clock._memory = clock._memory.view(Memory)
    for size_bytes in (4096, 4096, 80_000, 8000):
        clock.sweep(size_bytes)
    assert read == [
        (0, 512),
        (512, 1024),
        (1024, 2048),
        (0, 1000),
    ]  # at most what the caches hold, in numbers of 8 bytes
    assert hands.now == 0.0
