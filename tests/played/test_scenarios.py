"""Are the figures of a step those that it was made of? Twenty ways in which a GPU's time goes, each known beforehand.

Times are milliseconds of one step; a host runs ahead unless it waits. Figures may differ by 1 % of the step: a call
takes the host 1 us, and a kernel begins 1 us after it.
"""

import pytest
import torch
from played.device import Event
from played.scenario import Scenario

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


def _forward(s, phase, lengths_us=(1000.0,)):
    with phase("forward"):
        for number, length_us in enumerate(lengths_us):
            with s.module(f"layers.{number}.ffn.up"):
                s.kernel("gemm", length_us, sequence=number)


def compute(s, phase):
    _forward(s, phase, (1000.0,) * 4)
    with phase("backward"):
        for number in range(4):
            s.kernel("gemm", 2000.0, sequence=number, backward=True)
    with phase("optimizer"):
        s.kernel("adam", 500.0, operator="aten::_foreach_add_")


def late_host(s, phase):
    with phase("forward"):
        for _ in range(2):
            s.kernel("gemm", 1000.0)
            s.gpus.synchronize()
            s.host(1000.0)


def input_pipeline(s, phase):
    with phase("data"):
        s.host(3000.0)
    _forward(s, phase)
    s.gpus.synchronize()


def dependency(s, phase):
    """The second kernel waits for a signal of another process, 1.5 ms after the first is done."""
    stream, signal = s.gpus.stream(), Event(s.gpus)
    with phase("forward"):
        s.kernel("gemm", 1000.0)
        signal.time_ns = stream.free_ns + 1_500_000
        stream.wait_event(signal)
        s.kernel("gemm", 1000.0)


def launches(s, phase):
    """A hundred kernels of 2 us, for each of which the program needs 10 us."""
    with phase("forward"):
        for _ in range(100):
            s.kernel("add", 2.0)
            s.host(9.0)


def outside_of_phases(s, phase):
    _forward(s, phase)
    s.gpus.synchronize()
    s.host(1000.0)


def _reduced(s, phase, before_us, talk_us, beside_us):
    """Gradients, a reduction of them, gradients beside it, and an update that waits for it."""
    talks = s.gpus.all_streams[1] if len(s.gpus.all_streams) > 1 else s.gpus.new_stream()
    with phase("backward"):
        s.kernel("gemm", before_us)
        s.collective("allreduce", talk_us, 1_000_000, stream=talks)
        if beside_us:
            s.kernel("gemm", beside_us)
    with phase("optimizer"):
        s.gpus.stream().wait_stream(talks)
        s.kernel("adam", 500.0)


def exposed_communication(s, phase):
    _reduced(s, phase, 2000.0, 1500.0, 0.0)


def hidden_communication(s, phase):
    _reduced(s, phase, 1000.0, 800.0, 2000.0)


def half_hidden_communication(s, phase):
    _reduced(s, phase, 1000.0, 1500.0, 500.0)


def exposed_copy(s, phase):
    with phase("host_to_device"):
        s.copy("HtoD (Pageable -> Device)", 2000.0, 10**8, wait=True)
    _forward(s, phase)
    s.gpus.synchronize()


def hidden_copy(s, phase):
    side = s.gpus.all_streams[1] if len(s.gpus.all_streams) > 1 else s.gpus.new_stream()
    with phase("host_to_device"):
        side.wait_stream(s.gpus.stream())
        s.copy("HtoD (Pinned -> Device)", 800.0, 10**8, stream=side)
    _forward(s, phase, (2000.0,))


def copy_within_the_device(s, phase):
    with phase("forward"):
        s.copy("DtoD (Device -> Device)", 1000.0, 10**9)
        s.kernel("gemm", 1000.0)


def throttled(s, phase):
    s.gpus.slower = 1.25
    compute(s, phase)


def graph(s, phase):
    with phase("forward"):
        s.graph([500.0] * 8)


def two_streams(s, phase):
    side = s.gpus.all_streams[1] if len(s.gpus.all_streams) > 1 else s.gpus.new_stream()
    main = s.gpus.stream()
    with phase("forward"):
        side.wait_stream(main)
        s.kernel("gemm", 1000.0, stream=side)
        s.kernel("gemm", 1000.0)
        main.wait_stream(side)


def two_micro_batches(s, phase):
    for _ in range(2):
        _forward(s, phase)
        with phase("backward"):
            s.kernel("gemm", 2000.0, sequence=0, backward=True)


TRUTH = {
    compute: {"step": 12.5, "compute": 12.5},
    late_host: {"step": 4.0, "compute": 2.0, "late_host": 2.0},
    input_pipeline: {"step": 4.0, "compute": 1.0, "idle_input": 3.0},
    dependency: {"step": 3.5, "compute": 2.0, "dependency": 1.5},
    launches: {"step": 1.0, "compute": 0.2, "late_host": 0.7, "other": 0.1},
    outside_of_phases: {"step": 2.0, "compute": 1.0, "residue": 1.0},
    exposed_communication: {"step": 4.0, "compute": 2.5, "communication": 1.5, "exposed_communication": 1.5},
    hidden_communication: {"step": 3.5, "compute": 3.5, "communication": 0.8},
    half_hidden_communication: {"step": 3.0, "compute": 2.0, "communication": 1.5, "exposed_communication": 1.0},
    exposed_copy: {"step": 3.0, "compute": 1.0, "exposed_copy": 2.0},
    hidden_copy: {"step": 2.0, "compute": 2.0},
    copy_within_the_device: {"step": 2.0, "compute": 2.0},
    throttled: {"step": 15.625, "compute": 15.625},
    graph: {"step": 4.0, "compute": 4.0},
    two_streams: {"step": 1.0, "compute": 1.0},
    two_micro_batches: {"step": 6.0, "compute": 6.0},
}


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
    found = scenario.watched(lambda s, phase: _forward(s, phase, (1000.0,) * 8), tmp_path)[0].attribution
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
        _forward(s, phase)
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
        _forward(s, phase)
        s.allocate((1 if next(taken) < 5 else 200) * 10**9)

    recording, _, error = scenario.watched(step, tmp_path, pairs=10)
    assert isinstance(error, torch.OutOfMemoryError)
    assert recording.step_samples_s == pytest.approx([1e-3] * 2, rel=0.01)
    assert recording.bare_step_samples_s == pytest.approx([1e-3] * 2, rel=0.01)
    assert recording.attribution is None
