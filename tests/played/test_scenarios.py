"""Are the figures of a step those that it was made of? They may differ by 1 % of the step."""

import pytest
import torch
from made_up_record import made_up_record
from played.scenario import Scenario
from played.steps import (
    TRUTH,
    compute,
    exposed_communication,
    forward,
    graph,
    half_hidden_communication,
    hidden_communication,
    input_pipeline,
    late_host,
    outside_of_phases,
    throttled,
    two_micro_batches,
)

from hwprof.report.run.step_figures import waterfall_picture
from hwprof.session.analysis import analysed

PARTS = (
    "step",
    "compute",
    "communication",
    "exposed_communication",
    "exposed_copy",
    "idle_input",
    "late_host",
    "dependency",
    "other",
    "residue",
)


@pytest.fixture
def scenario(monkeypatch):
    scenario = Scenario(monkeypatch)
    with scenario.gpus.installed(monkeypatch):
        yield scenario


@pytest.mark.parametrize("step", TRUTH, ids=lambda step: step.__name__)
def test_where_the_time_of_a_step_went(scenario, tmp_path, step):
    recording, _, error = scenario.watched(step, tmp_path)
    assert error is None
    truth = TRUTH[step]
    found = {part: getattr(recording.attribution, f"{part}_s") * 1e3 for part in PARTS}
    assert found == pytest.approx({part: truth.get(part, 0.0) for part in PARTS}, abs=0.01 * truth["step"])
    timed_ms = [1e3 * sample for sample in (*recording.step_samples_s, *recording.bare_step_samples_s)]
    assert timed_ms == pytest.approx([truth["step"]] * 6, rel=0.01)
    assert 1e3 * sum(recording.profiled_step_samples_s) == pytest.approx(2 * truth["step"], rel=0.01)


SHOWN = {
    "exposed communication": ("exposed_communication",),
    "exposed copies": ("exposed_copy",),
    "idle: waits for host": ("late_host", "dependency", "other"),
    "idle: waits for input": ("idle_input",),
    "residue (unexplained)": ("residue",),
}
"""What the report's picture of a step calls its parts; what is left is computation."""


@pytest.mark.parametrize("step", TRUTH, ids=lambda step: step.__name__)
def test_what_the_report_shows_is_what_the_step_was_made_of(scenario, tmp_path, step):
    record = analysed(made_up_record(on="cuda"), scenario.watched(step, tmp_path)[0])
    truth = TRUTH[step]
    assert 1e3 * record.step.median_s == pytest.approx(truth["step"], rel=0.01)
    *parts, whole = waterfall_picture(record).bars
    ms = truth["step"] / whole.length
    shown = {part.label: part.length * ms for part in parts}
    computed = sum(shown.pop(label) for label in tuple(shown) if label.startswith("compute"))
    assert computed == pytest.approx(truth.get("compute", 0.0), abs=0.01 * truth["step"])
    wanted = {label: sum(truth.get(name, 0.0) for name in names) for label, names in SHOWN.items()}
    assert shown == pytest.approx(wanted, abs=0.01 * truth["step"])


@pytest.mark.parametrize(
    ("step", "explained", "in_modules"),
    [(compute, 1.0, 1.0), (late_host, 0.5, 0.0), (input_pipeline, 1.0, 1.0), (outside_of_phases, 0.5, 1.0)],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_has_a_cause_and_a_place_is_explained(scenario, tmp_path, step, explained, in_modules):
    found = scenario.watched(step, tmp_path)[0].attribution
    assert found.explained_fraction == pytest.approx(explained, abs=0.01)
    assert found.attributed_op_fraction == pytest.approx(in_modules, abs=0.01)


@pytest.mark.parametrize(("each", "explained"), [(2, 0.5), (1, 0.0)])
def test_kernels_whose_calls_the_profiler_lost_are_not_explained(scenario, tmp_path, each, explained):
    scenario.lost = lambda work: work.correlation % each == 0
    found = scenario.watched(lambda s, phase: forward(s, phase, (1000.0,) * 8), tmp_path)[0].attribution
    assert 1e3 * found.compute_s == pytest.approx(8.0, rel=0.01)
    assert found.explained_fraction == pytest.approx(explained, abs=0.01)
    assert f"for {100 // each} % of the kernels' time the trace has no call" in found.note


@pytest.mark.parametrize("step", [exposed_communication, hidden_communication, half_hidden_communication])
def test_collectives_are_of_the_phase_that_asked_for_them(scenario, tmp_path, step):
    """The device runs all of them while the host updates, or is in the next step."""
    _, calls, _ = scenario.watched(step, tmp_path)
    assert [(one.collective, one.axis, one.phase, one.size_bytes) for one in calls] == [
        ("all_reduce", "data", "backward", 4e6)
    ] * 2
    truth = TRUTH[step]
    assert 1e3 * sum(one.end_s - one.start_s for one in calls) / 2 == pytest.approx(truth["communication"], rel=0.01)
    exposed_ms = 1e3 * sum(one.exposed_s for one in calls) / 2
    assert exposed_ms == pytest.approx(truth.get("exposed_communication", 0.0), abs=0.01)


def test_kernels_of_a_graph_are_booked_to_where_it_is_launched(scenario, tmp_path):
    recording, _, _ = scenario.watched(graph, tmp_path)
    assert sum(kernel.calls for kernel in recording.kernels) == 8
    assert "100 % of the kernels' time is that of CUDA graphs" in recording.attribution.note


def test_phases_of_micro_batches_add_up_on_the_devices_clock(scenario, tmp_path):
    recording, _, _ = scenario.watched(two_micro_batches, tmp_path)
    assert recording.phase_samples_s["forward"] == pytest.approx([2e-3] * 3, rel=0.01)
    assert recording.phase_samples_s["backward"] == pytest.approx([4e-3] * 3, rel=0.01)


def test_a_forward_that_runs_again_in_backward_is_booked_apart(scenario, tmp_path):
    def step(s, phase):
        forward(s, phase)
        with phase("backward"):
            with s.module("layers.0.ffn.up"):
                s.kernel("gemm", 1000.0, sequence=10)
            s.kernel("gemm", 2000.0, sequence=0, backward=True)

    recording, _, _ = scenario.watched(step, tmp_path)
    found = {(op.label, op.direction): 1e3 * op.time_s for op in recording.ops}
    assert found == pytest.approx(
        {
            ("layers.*.ffn.up", "forward"): 1.0,
            ("layers.*.ffn.up", "recompute"): 1.0,
            ("layers.*.ffn.up", "backward"): 2.0,
        },
        rel=0.01,
    )


def test_counters_beside_the_steps_stand_in_the_recording(scenario, tmp_path):
    scenario.counters = {"gpu.sm_clock": 1.2e9, "gpu.throttle.power_cap": 0.9}
    assert scenario.watched(throttled, tmp_path)[0].counters == scenario.counters


def test_memory_rises_to_its_peak_and_falls(scenario, tmp_path):
    def step(s, phase):
        with phase("forward"):
            for size_bytes in (10 * 10**9, 30 * 10**9, -30 * 10**9, -10 * 10**9):
                s.allocate(size_bytes)
                s.kernel("gemm", 1000.0)
        s.gpus.reserved_bytes = 48 * 10**9

    recording, _, _ = scenario.watched(step, tmp_path)
    assert [size for _, size in recording.memory_timeline] == [10e9, 40e9, 10e9, 0.0]
    assert recording.memory_peak_bytes == 40e9
    assert recording.memory_reserved_bytes == 48e9


def test_steps_before_memory_runs_out_are_kept(scenario, tmp_path):
    """The fifth step asks for a piece that is not there: two marked and two bare steps were timed, one warmed up."""
    taken = iter(range(100))

    def step(s, phase):
        forward(s, phase)
        s.allocate((1 if next(taken) < 5 else 200) * 10**9)

    recording, _, error = scenario.watched(step, tmp_path, pairs=10)
    assert isinstance(error, torch.OutOfMemoryError)
    assert recording.step_samples_s == pytest.approx([1e-3] * 2, rel=0.01)
    assert recording.bare_step_samples_s == pytest.approx([1e-3] * 2, rel=0.01)
    assert recording.attribution is None
