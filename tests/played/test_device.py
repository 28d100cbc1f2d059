"""What does hwprof read from a device whose every move is known? Its clock, its streams, its errors."""

import pytest
import torch
from played.device import Gpus, HandClock

from hwprof.measure.timing import EventTimer
from hwprof.measure.watch.owners import Modules
from hwprof.measure.watch.steps import StepWatch


@pytest.fixture
def gpus(monkeypatch):
    """Two devices, and a host whose clock goes by hand."""
    gpus = Gpus(2, clock=HandClock())
    with gpus.installed(monkeypatch):
        yield gpus


def _watch(tmp_path):
    device = torch.device("cuda", 0)
    modules = Modules.of(torch.nn.Linear(1, 1))
    return StepWatch(timer=EventTimer(device), device=device, trace_path=tmp_path / "trace.json.gz", modules=modules)


def _take(steps, step):
    for phase in steps:
        step(phase)


def test_time_of_a_device_that_is_not_the_current_one_is_its_own(gpus):
    timer = EventTimer(torch.device("cuda", 1))
    start = timer.mark()
    with gpus.on_device(1):
        gpus.launch("gemm", 500.0)
    assert gpus.current == 0
    assert timer.elapsed_s(start, timer.mark()) == pytest.approx(501e-6)


def test_work_on_a_stream_of_the_programs_own_is_in_the_step(gpus, tmp_path):
    """Forward runs on a stream of its own, 400 us long; the marks of the step stand outside of it."""
    own = gpus.new_stream(0)
    watch = _watch(tmp_path)

    def step(phase):
        with own, phase("forward"):
            gpus.launch("gemm", 400.0)
        gpus.synchronize()

    _take(watch.warm_up(1), step)
    _take(watch.timed(2), step)
    recording = watch.recording()
    assert recording.step_samples_s == pytest.approx((401e-6, 401e-6))
    assert recording.phase_samples_s["forward"] == pytest.approx((401e-6, 401e-6))


def test_work_on_a_stream_that_nobody_waits_for_is_in_the_step_that_asked_for_it(gpus, tmp_path):
    """The default stream is empty all the while, so that marks on it alone would see the host's 4 us a step."""
    own = gpus.new_stream(0)
    watch = _watch(tmp_path)

    def step(phase):
        with own, phase("forward"):
            gpus.launch("gemm", 400.0)

    _take(watch.warm_up(2), step)
    _take(watch.timed(3), step)
    assert watch.recording().step_samples_s == pytest.approx((400e-6,) * 3, rel=0.01)


def test_a_graph_that_the_program_captures_has_no_event_of_ours_in_it(gpus, tmp_path):
    """A step with marks captures its forward pass, which runs nothing, and replays it afterwards; others replay it."""
    watch, taken = _watch(tmp_path), iter(range(100))

    def step(phase):
        if next(taken) == 3:
            gpus.capturing = True
            with phase("forward"):
                pass
            gpus.capturing = False
        with phase("forward"):
            gpus.launch("graph", 300.0)
        gpus.synchronize()

    _take(watch.timed(2), step)
    recording = watch.recording()
    assert gpus.broken is None
    assert [*recording.step_samples_s, *recording.bare_step_samples_s] == pytest.approx([301e-6] * 4)
    assert recording.phase_samples_s["forward"] == pytest.approx((301e-6, 301e-6))


def test_a_mark_before_any_other_inside_a_captured_graph_is_the_hosts(gpus):
    timer = EventTimer(torch.device("cuda", 0))
    gpus.capturing = True
    start, stop = timer.mark(), timer.mark()
    gpus.capturing = False
    assert timer.reached(stop)
    assert timer.elapsed_s(start, stop) == 0.0
    assert timer.elapsed_s(start, timer.mark()) > 0


def test_steps_that_were_read_outlive_a_broken_context(gpus, tmp_path):
    watch, taken = _watch(tmp_path), iter(range(100))

    def step(phase):
        if next(taken) == 7:
            gpus.fail()
        with phase("forward"):
            gpus.launch("gemm", 300.0)
        gpus.synchronize()

    with pytest.raises(torch.AcceleratorError, match="illegal memory access"):
        _take(watch.timed(10), step)
    recording = watch.recording()
    assert recording.step_samples_s == pytest.approx([301e-6] * 3)
    assert recording.phase_samples_s["forward"] == pytest.approx([301e-6] * 3)


def test_steps_that_a_broken_context_still_owed_are_said_to_be_missing(gpus, tmp_path):
    """The host runs ahead: when it hears of the error, the device has done two of the steps."""
    watch, taken = _watch(tmp_path), iter(range(100))

    def step(phase):
        if next(taken) == 4:
            gpus.clock.pass_ns(650_000)
        elif gpus.clock.now_ns() > 10**9 + 650_000:
            gpus.fail()
        with phase("forward"):
            gpus.launch("gemm", 300.0)

    with pytest.raises(torch.AcceleratorError):
        _take(watch.timed(10), step)
    recording = watch.recording()
    assert (len(recording.step_samples_s), len(recording.bare_step_samples_s)) == (1, 1)
    assert recording.notes[-1].startswith("the device answers no more, so only steps read before are here (CUDA error")


def test_memory_is_what_is_allocated_what_is_reserved_and_what_others_have(gpus, tmp_path, monkeypatch):
    gpus.peak_bytes, gpus.reserved_bytes = 40 * 10**9, 52 * 10**9
    gpus.memory_bytes = gpus.properties.total_memory - 55 * 10**9
    watch = _watch(tmp_path)
    monkeypatch.setattr(StepWatch, "_allocations", lambda _self, _session: [])
    _take(watch.memory(lambda: 0.0), lambda _phase: None)
    recording = watch.recording()
    assert recording.memory_peak_bytes == 40e9
    assert recording.memory_reserved_bytes == 52e9
    assert recording.memory_outside_bytes == 3e9
