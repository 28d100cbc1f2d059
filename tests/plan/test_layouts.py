"""A survey of layouts: complete, inside memory, with reasons for every no; checked on clusters of round numbers."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hwprof.errors import InputError, SpecError
from hwprof.plan import candidates
from hwprof.plan.candidates import factorisations
from hwprof.plan.layouts import FEASIBLE_ROWS, INFEASIBLE_ROWS, estimate_layouts
from hwprof.plan.machine import machine_of
from hwprof.plan.recommend import best_layout, recommend, survey_for
from hwprof.specs.run import DeviceIdentity

quick = settings(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def degrees(row):
    return row.data_parallel, row.tensor_parallel, row.pipeline_parallel


@pytest.mark.parametrize(("devices", "count"), [(1, 1), (2, 3), (8, 10), (12, 18)])
def test_every_factorisation_of_the_devices_is_tried_once(devices, count):
    found = list(factorisations(devices))
    assert len(set(found)) == len(found) == count
    assert all(item.devices == devices for item in found)


def test_a_roomy_cluster_is_surveyed_completely(small_model, hand):
    survey = estimate_layouts(small_model, hand.settings(), hand.cluster(4))
    # 32 sequences a step, 3 recompute modes. data 1: 3 ways x 6 micro-batches; data 2: 2 ways x 5 x 4 ZeRO stages;
    # data 4: 4 x 4 stages
    assert survey.evaluated == 3 * (3 * 6 + 2 * 5 * 4 + 4 * 4)
    assert survey.rejected == {}
    assert {degrees(row) for row in survey.rows} == {(4, 1, 1), (2, 2, 1), (2, 1, 2), (1, 4, 1), (1, 2, 2), (1, 1, 4)}


def test_a_small_model_on_a_fast_node_runs_data_parallel_without_recompute(small_model, hand):
    best = estimate_layouts(small_model, hand.settings(), hand.cluster(8)).rows[0]
    assert degrees(best) == (8, 1, 1)
    assert best.recompute == "none"
    assert best.bubble_s == 0


def test_rows_are_ranked_and_their_parts_add_up(small_model, hand):
    rows = estimate_layouts(small_model, hand.settings(), hand.cluster(8)).rows
    assert [row.rank for row in rows] == list(range(1, len(rows) + 1))
    times = [row.step_s for row in rows if row.fits]
    assert times == sorted(times)
    for row in (row for row in rows if row.fits):
        assert row.compute_s + row.communication_s + row.bubble_s == pytest.approx(row.step_s)
        assert row.step_lo_s <= row.step_s <= row.step_hi_s
        assert row.data_parallel * row.micro_batch * row.gradient_accumulation == 64
        assert 0 < row.mfu < 1
        assert row.tokens_per_s_per_device == pytest.approx(64 * 128 / row.step_s / 8)


def test_mfu_is_train_flop_over_what_the_devices_could_do(small_model, hand):
    row = estimate_layouts(small_model, hand.settings(), hand.cluster(1)).rows[0]
    linear_flop = 3 * 2 * 8 * 128 * (4 * (4 * 256 * 256 + 2 * 256 * 1024) + 256 * 256)
    assert linear_flop / (row.step_s * 100e12) < row.mfu < 1.2 * linear_flop / (row.step_s * 100e12)


def test_a_tight_memory_rejects_the_replicated_optimizer(small_model, hand):
    tight = estimate_layouts(small_model, hand.settings(), hand.cluster(8, capacity="50 MB"))
    assert tight.rejected["memory_fits"] > 0
    assert not any(row.fits and degrees(row) == (8, 1, 1) and row.zero_stage == 0 for row in tight.rows)
    assert tight.rows[0].fits


@quick
@given(capacity_mb=st.integers(10, 300), devices=st.sampled_from([2, 6, 8]))
def test_what_fits_is_inside_the_memory_and_what_does_not_says_why(small_model, hand, capacity_mb, devices):
    survey = estimate_layouts(small_model, hand.settings(), hand.cluster(devices, capacity=f"{capacity_mb} MB"))
    for row in survey.rows:
        assert row.reason
        assert row.capacity_bytes == capacity_mb * 1e6
        if row.fits:
            assert row.memory_bytes <= 0.9 * row.capacity_bytes
        else:
            assert row.step_s is None
            assert row.memory_bytes == 0 or row.memory_bytes > 0.9 * row.capacity_bytes
    assert sum(row.fits for row in survey.rows) <= FEASIBLE_ROWS
    assert sum(not row.fits for row in survey.rows) <= INFEASIBLE_ROWS
    assert sum(survey.rejected.values()) <= survey.evaluated


def test_every_constraint_is_reported_with_its_numbers(small_model, hand):
    model = small_model.model_copy(update={"heads": 8, "kv_heads": 4, "head_dim": 32, "layers": 6})
    survey = estimate_layouts(model, hand.settings(micro_batch=1), hand.cluster(16, capacity="1 MB"))
    reasons = {row.reason for row in survey.rows}
    assert "8 heads do not divide by tensor parallel 16" in reasons
    assert any(reason.startswith("6 layers do not divide by pipeline parallel ") for reason in reasons)
    assert any(reason.startswith("needs ") and "device has 900 kB (1 MB less 10 %)" in reason for reason in reasons)
    assert set(survey.rejected) == {"heads_divide", "layers_divide", "memory_fits"}
    assert not any(row.fits for row in survey.rows)


def test_tensor_parallel_stays_inside_the_scale_up_domain(small_model, hand):
    survey = estimate_layouts(small_model, hand.settings(), hand.cluster(8, domain=2, node=8))
    assert max(row.tensor_parallel for row in survey.rows if row.fits) == 2
    assert "tensor parallel 4 leaves the scale-up domain of 2 devices" in {row.reason for row in survey.rows}


def test_a_batch_that_does_not_divide_is_a_reason(small_model, hand):
    survey = estimate_layouts(small_model, hand.settings(), hand.cluster(8), global_batch_tokens=2 * 128)
    assert survey.rejected["batch_divides"] == 3  # data 8, and data 4 with tensor 2 or pipeline 2
    assert any(row.reason == "2 sequences a step do not divide by data parallel 8" for row in survey.rows)


def test_key_value_heads_divide_or_are_repeated(small_model, hand):
    model = small_model.model_copy(update={"heads": 12, "kv_heads": 4, "head_dim": 32})
    survey = estimate_layouts(model, hand.settings(), hand.cluster(6))
    assert survey.rejected["kv_heads_divide"] > 0
    assert "4 key and value heads neither divide by tensor parallel 3 nor into it" in {
        row.reason for row in survey.rows
    }


@quick
@given(factor=st.floats(1, 100))
def test_faster_links_never_slow_the_best_layout(small_model, hand, factor):
    link = {"source": ["made up"], "link": "fast", "topology": "switch"}
    slow, fast = (
        estimate_layouts(
            small_model,
            hand.settings(micro_batch=1),
            hand.cluster(8, link=link | {"per_device": f"{100 * times:.3f} GB/s"}),
        )
        for times in (1, factor)
    )
    assert fast.rows[0].step_s <= slow.rows[0].step_s * (1 + 1e-6)


def test_memory_is_counted_sparingly(small_model, hand, monkeypatch):
    calls = []
    counted = candidates.training_memory
    monkeypatch.setattr(candidates, "training_memory", lambda *a, **k: calls.append(k) or counted(*a, **k))
    survey = estimate_layouts(small_model, hand.settings(), hand.cluster(32))
    assert len(calls) < survey.evaluated / 2


def test_every_assumption_is_stated(small_model, hand):
    text = "\n".join(estimate_layouts(small_model, hand.settings(), hand.cluster(8)).assumptions)
    assert "matrix products reach 35 % to 65 % of the dense fp32 peak, 100 TFLOP/s (assumed)" in text
    assert "10 % of the 80 GB on each device is kept free" in text
    assert "64 sequences of 128 tokens on 8 devices" in text


def test_less_than_one_sequence_is_refused(small_model, hand):
    with pytest.raises(InputError, match="holds no sequence of 128"):
        estimate_layouts(small_model, hand.settings(), hand.cluster(8), global_batch_tokens=127)


def test_a_dtype_without_a_peak_is_refused_with_a_way_out(small_model, hand):
    with pytest.raises(SpecError, match=r"dense fp16 peak of hand is not known.*--dtype"):
        estimate_layouts(small_model, hand.settings(dtype="fp16"), hand.cluster(8))


def test_devices_without_scale_up_links_meet_over_the_host(hand):
    machine = machine_of(hand.cluster(16, domain=1, link=None), "fp32")
    assert (machine.domain, machine.inside.bandwidth_byte_per_s) == (8, 20e9)
    assert machine.between.bandwidth_byte_per_s == 10e9


def test_bridged_pairs_in_one_node_meet_others_over_the_host(hand):
    machine = machine_of(hand.cluster(8, domain=2), "fp32")
    assert (machine.domain, machine.inside.bandwidth_byte_per_s) == (2, 100e9)
    assert machine.between.bandwidth_byte_per_s == 20e9


# --- as a recommendation ----------------------------------------------------------------------------------------


def test_the_best_layout_is_recommended_with_the_runner_up(build, hand):
    record = build()
    survey = survey_for(record, hand.cluster(8))
    answer = recommend(record, survey=survey)[-1]
    assert answer.kind == "layout"
    assert answer.title.startswith("On 8xhand: data 8, ZeRO")
    assert "runner-up: " in answer.reason
    assert "data parallel 8, tensor parallel 1, pipeline parallel 1" in answer.change
    assert 0 <= answer.gain_fraction[0] <= answer.gain_fraction[1] < 1


def test_the_device_that_ran_lends_its_measured_efficiency(build, hand):
    # 0.9e12 FLOP in 0.9 s of a peak of 100 TFLOP/s: 1 %, less and plus a tenth
    same = survey_for(build(), hand.cluster(8))
    assert same.assumptions[0].startswith("matrix products reach 0.9 % to 1.1 % of the dense fp32 peak")
    assert "measured on this device" in same.assumptions[0]
    other = survey_for(build(device=DeviceIdentity(name="x", catalogue_id="other", note="")), hand.cluster(8))
    assert "(assumed)" in other.assumptions[0]


def test_no_layout_that_fits_is_said_with_the_nearest(small_model, hand):
    answer = best_layout(estimate_layouts(small_model, hand.settings(), hand.cluster(2, capacity="1 MB")))
    assert answer.title == "2xhand is too small for this step"
    assert "needs " in answer.reason
    assert answer.gain_fraction == (0.0, 0.0)


def test_one_device_needs_no_layout(small_model, hand):
    assert best_layout(estimate_layouts(small_model, hand.settings(), hand.cluster(1))) is None
