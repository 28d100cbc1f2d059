"""Claims about the step recorder, on a small real loop on the CPU."""

import functools
import gzip
import itertools
import json
import statistics

import pytest
import torch

from hwprof.measure.timing import Mark, WallTimer
from hwprof.measure.watch import steps as watch
from hwprof.measure.watch.annotate import event_s
from hwprof.measure.watch.phases import marking_s
from hwprof.measure.watch.recorder import StepRecorder
from hwprof.measure.watch.trace_file import shorten
from hwprof.specs.measurement import FEWEST_FOR_INTERVAL
from hwprof.specs.record.run import RunSettings


class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.up = torch.nn.Linear(32, 64)
        self.down = torch.nn.Linear(64, 32)

    def forward(self, value):
        return value + self.down(torch.nn.functional.gelu(self.up(value)))


class SmallLoop:
    """Two blocks, mean-square loss, AdamW; phases as the real loop names them."""

    def __init__(self):
        torch.manual_seed(0)
        self.model = torch.nn.ModuleDict({"layers": torch.nn.ModuleList([Block(), Block()])})
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-2)
        self.steps = 0

    def step(self, phase=None):
        phase = phase or (lambda _: _Nothing())
        with phase("data"):
            value = torch.randn(256, 32)
        with phase("forward"):
            for block in self.model["layers"]:
                value = block(value)
        with phase("loss"):
            loss = value.pow(2).mean()
        with phase("backward"):
            loss.backward()
        with phase("optimizer"):
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
        self.steps += 1
        return loss.detach()

    def evaluate(self, phase=None):
        with phase("evaluation"):
            return 1.5

    def save_checkpoint(self, path, phase=None):
        with phase("checkpoint"):
            torch.save(self.model.state_dict(), path)

    def state_bytes(self):
        states = [value for state in self.optimizer.state.values() for value in state.values()]
        return sum(tensor.numel() * tensor.element_size() for tensor in [*self.model.parameters(), *states])


class _Nothing:
    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None


def _settings(**changes):
    fields = {"model": "small", "device": "cpu", "micro_batch": 1, "seq_len": 256, "warmup_steps": 1, "steps": 4}
    return RunSettings(**(fields | changes))


def _recorder(tmp_path, timer=None, loop=None, **changes):
    options = {key: changes.pop(key) for key in ("time_budget_s", "progress", "waited_s") if key in changes}
    options.setdefault("waited_s", lambda: None)
    return StepRecorder(
        loop or SmallLoop(),
        _settings(**changes),
        timer=timer or WallTimer(),
        device=torch.device("cpu"),
        trace_path=tmp_path / "trace.json.gz",
        **options,
    )


def _events(folder):
    with gzip.open(folder / "trace.json.gz", "rt") as file:
        return json.load(file)["traceEvents"]


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recorded")
    with torch.profiler.profile(profile_memory=True):
        seen_by_no_later_profile = torch.empty(16 * 1024 * 1024)
    del seen_by_no_later_profile
    return _recorder(folder).run(), folder


def test_every_step_has_a_bare_partner_and_every_phase_a_sample_a_step(recording):
    result, _ = recording
    assert len(result.step_samples_s) == len(result.bare_step_samples_s) == 4
    for name in ("data", "forward", "loss", "backward", "optimizer"):
        assert len(result.phase_samples_s[name]) == 4
    assert len(result.phase_samples_s["evaluation"]) == len(result.phase_samples_s["checkpoint"]) == 1


def test_cost_of_the_profiler_is_its_events_each_at_its_cost(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(watch, "event_s", lambda device, **options: asked.append((device.type, options)) or 1e-6)
    recorder = _recorder(tmp_path, profiled_steps=2)
    result = recorder.run()
    events = _events(tmp_path)
    window = next(
        event for event in events if event.get("name") == "hwprof:window" and event["cat"] == "user_annotation"
    )
    end = window["ts"] + window["dur"]
    inside = [
        event
        for event in events
        if event.get("cat") in ("cpu_op", "user_annotation")
        and window["ts"] <= event["ts"]
        and event["ts"] + event["dur"] <= end
    ]
    assert asked == [("cpu", {"shapes": False})]
    assert len(inside) > 100
    assert result.profiling_s == pytest.approx(len(inside) / 2 * 1e-6, rel=0.02)
    assert result.profiler_own_fraction == result.profiling_s / statistics.median(result.step_samples_s)


def test_one_event_costs_something_and_less_than_a_millisecond():
    assert 1e-8 < event_s(torch.device("cpu")) < 1e-3


def test_phases_of_a_step_fit_inside_it(recording):
    result, _ = recording
    in_step = [samples for name, samples in result.phase_samples_s.items() if name not in {"evaluation", "checkpoint"}]
    for index, step_s in enumerate(result.step_samples_s):
        assert sum(samples[index] for samples in in_step) <= step_s


def test_operators_are_booked_to_modules_with_layers_merged(recording):
    result, _ = recording
    booked = {(op.label, op.direction) for op in result.ops}
    assert {("layers.*.up", "forward"), ("layers.*.up", "backward"), ("layers.*.down", "backward")} <= booked
    assert ("optimizer", "update") in booked


def test_profiled_step_is_wholly_accounted_for(recording):
    attribution = recording[0].attribution
    parts_s = (
        attribution.compute_s
        + attribution.exposed_communication_s
        + attribution.exposed_copy_s
        + attribution.idle_host_s
        + attribution.idle_input_s
        + attribution.residue_s
    )
    assert parts_s == pytest.approx(attribution.step_s, rel=1e-6)


def test_losses_of_all_steps_are_kept(recording):
    result, _ = recording
    windows = (len(result.losses) - 1 - 2 * 4 - 1) / 4  # warm-up, pairs, memory; a window has three steps and set-up
    assert windows in {1, 2, 3}
    assert result.eval_loss == 1.5


def test_memory_peak_holds_weights_state_gradients_and_activations(recording):
    result, _ = recording
    parameters = 2 * (32 * 64 + 64 + 64 * 32 + 32)
    weights_and_state = parameters * 4 * 3
    saved = 2 * 256 * (32 + 64 + 64) * 4
    assert weights_and_state + saved < result.memory_peak_bytes < weights_and_state + parameters * 4 + 3 * saved
    assert max(size for _, size in result.memory_timeline) == result.memory_peak_bytes


def test_trace_of_the_window_is_kept_whole_and_no_checkpoint_is_left(recording):
    _, folder = recording
    assert [path.name for path in folder.iterdir()] == ["trace.json.gz"]
    assert any(event.get("name") == "hwprof:window" for event in _events(folder))


def test_a_trace_over_its_limit_is_cut_and_what_is_reported_is_that_of_the_whole(tmp_path, monkeypatch):
    limit_bytes = 20e3
    monkeypatch.setattr(watch, "shorten", functools.partial(shorten, limit_bytes=limit_bytes))
    recorder = _recorder(tmp_path)
    recorder.profile_window()
    result = recorder.recording()
    assert 0 < (tmp_path / "trace.json.gz").stat().st_size <= limit_bytes
    assert [path.name for path in tmp_path.iterdir()] == ["trace.json.gz"]
    events = _events(tmp_path)
    (window,) = (event for event in events if event.get("name") == "hwprof:window")
    timed = [event for event in events if event.get("ph") != "M"]
    assert len(timed) > 20
    assert min(event["ts"] for event in timed) == window["ts"]
    assert any("of the profiled window's events" in note for note in result.notes)
    assert any(op.direction == "update" for op in result.ops)  # the end of the step, which the file does not have


def test_a_trace_that_cannot_be_cut_is_kept_whole_and_the_recording_says_so(tmp_path, monkeypatch):
    def fail(_path, *, window):
        raise OSError(f"no space left for {window}")

    monkeypatch.setattr(watch, "shorten", fail)
    recorder = _recorder(tmp_path)
    recorder.profile_window()
    result = recorder.recording()
    assert any("could not be shortened (no space left for hwprof:window)" in note for note in result.notes)
    assert result.attribution is not None


def test_hooks_are_gone_after_the_window(tmp_path):
    loop = SmallLoop()
    _recorder(tmp_path, loop=loop).profile_window()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in loop.model.modules())


def test_compiled_model_is_booked_as_a_whole_and_the_recording_says_so(tmp_path):
    recorder = _recorder(tmp_path, compile=True)
    recorder.profile_window()
    result = recorder.recording()
    assert {op.label for op in result.ops} <= {"model", "loss", "optimizer", "data"}
    assert any("compiled model" in note for note in result.notes)


def test_what_was_timed_before_an_interruption_is_kept(tmp_path):
    loop = SmallLoop()
    real_step = loop.step

    def interrupted(phase=None):
        if loop.steps == 5:
            raise KeyboardInterrupt
        return real_step(phase)

    loop.step = interrupted
    recorder = _recorder(tmp_path, loop=loop)
    with pytest.raises(KeyboardInterrupt):
        recorder.run()
    result = recorder.recording()
    assert len(result.step_samples_s) == 2
    assert result.ops == ()


class _SlowClock:
    """A clock that moves ten seconds with every mark."""

    def __init__(self):
        self._now = itertools.count(step=10)

    def mark(self):
        return Mark(float(next(self._now)))

    def reached(self, _mark):
        return True

    def elapsed_s(self, start, stop):
        return stop.host_s - start.host_s


def test_time_budget_ends_the_timed_steps_but_leaves_enough_for_an_interval(tmp_path):
    recorder = _recorder(tmp_path, timer=_SlowClock(), steps=50, time_budget_s=60.0)
    recorder.time_steps()
    result = recorder.recording()
    assert len(result.step_samples_s) == FEWEST_FOR_INTERVAL
    assert any("time budget" in note for note in result.notes)


@pytest.mark.parametrize(("waits_s", "seconds"), [((2.0, 102.0), 100.0), ((2.0, 2.5), 0.5), ((None, None), None)])
def test_waiting_for_a_cpu_is_held_against_the_wall_time_of_the_timed_steps(tmp_path, waits_s, seconds):
    timer, readings, read_s = _SlowClock(), iter(waits_s), []

    def waited_s():
        read_s.append(timer.mark().host_s)  # each 10 s after the watch's own mark
        return next(readings)

    recorder = _recorder(tmp_path, timer=timer, steps=1, waited_s=waited_s)
    recorder.time_steps()
    wall_s = read_s[1] - read_s[0]
    waited = recorder.recording().waited_fraction
    assert waited == (None if seconds is None else pytest.approx(seconds / wall_s))


class _ScriptedWindows(WallTimer):
    """Says that timed steps take 1 s, and the steps of the profiled windows what the script says."""

    def __init__(self, window_steps_s):
        self._window_steps_s = iter(window_steps_s)
        self.profiling = False

    def elapsed_s(self, _start, _stop):
        return next(self._window_steps_s) if self.profiling else 1.0


@pytest.mark.parametrize(
    ("windows_s", "kept_s", "noted"),
    [([1.1], 1.1, False), ([3.0, 1.0], 1.0, True), ([3.0, 2.0, 4.0], 2.0, True)],
)
def test_disturbed_window_is_profiled_again_and_the_fastest_kept(tmp_path, windows_s, kept_s, noted):
    timer = _ScriptedWindows(windows_s)
    recorder = _recorder(tmp_path, timer=timer, profiled_steps=1, steps=1)
    recorder.time_steps()
    real = recorder._watch._window

    def window(steps):
        timer.profiling = True
        try:
            return (yield from real(steps))
        finally:
            timer.profiling = False

    recorder._watch._window = window
    recorder.profile_window()
    result = recorder.recording()
    assert result.profiled_step_samples_s == (kept_s,)
    assert any("windows were profiled" in note for note in result.notes) is noted


def test_overhead_is_the_time_of_the_marks_over_that_of_the_step_and_pairs_bound_it(tmp_path):
    recorder = _recorder(tmp_path)
    recorder.time_steps()
    result = recorder.recording()
    ratios = sorted(m / b - 1 for m, b in zip(result.step_samples_s, result.bare_step_samples_s, strict=True))
    assert result.marked_over_bare_interval == pytest.approx((ratios[0], ratios[3]))  # of 4 pairs: their range
    assert result.marking_s < 1e-3  # five phases: ten readings of a clock
    assert result.recorder_overhead_fraction == result.marking_s / statistics.median(result.step_samples_s)


def test_marking_is_timed_as_often_as_a_step_marks():
    class Counting(WallTimer):
        marks = 0

        def mark(self):
            self.marks += 1
            return super().mark()

    few, many = Counting(), Counting()
    assert 0 < marking_s(few, ["forward"]) < marking_s(many, ["forward"] * 1000)
    assert many.marks == 1000 * few.marks


def _full(*_args, **_options):
    raise OSError(28, "No space left on device")


def test_disk_too_full_for_a_checkpoint_costs_the_run_nothing_else(tmp_path, monkeypatch):
    recorder = _recorder(tmp_path)
    recorder.evaluate()
    monkeypatch.setattr(recorder._loop, "save_checkpoint", _full)
    recorder.time_checkpoint()
    result = recorder.recording()
    assert set(result.phase_samples_s) == {"evaluation"}
    assert any("checkpoint save not timed: [Errno 28] No space" in note for note in result.notes)


def test_disk_too_full_for_traces_leaves_the_step_times(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.profiler.profile.export_chrome_trace", _full)
    result = _recorder(tmp_path).run()
    assert len(result.step_samples_s) == 4
    assert result.attribution is None
    assert result.memory_timeline == ()
    assert sum("No space left on device" in note for note in result.notes) == 2


def test_large_state_is_not_saved_unasked(tmp_path, monkeypatch):
    monkeypatch.setattr("hwprof.measure.watch.recorder.CHECKPOINT_LIMIT_BYTES", 10.0)
    recorder = _recorder(tmp_path)
    recorder.time_checkpoint()
    result = recorder.recording()
    assert "checkpoint" not in result.phase_samples_s
    assert any("checkpoint save not timed" in note for note in result.notes)


def test_blind_profiler_leaves_the_step_unattributed_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("hwprof.measure.watch.steps.attribute", lambda *_args, **_options: None)
    recorder = _recorder(tmp_path)
    recorder.profile_window()
    result = recorder.recording()
    assert result.attribution is None
    assert len(result.profiled_step_samples_s) == 3
    assert any("saw no kernel" in note for note in result.notes)
