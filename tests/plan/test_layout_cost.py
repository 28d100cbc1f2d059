"""Traffic and step of a layout against numbers worked out by hand, on a machine of round numbers.

The model: 256 * 256 in the embedding and in the head, 4 layers of 4 * 256 * 256 + 2 * 256 * 1024 + 4 * 256, a final
norm of 2 * 256: 3 281 408 parameters, 13 125 632 bytes in fp32.
"""

from __future__ import annotations

import dataclasses

import pytest

from hwprof.plan.layout import Degrees, Layout, Problem
from hwprof.plan.layout_cost import (
    Efficiency,
    data_traffic_s,
    estimate_step,
    micro_batch_work,
    stage_traffic_s,
    tensor_traffic_s,
)
from hwprof.plan.machine import Latencies, machine_of

IDEAL = Efficiency(matmul=1.0, memory=1.0, link=1.0, overlap=0.0)
NO_LATENCY = Latencies(inside_s=0.0, between_s=0.0)


@pytest.fixture
def problem(small_model, hand):
    """8 devices in one node, 128 tokens a sequence, fp32."""
    return problem_on(hand.cluster(8), small_model, hand)


def problem_on(cluster, model, hand, **settings):
    asked = hand.settings(**settings)
    machine = machine_of(cluster, asked.dtype, NO_LATENCY)
    return Problem(spec=model, settings=asked, machine=machine, sequences=64, margin=0.1)


def layout(data=1, tensor=1, pipeline=1, *, zero=0, micro_batch=1, accumulation=1, recompute="none"):
    return Layout(
        degrees=Degrees(data_parallel=data, tensor_parallel=tensor, pipeline_parallel=pipeline),
        zero_stage=zero,
        micro_batch=micro_batch,
        gradient_accumulation=accumulation,
        recompute=recompute,
    )


@pytest.mark.parametrize(
    ("zero", "accumulation", "expected_s"),
    [
        (0, 1, 2.2969856e-4),  # all-reduce: 2 * 7/8 * 13.125632 MB / 100 GB/s
        (1, 1, 2.2969856e-4),  # reduce-scatter and all-gather: the same
        (2, 1, 2.2969856e-4),
        (3, 1, 3.4454784e-4),  # two all-gathers and a reduce-scatter: 3 * 7/8
        (0, 4, 2.2969856e-4),  # gradients pile up, one all-reduce a step
        (1, 4, 2.2969856e-4),
        (2, 4, 5.742464e-4),  # 4 reduce-scatters and one all-gather: 5 * 7/8
        (3, 4, 1.37819136e-3),  # 12 * 7/8
    ],
)
def test_data_parallel_traffic_by_zero_stage(problem, zero, accumulation, expected_s):
    measured_s = data_traffic_s(layout(data=8, zero=zero, accumulation=accumulation), problem)
    assert measured_s == pytest.approx(expected_s, rel=1e-6)


def test_stage_three_gathers_narrow_weights_under_autocast(small_model, hand):
    narrow = problem_on(hand.cluster(8), small_model, hand, dtype="bf16")
    # gradients 4 bytes, weights 2 + 2 bytes a parameter: 2 * 7/8 * 13.125632 MB / 100 GB/s
    assert data_traffic_s(layout(data=8, zero=3), narrow) == pytest.approx(2.2969856e-4, rel=1e-6)


@pytest.mark.parametrize(("recompute", "expected_s"), [("none", 2.097152e-5), ("full", 3.145728e-5)])
def test_tensor_parallel_runs_four_all_reduces_a_layer_and_six_with_full_recompute(problem, recompute, expected_s):
    # 4 layers * 4 calls * (2 * 1/2 * 128 * 256 * 4 bytes / 100 GB/s)
    assert tensor_traffic_s(layout(tensor=2, recompute=recompute), problem) == pytest.approx(expected_s)


def test_pipeline_sends_activations_on_and_gradients_back(problem):
    # 2 * 2 sequences * 128 * 256 * 4 bytes / 100 GB/s
    assert stage_traffic_s(layout(pipeline=4, micro_batch=2), problem) == pytest.approx(5.24288e-6)


def test_pipeline_beyond_the_domain_takes_the_network(small_model, hand):
    far = problem_on(hand.cluster(16), small_model, hand)
    # stages 8 devices apart: 2 * 128 * 256 * 4 bytes / 10 GB/s
    assert stage_traffic_s(layout(tensor=8, pipeline=2), far) == pytest.approx(2.62144e-5)


@pytest.mark.parametrize("traffic_s", [data_traffic_s, tensor_traffic_s, stage_traffic_s])
def test_one_device_sends_nothing(problem, traffic_s):
    assert traffic_s(layout(), problem) == 0


def test_matmul_flop_of_a_micro_batch_by_hand(problem):
    work = micro_batch_work(problem.spec, problem.settings_of(layout()))
    # linear: 3 products of 2 * 128 tokens * (256 * 1024 + 2 * 256 * 1024) weights in each of 4 layers, and the head;
    # attention: 4 * 128 * 128 * 256 forward and twice that backward in each layer
    assert work.outer_flop == 3 * 2 * 128 * 256 * 256
    linear_flop = 4 * 3 * 2 * 128 * (4 * 256 * 256 + 2 * 256 * 1024)
    assert work.layer_flop == linear_flop + 4 * 3 * 4 * 128 * 128 * 256
    assert work.train_flop == work.layer_flop + work.outer_flop


def test_bubble_of_equal_micro_batches_is_p_minus_1_over_m(problem):
    chosen = layout(pipeline=4, accumulation=8)
    work = dataclasses.replace(micro_batch_work(problem.spec, problem.settings_of(chosen)), update_bytes=0.0)
    step = estimate_step(chosen, problem, work, IDEAL)
    assert step.bubble_s / (step.step_s - step.bubble_s) == pytest.approx(3 / 8)


def test_compute_divides_by_tensor_and_pipeline_ranks(problem):
    work = dataclasses.replace(micro_batch_work(problem.spec, problem.settings_of(layout())), outer_flop=0.0)
    alone, split = (estimate_step(item, problem, work, IDEAL) for item in (layout(), layout(tensor=2, pipeline=4)))
    assert alone.matmul_s / split.matmul_s == pytest.approx(8)
    assert alone.matmul_s == pytest.approx(work.layer_flop / 100e12)


def test_norms_run_whole_on_every_tensor_rank(problem):
    full = micro_batch_work(problem.spec, problem.settings_of(layout()))
    only_norms = dataclasses.replace(full, layer_bytes=0.0, outer_bytes=0.0, update_bytes=0.0)
    alone, split = (estimate_step(item, problem, only_norms, IDEAL) for item in (layout(), layout(tensor=4)))
    assert alone.vector_s == split.vector_s > 0


def test_zero_shares_the_weight_update(problem):
    work = micro_batch_work(problem.spec, problem.settings_of(layout()))
    plain, sharded = (estimate_step(layout(data=8, zero=zero), problem, work, IDEAL) for zero in (0, 1))
    assert plain.vector_s - sharded.vector_s == pytest.approx(7 / 8 * work.update_bytes / 1e12)


def test_overlap_hides_data_traffic_behind_compute_and_no_more(problem):
    work = micro_batch_work(problem.spec, problem.settings_of(layout()))
    exposed = estimate_step(layout(data=8, zero=3), problem, work, IDEAL)
    hidden = estimate_step(layout(data=8, zero=3), problem, work, dataclasses.replace(IDEAL, overlap=1.0))
    assert exposed.communication_s == pytest.approx(3.4454784e-4, rel=1e-6)
    assert 0 <= hidden.communication_s < exposed.communication_s
