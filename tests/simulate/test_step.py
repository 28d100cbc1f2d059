"""The step formula: parts that add up, textbook terms, and laws that no fit may break."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwprof.predict.collectives.clock import clock_of
from hwprof.predict.parameters import parameters_for
from hwprof.simulate.jobs import jobs_of
from hwprof.simulate.numbers import parameters_held
from hwprof.simulate.parts import BOUND_OF_PART, StepPart
from hwprof.specs.catalogue.lookup import load_model
from hwprof.specs.catalogue.simulator import simulator_parameters

LAYOUTS = st.fixed_dictionaries(
    {
        "tensor_parallel": st.sampled_from([1, 2, 8]),
        "pipeline_parallel": st.sampled_from([1, 4]),
        "data_parallel": st.sampled_from([1, 4]),
        "context_parallel": st.sampled_from([1, 2]),
        "zero_stage": st.sampled_from([0, 1, 3]),
    }
)


def devices_of(layout):
    return int(np.prod([value for name, value in layout.items() if name.endswith("parallel")]))


@pytest.fixture(scope="module")
def step_s(placed, closed_form_s):
    def seconds(layout, model="llama-3.1-8b", **changes):
        return closed_form_s(*placed(model, devices_of(layout), layout=layout, **changes))[0]

    return seconds


@given(layout=LAYOUTS)
@settings(max_examples=25)
def test_parts_add_up_to_the_step(layout, placed, closed_form_s):
    step, parts = closed_form_s(*placed("llama-3.1-8b", devices_of(layout), layout=layout))
    assert sum(parts.values()) == pytest.approx(step, rel=1e-9)
    assert min(parts.values()) >= 0


@given(layout=LAYOUTS, times=st.sampled_from([2, 4]))
@settings(max_examples=15)
def test_more_flop_is_never_faster(layout, times, step_s):
    whole = step_s(layout)
    base = 8 * layout["data_parallel"] * layout["pipeline_parallel"]
    assert step_s(layout, global_batch=times * base) > whole
    assert step_s(layout, seq_len=2048 * times) > whole
    assert step_s(layout, recompute="full") >= whole


@given(layout=LAYOUTS, faster=st.floats(1.05, 4))
@settings(max_examples=15)
def test_a_faster_machine_is_never_slower(layout, faster, placed, closed_form_s):
    job, machine, stack = placed("llama-3.1-8b", devices_of(layout), layout=layout)
    before, _ = closed_form_s(job, machine, stack)
    for rate in ("inside_byte_per_s", "between_byte_per_s"):
        quicker = dataclasses.replace(machine, **{rate: getattr(machine, rate) * faster})
        assert closed_form_s(job, quicker, stack)[0] <= before * (1 + NOISE)
    for side in ("inside", "network"):
        link = getattr(machine, side)
        times = {"step_s": link.collectives.step_s / faster}
        quicker = link.model_copy(update={"collectives": link.collectives.model_copy(update=times)})
        found = closed_form_s(job, dataclasses.replace(machine, **{side: quicker}), stack)[0]
        assert found <= before * (1 + NOISE)


NOISE = 1e-3
"""A machine with other links has curves of its own, whose knots are rounded otherwise."""


@pytest.mark.parametrize(("stages", "accumulated"), [(2, 4), (4, 8), (8, 32)])
def test_the_bubble_is_p_minus_1_passes(stages, accumulated, placed, closed_form_s):
    """(p - 1)/m of the work in stages (Narayanan et al. 2021, section 2.2.1), without what lies outside."""
    layout = {"pipeline_parallel": stages, "data_parallel": 1}
    _, parts = closed_form_s(*placed("llama-3.1-8b", stages, layout=layout, global_batch=accumulated))
    in_stages = sum(parts[name] for name in ("compute", "recompute", "host"))
    assert parts["pipeline bubble"] / in_stages == pytest.approx((stages - 1) / accumulated, rel=0.02)


def test_a_pipeline_of_one_stage_has_no_bubble_and_sends_nothing(placed, closed_form_s):
    _, parts = closed_form_s(*placed("llama-3.1-8b", 8, layout={"data_parallel": 8}))
    assert parts["pipeline bubble"] == parts["pipeline sends"] == 0
    assert parts["tensor communication"] == parts["context communication"] == parts["expert communication"] == 0


def test_one_device_communicates_nothing(placed, closed_form_s):
    _, parts = closed_form_s(*placed("llama-3.1-8b", 1))
    moved = ("tensor communication", "weight gathering", "gradient reduction", "pipeline sends", "stragglers")
    assert [parts[name] for name in moved] == [0] * 5


def test_recompute_costs_about_a_forward_pass(placed, closed_form_s):
    """Full recompute of an 8B model: 4/3 of the FLOP, less head and traffic."""
    plain, _ = closed_form_s(*placed("llama-3.1-8b", 1))
    again, parts = closed_form_s(*placed("llama-3.1-8b", 1, recompute="full"))
    assert 1.2 < again / plain < 1.4
    assert parts["recompute"] == pytest.approx(again - plain, rel=1e-6)


CONTEXT = {"tensor_parallel": 2, "context_parallel": 4}


def test_gathered_keys_are_exposed_and_a_ring_hides_behind_long_attention(placed, closed_form_s):
    """Bytes of a gather: keys and values of the other three ranks, once forward, and twice with gradients backward."""
    parts = {}
    for kind in ("ring", "all-gather"):
        job, machine, stack = placed("llama-3.1-8b", 8, layout=CONTEXT | {"context_kind": kind}, seq_len=65536)
        parts[kind] = closed_form_s(job, machine, stack)[1]["context communication"]
    gathered_bytes = 3 * 2 * (1024 / 2) * (65536 / 4) * 2  # 8 key-value heads of 128 over two tensor ranks
    line_s = gathered_bytes / machine.inside_byte_per_s
    assert 1 < parts["all-gather"] / (3 * line_s * 32 * 8) < 2
    assert parts["ring"] < 0.2 * parts["all-gather"]


def test_changing_to_heads_moves_less_per_rank_the_more_ranks_there_are(placed, closed_form_s):
    """DeepSpeed-Ulysses: traffic of a rank falls with the ranks, that of a gather does not (Jacobs et al. 2023)."""

    def moved_s(kind, ranks, devices):
        layout = {"context_parallel": ranks, "context_kind": kind}
        return closed_form_s(*placed("gpt3-6.7b", devices, layout=layout, seq_len=2048, global_batch=8))[1]

    few, many = (moved_s("ulysses", ranks, ranks)["context communication"] for ranks in (2, 8))
    assert many < few
    gathered = [moved_s("all-gather", ranks, ranks)["context communication"] for ranks in (2, 8)]
    assert gathered[1] > gathered[0]


@pytest.mark.parametrize("skew", [1.5, 3.0])
def test_all_wait_for_the_busiest_expert_rank(skew, placed, closed_form_s):
    layout = {"data_parallel": 8, "expert_parallel": 8}
    even_s, even = closed_form_s(*placed("mixtral-8x7b", 8, layout=layout))
    skewed_s, skewed = closed_form_s(*placed("mixtral-8x7b", 8, layout=layout, expert_skew=skew))
    assert 0.8 * skew < skewed["expert communication"] / even["expert communication"] < 1.02 * skew
    assert even_s < skewed_s < skew * even_s


def test_offload_costs_what_the_way_out_and_back_takes_beyond_compute(placed, closed_form_s):
    """Weights of a layer at 63 GB/s of PCIe 5.0, or 6 GB/s of a drive, each way; compute hides what it can."""
    layout = {"data_parallel": 1}
    parts = {}
    for target in ("host", "nvme"):
        job = placed("llama-3.1-8b", 1, layout=layout, offload="weights", offload_to=target, seq_len=256)
        parts[target] = closed_form_s(*job)[1]
    layer_bytes = 2 * (8_030_261_248 - 2 * 128256 * 4096 - 4096) / 32  # without embedding, head and final norm
    visits = 32 * 8  # layers, micro-batches
    for target, rate in (("host", 63e9), ("nvme", 6e9)):
        whole_s = 2 * visits * layer_bytes / rate
        assert 0 < parts[target]["offload"] < whole_s
        hidden_s = whole_s - parts[target]["offload"]
        assert hidden_s <= (parts[target]["compute"] + parts[target]["host"]) * (1 + 1e-6)


def test_parameters_held_are_those_of_the_model(placed):
    """One device has them all; eight tensor ranks an eighth each."""
    whole, _ = parameters_held(jobs_of([placed("llama-3.1-8b", 1)]))
    assert float(whole[0]) == 8_030_261_248
    split, _ = parameters_held(jobs_of([placed("llama-3.1-8b", 8, layout={"tensor_parallel": 8})]))
    assert float(split[0]) == pytest.approx(8_030_261_248 / 8, rel=1e-9)


def test_experts_are_spread_over_their_ranks(placed):
    _, one = parameters_held(jobs_of([placed("mixtral-8x7b", 8, layout={"data_parallel": 8})]))
    _, spread = parameters_held(jobs_of([placed("mixtral-8x7b", 8, layout={"data_parallel": 8, "expert_parallel": 8})]))
    assert float(one[0]) == pytest.approx(8 * 32 * 3 * 4096 * 14336)
    assert float(spread[0]) == pytest.approx(float(one[0]) / 8)


@pytest.mark.parametrize(("dtype", "width"), [("bf16", 2), ("fp8", 2), ("fp32", 4)])
def test_tokens_travel_to_experts_in_their_own_width(dtype, width, placed, closed_form_s):
    """There and back, forward and backward: 2 of 8 experts of 4096 numbers a token, 7 of 8 elsewhere, in 32 layers."""
    job, machine, stack = placed("mixtral-8x7b", 8, layout={"data_parallel": 8, "expert_parallel": 8}, dtype=dtype)
    p, _ = parameters_for(simulator_parameters(), machine, stack)
    _, parts = closed_form_s(job, machine, stack)
    sent_bytes = np.array([2048.0 * 2 * 4096 * width])
    sent_s = float(clock_of([machine]).seconds("alltoall", sent_bytes, np.array([8.0]), np.array([1.0]))[0])
    assert sent_s > sent_bytes[0] * 7 / 8 / 450e9
    exposed = 1 - min(p.expert_overlap, 0.95)
    assert parts["expert communication"] == pytest.approx(8 * 4 * 32 * sent_s * exposed, rel=1e-9)


def test_gradients_cross_shard_groups_in_their_own_width(placed, closed_form_s):
    """Hybrid sharding over 8 of 16 devices: between nodes goes what a rank keeps of the gradients, in their width."""

    def gathering_s(**changes):
        layout = {"data_parallel": 16, "zero_stage": 3, "shard_ranks": 8}
        job, machine, stack = placed("llama-3.1-8b", 16, layout=layout, global_batch=16, **changes)
        slow = dataclasses.replace(machine, inside_byte_per_s=1e30, between_byte_per_s=1e6)
        return closed_form_s(job, slow, stack)[1]["weight gathering"]

    assert gathering_s(gradient_bytes=2) / gathering_s() == pytest.approx(1 / 2, rel=1e-3)
    assert gathering_s(dtype="fp32") / gathering_s() == pytest.approx(1, rel=1e-3)


def test_every_part_of_a_step_has_a_class(placed, closed_form_s):
    _, parts = closed_form_s(*placed("llama-3.1-8b", 8, layout={"data_parallel": 8}))
    assert set(parts) == set(StepPart) == set(BOUND_OF_PART)


def expert_s(placed, closed_form_s, devices, **degrees):
    job, machine, stack = placed("mixtral-8x7b", devices, layout=degrees)
    return closed_form_s(job, machine, stack)[1]["expert communication"], job, machine, stack


def test_experts_of_every_fourth_device_are_reached_over_the_network(placed, closed_form_s):
    """Tensor ranks share each expert, so of 8 expert ranks 4 apart 2 are in a node and 6 of 8 parts leave it.

    Before and after the experts their 4 tensor ranks exchange tokens over NVLink; all of it forward and backward.
    """
    found, job, machine, stack = expert_s(
        placed, closed_form_s, 32, tensor_parallel=4, data_parallel=8, expert_parallel=8
    )
    p, _ = parameters_for(simulator_parameters(), machine, stack)
    sent_bytes = 2048 / 4 * 2 * 4096 * 2
    far_s = 6 / 8 * sent_bytes / 50e9
    near_s = 3 / 4 * 4 * sent_bytes / 450e9
    passes = 32 * 8 * 2 * 2
    exposed = 1 - min(p.expert_overlap, 0.95)
    assert 1 < found / (passes * (far_s + near_s) * exposed) < 2
    assert job.layout.expert_tensor_parallel == 4


def test_experts_of_neighbours_are_reached_inside_the_node(placed, closed_form_s):
    """Eight expert ranks among eight neighbours cross nothing."""
    near, _, machine, stack = expert_s(placed, closed_form_s, 8, data_parallel=8, expert_parallel=8)
    p, _ = parameters_for(simulator_parameters(), machine, stack)
    sent_bytes = 2048 * 2 * 4096 * 2
    line_s = 7 / 8 * sent_bytes / 450e9
    assert 1 < near / (32 * 8 * 2 * 2 * line_s * (1 - min(p.expert_overlap, 0.95))) < 2


def test_replicas_of_an_expert_alone_reduce_its_gradients(placed, closed_form_s):
    """Experts spread over all 8 replicas have one copy each: only the dense gradients are reduced."""
    model = load_model("mixtral-8x7b")
    moved = {}
    for ranks in (1, 8):
        layout = {"data_parallel": 8, "expert_parallel": ranks, "zero_stage": 1, "overlap": False}
        job, machine, stack = placed(model, 8, layout=layout)
        moved[ranks] = closed_form_s(job, machine, stack)[1]["gradient reduction"]
        dense, experts = parameters_held(jobs_of([(job, machine, stack)]))
        if ranks == 1:
            whole = float(dense[0] + experts[0])
    dense_alone = float(dense[0])
    assert moved[8] / moved[1] == pytest.approx(dense_alone / whole, rel=0.05)


def reduction_s(placed, closed_form_s, stage, micro_batches):
    layout = {"data_parallel": 16, "zero_stage": stage}
    job, machine, stack = placed("llama-3.1-8b", 16, layout=layout, global_batch=16 * micro_batches)
    slow = dataclasses.replace(machine, inside_byte_per_s=1e30, between_byte_per_s=1e6)
    return closed_form_s(job, slow, stack)[1]["gradient reduction"]


def test_stage_2_reduces_gradients_after_every_micro_batch(placed, closed_form_s):
    """No rank has room for gradients that are not its own (Rajbhandari et al. 2020, 5.2); stage 1 reduces once."""
    once, twice = (reduction_s(placed, closed_form_s, 2, count) for count in (1, 4))
    assert once == pytest.approx(reduction_s(placed, closed_form_s, 1, 1), rel=1e-3)
    assert reduction_s(placed, closed_form_s, 1, 4) == pytest.approx(once, rel=1e-3)
    # weights are gathered once, gradients of twice their width are reduced four times: (1 + 4 x 2) / (1 + 2)
    assert twice / once == pytest.approx(3, rel=0.01)


def test_gradients_cross_to_the_host_as_often_as_is_said(placed, closed_form_s):
    """8.03 B gradients of 4 bytes over a link of 63 GB/s: once, or the sum of 8 out and 7 times back."""
    layout = {"data_parallel": 1}
    optimizer_s = [
        closed_form_s(*placed("llama-3.1-8b", 1, layout=layout, offload="optimizer", offload_each_micro_batch=each))[1][
            "optimizer"
        ]
        for each in (False, True)
    ]
    assert optimizer_s[1] - optimizer_s[0] == pytest.approx(7 * 2 * 4 * 8_030_261_248 / 63e9, rel=1e-6)


def test_below_stage_3_ranks_copy_their_gradients_one_after_the_other(placed, closed_form_s):
    """All 8.03 B gradients of 4 bytes over one link rather than an eighth over each (DeepSpeed pull request 1067)."""

    def optimizer_s(zero_stage):
        layout = {"data_parallel": 8, "zero_stage": zero_stage}
        job = placed(
            "llama-3.1-8b", 8, layout=layout, global_batch=8, offload="optimizer", offload_each_micro_batch=True
        )
        return closed_form_s(*job)[1]["optimizer"]

    assert optimizer_s(2) - optimizer_s(3) == pytest.approx(7 / 8 * 4 * 8_030_261_248 / 63e9, rel=1e-6)


def test_the_host_works_at_the_pace_of_a_core(placed, closed_form_s):
    """2.25 B parameters a rank took 10 s (microsoft/DeepSpeed issue 6834): here 72 B on 32 ranks."""
    layout = {"data_parallel": 32, "zero_stage": 3}
    job = placed("qwen2-72b", 32, layout=layout, global_batch=32, offload="optimizer", offload_each_micro_batch=True)
    assert closed_form_s(*job)[1]["optimizer"] == pytest.approx(10, rel=0.15)


def test_xla_gathers_weights_beside_compute_though_it_holds_none_ahead(placed, closed_form_s):
    """Its scheduler hides latency within a layer; without layers ahead torch gathers first."""

    def gathering_s(framework):
        layout = {"data_parallel": 16, "zero_stage": 3}
        job = placed("llama-3.1-8b", 16, layout=layout, framework=framework, prefetch_layers=0)
        return closed_form_s(*job)[1]["weight gathering"]

    assert gathering_s("xla") < gathering_s("torch") / 2


def test_experts_that_no_tensor_ranks_share_are_not_gathered(placed, closed_form_s):
    """Then expert ranks are neighbours, and all eight are in one node."""
    degrees = {"tensor_parallel": 4, "data_parallel": 8, "expert_parallel": 8}
    shared, *_ = expert_s(placed, closed_form_s, 32, **degrees)
    whole, job, *_ = expert_s(placed, closed_form_s, 32, **degrees, expert_tensor=1)
    assert job.layout.expert_tensor_parallel == 1
    assert whole < shared / 4
