"""Layouts of a measured run on a cluster: inside memory, calibrated by the run, with reasons for every no."""

from __future__ import annotations

import pytest

from hwprof.errors import InputError
from hwprof.plan.advice.from_run import TORCH, calibrated, job_of_run
from hwprof.plan.advice.layouts import INFEASIBLE_ROWS, survey_for
from hwprof.plan.advice.recommend import best_layout, recommend
from hwprof.predict.machine import machine_of
from hwprof.simulate.prediction import predict_job
from hwprof.specs.catalogue.simulator import simulator_parameters
from hwprof.specs.record.memory import MemoryResult
from hwprof.specs.record.run import DeviceIdentity

TABLE = simulator_parameters()
ELSEWHERE = DeviceIdentity(name="x", catalogue_id="other", note="", memory_bytes=80e9)


def survey(record, cluster, **changes):
    return survey_for(record, cluster, TABLE, **changes)


def test_rows_are_ranked_and_their_parts_add_up(build, hand):
    found = survey(build(device=ELSEWHERE), hand.cluster(4))
    assert [row.rank for row in found.rows] == list(range(1, len(found.rows) + 1))
    fitting = [row for row in found.rows if row.fits]
    assert [row.step_s for row in fitting] == sorted(row.step_s for row in fitting)
    for row in fitting:
        assert row.compute_s + row.communication_s + row.bubble_s == pytest.approx(row.step_s)
        assert row.step_lo_s < row.step_s < row.step_hi_s
        assert row.data_parallel * row.micro_batch * row.gradient_accumulation == 32
        assert row.memory_bytes <= 0.95 * row.capacity_bytes
        assert row.tokens_per_s_per_device == pytest.approx(32 * 128 / row.step_s / 4)


def test_the_run_itself_comes_out_as_measured(build, hand):
    record, machine = build(), machine_of(hand.cluster(1))
    found = calibrated(record, TABLE, machine)
    again = predict_job(job_of_run(record), machine, TORCH, found.table)
    plain = predict_job(job_of_run(record), machine, TORCH, TABLE)
    assert abs(again.step_s - 1.0) < 0.01 < abs(plain.step_s - 1.0)


def test_the_device_that_ran_calibrates_the_plan(build, hand):
    same, other = survey(build(), hand.cluster(4)), survey(build(device=ELSEWHERE), hand.cluster(4))
    assert any(note.startswith("memory.dram measured in the run or probe") for note in same.assumptions)
    assert any(note.startswith("measured step 1 s, predicted") for note in same.assumptions)
    assert not any("measured in the run" in note or "measured step" in note for note in other.assumptions)
    assert same.rows[0].step_s > 10 * other.rows[0].step_s


def test_memory_that_the_run_needed_beyond_the_count_is_needed_by_plans_too(build, hand):
    counted = survey(build(), hand.cluster(4))
    memory = MemoryResult(parts=(), measured_peak_bytes=79e9)
    above = survey(build(memory=memory), hand.cluster(4))
    assert above.rejected.get("memory_fits", 0) > counted.rejected.get("memory_fits", 0)
    assert any("above the counted one" in note for note in above.assumptions)


def test_what_does_not_fit_says_why(build, hand):
    found = survey(build(device=ELSEWHERE), hand.cluster(4, capacity="1.6 GB"))
    refused = [row for row in found.rows if not row.fits]
    assert len(refused) <= INFEASIBLE_ROWS
    assert found.rejected["memory_fits"] > 0
    for row in refused:
        assert row.step_s is None
        assert row.reason.startswith("at its leanest needs ")
        assert row.memory_bytes > 0.95 * row.capacity_bytes


def test_less_than_one_sequence_is_refused(build, hand):
    with pytest.raises(InputError, match="holds no sequence of 128"):
        survey(build(), hand.cluster(4), global_batch_tokens=127)


def test_the_best_layout_is_recommended_with_the_runner_up(build, hand):
    record = build(device=ELSEWHERE)
    answer = recommend(record, survey=survey(record, hand.cluster(4)))[-1]
    assert answer.kind == "layout"
    assert answer.title.startswith("On 4xhand: ")
    assert "runner-up: " in answer.reason
    assert 0 <= answer.gain_fraction[0] <= answer.gain_fraction[1] < 1


def test_no_layout_that_fits_is_said_with_the_nearest(build, hand):
    answer = best_layout(survey(build(device=ELSEWHERE), hand.cluster(2, capacity="1 MB")))
    assert answer.title == "2xhand is too small for this step"
    assert "needs " in answer.reason
    assert answer.gain_fraction == (0.0, 0.0)


def test_one_device_needs_no_layout(build, hand):
    assert best_layout(survey(build(device=ELSEWHERE), hand.cluster(1))) is None
