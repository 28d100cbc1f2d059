"""Claims about step and phase statistics."""

import pytest
from made_up_record import made_up_ceiling

from hwprof.predict.ceilings.datasheet import datasheet_ceilings
from hwprof.predict.summary import (
    ceiling_notes,
    confidence_in,
    mfu_peak,
    phase_times,
    profiler_overhead_fraction,
    recording_notes,
    step_time,
)
from hwprof.specs.catalogue.lookup import load_device
from hwprof.specs.record.run import Recording, WorkSummary

WORK = WorkSummary(
    parameters=1,
    active_parameters=1,
    train_flop_full=6e10,
    train_flop_causal=5e10,
    recompute_flop_full=2e10,
    vector_flop=0,
    moved_bytes=0,
    tokens=1000,
)
RECORDING = Recording(
    step_samples_s=(1.0, 2.0, 3.0),
    profiled_step_samples_s=(2.2, 2.4),
    phase_samples_s={"forward": (0.5, 0.6, 0.7), "evaluation": (4.0,)},
)


def test_utilisation_is_flop_over_median_time_and_peak():
    step = step_time(RECORDING, WORK, warmups=1, peak_flop_per_s=1e11, peak_basis="measured")
    assert step.median_s == 2.0
    assert step.tokens_per_s == 500.0
    assert step.mfu == pytest.approx(0.3)
    assert step.hfu == pytest.approx(0.4)
    assert step.mfu_causal == pytest.approx(0.25)


def test_utilisation_without_a_peak_is_unknown_not_zero():
    step = step_time(RECORDING, WORK, warmups=1, peak_flop_per_s=None, peak_basis="none")
    assert (step.mfu, step.hfu, step.mfu_causal) == (None, None, None)


def test_evaluation_stands_outside_the_step():
    phases = {phase.name: phase for phase in phase_times(RECORDING, step_s=2.0, bounds={}, predicted_s={}, roof_s={})}
    assert phases["forward"].share == pytest.approx(0.3)
    assert not phases["evaluation"].in_step
    assert phases["evaluation"].share == 0.0


def test_profiler_overhead_compares_medians():
    assert profiler_overhead_fraction(RECORDING) == pytest.approx(2.3 / 2.0 - 1)
    assert profiler_overhead_fraction(Recording(step_samples_s=(1.0,), phase_samples_s={})) is None


def test_window_at_another_speed_than_the_timed_steps_is_called_out():
    slow = Recording(step_samples_s=(1.0,) * 3, profiled_step_samples_s=(1.3,) * 3, phase_samples_s={})
    near = Recording(step_samples_s=(1.0,) * 3, profiled_step_samples_s=(1.1,) * 3, phase_samples_s={})
    fast = Recording(step_samples_s=(1.0,) * 3, profiled_step_samples_s=(0.7,) * 3, phase_samples_s={})
    assert "+30 %" in recording_notes(slow)[0]
    assert recording_notes(slow)[0].endswith("other programs ran, or the profiler slows the host")
    assert "-30 %" in recording_notes(fast)[0]
    assert recording_notes(fast)[0].endswith("other programs ran meanwhile")
    assert recording_notes(near) == ()
    assert "events" not in recording_notes(slow)[0]
    counted = slow.model_copy(update={"profiling_s": 0.08})
    assert recording_notes(counted)[0].endswith("(its events, one by one, account for 8 %)")


def _steady(**changes):
    return Recording(step_samples_s=(1.0,) * 9, phase_samples_s={}).model_copy(update=changes)


@pytest.mark.parametrize(("waited_fraction", "disturbed"), [(1.5, True), (0.06, True), (0.05, False), (None, False)])
def test_steps_that_waited_for_a_cpu_are_called_disturbed_and_unstable(waited_fraction, disturbed):
    recording = _steady(waited_fraction=waited_fraction)
    step = step_time(recording, WORK, warmups=1, peak_flop_per_s=None, peak_basis="none")
    assert step.stable is not disturbed
    assert step.waited_fraction == waited_fraction
    assert any("other processes used the CPU" in note for note in recording_notes(recording)) is disturbed


def test_waiting_is_given_in_seconds_of_all_threads_so_that_it_may_exceed_the_wall_time():
    assert "threads waited for it 1.5 s in each second" in recording_notes(_steady(waited_fraction=1.5))[0]


def test_confidence_is_no_higher_than_the_measurement_allows():
    assert confidence_in(_steady()) == "high"
    assert confidence_in(_steady(step_samples_s=(1.0, 1.2, 1.4) * 3)) == "medium"
    assert confidence_in(_steady(waited_fraction=0.2)) == "low"
    assert confidence_in(_steady(profiled_step_samples_s=(1.3,) * 3)) == "low"


def test_ceilings_that_cannot_be_trusted_are_called_out():
    unsteady, steady = (made_up_ceiling("matmul.fp32", stable=ok) for ok in (False, True))
    fast = step_time(RECORDING, WORK, warmups=1, peak_flop_per_s=1e10, peak_basis="measured")
    slow = step_time(RECORDING, WORK, warmups=1, peak_flop_per_s=1e12, peak_basis="measured")
    assert ceiling_notes([steady], slow) == ()
    assert ceiling_notes([unsteady], slow)[0].startswith("1 of the measured ceilings was unsteady (matmul.fp32): ")
    assert "HFU above 100 %" in ceiling_notes([steady], fast)[0]


def test_datasheet_of_h100_is_dense_and_serves_as_the_mfu_peak_beside_a_measured_ceiling():
    ceilings = datasheet_ceilings(load_device("h100-sxm"))
    values = {ceiling.name: ceiling.value for ceiling in ceilings}
    assert values["matmul.bf16"] == pytest.approx(989.4e12)
    assert values["memory.dram"] == pytest.approx(3.35e12)
    assert values["transfer.host_to_device.pinned"] == pytest.approx(63e9)
    measured = made_up_ceiling("matmul.bf16", 7e14)
    peak, basis = mfu_peak([measured, *ceilings], "bf16")
    assert peak == pytest.approx(989.4e12)
    assert basis.startswith("datasheet")
    assert mfu_peak([measured], "bf16")[0] == 7e14
    assert mfu_peak([], "bf16")[0] is None


def test_socket_datasheet_gives_a_machine_that_may_show_a_part_of_it_no_ceilings():
    assert datasheet_ceilings(load_device("cpu-epyc-9654")) == ()
