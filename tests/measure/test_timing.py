import itertools
import time

import pytest
import torch
from scripted_timer import ScriptedTimer

from hwprof.measure.timing import EventTimer, Mark, ThreadTimer, WallTimer, timer_for


def test_wall_timer_sees_at_least_the_time_slept():
    timer = WallTimer()
    start = timer.mark()
    torch.empty(1).fill_(1.0)
    middle = timer.mark()
    stop = timer.mark()
    assert timer.elapsed_s(start, stop) >= timer.elapsed_s(start, middle) > 0
    assert timer.elapsed_s(Mark(2.0), Mark(5.5)) == 3.5


def test_a_thread_s_timer_does_not_see_what_others_take():
    timer = ThreadTimer()
    start = timer.mark()
    time.sleep(0.05)
    stop = timer.mark()
    assert stop.host_s - start.host_s >= 0.05
    assert timer.elapsed_s(start, stop) < 0.02
    assert timer.elapsed_s(Mark(2.0, worked_s=1.0), Mark(9.0, worked_s=1.5)) == 0.5


def test_scripted_timer_returns_its_durations_in_order_and_its_clock_moves_on_by_them():
    timer = ScriptedTimer([0.5, 0.25])
    start = timer.mark()
    assert [timer.elapsed_s(start, timer.mark()), timer.elapsed_s(start, timer.mark())] == [0.5, 0.25]
    assert timer.mark().host_s - start.host_s == 0.75


def test_scripted_timer_says_which_read_is_beyond_its_script():
    timer = ScriptedTimer([1.0])
    mark = timer.mark()
    timer.elapsed_s(mark, mark)
    with pytest.raises(AssertionError, match="no duration for read 2"):
        timer.elapsed_s(mark, mark)


def test_scripted_timer_takes_an_endless_script():
    timer = ScriptedTimer(itertools.repeat(0.125))
    mark = timer.mark()
    assert sum(timer.elapsed_s(mark, mark) for _ in range(8)) == 1.0


def test_each_device_gets_the_timer_that_sees_its_work():
    assert isinstance(timer_for(torch.device("cpu")), WallTimer)
    assert isinstance(timer_for(torch.device("cuda", 0)), EventTimer)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and none is visible")
def test_cuda_timer_sees_work_that_the_host_does_not_wait_for():
    timer = EventTimer(torch.device("cuda", 0))
    x = torch.randn(4096, 4096, device="cuda")
    short, long = [], []
    for marks, products in ((short, 1), (long, 20)):
        marks.append(timer.mark())
        for _ in range(products):
            x @ x
        marks.append(timer.mark())
    assert timer.elapsed_s(*long) > 3 * timer.elapsed_s(*short) > 0
