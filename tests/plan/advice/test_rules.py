"""Every rule speaks on the run made for it, with the gain worked out by hand, and stays silent on the others."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hwprof.plan.advice import inputs as input_rules
from hwprof.plan.advice import kernels as kernel_rules
from hwprof.plan.advice import memory as memory_rules
from hwprof.plan.advice.facts import gather
from hwprof.plan.advice.gain import gain_within
from hwprof.plan.advice.recommend import FIT_RULES, GAIN_RULES, cautions, recommend
from hwprof.specs.record.run import MemoryResult


@pytest.mark.parametrize("rule", [*FIT_RULES, *GAIN_RULES], ids=lambda rule: rule.__name__)
def test_a_run_at_its_roofs_gets_no_advice(rule, build):
    assert rule(gather(build())) is None


def test_nothing_worth_doing_is_an_empty_tuple(build):
    assert recommend(build()) == ()


# --- micro-batch ------------------------------------------------------------------------------------------------


def test_micro_batch_shares_the_update_between_eight_times_the_tokens(build, hand):
    record = build(phases=(hand.phase("optimizer", 0.12), hand.phase("clip", 0.04)))
    answer = memory_rules.micro_batch(gather(record))
    assert answer.change == "--micro-batch 64"
    assert answer.gain_fraction == pytest.approx((0.07, 0.14))  # 0.16 * 7/8, half of it sure
    assert "per token" in answer.reason


def test_a_larger_micro_batch_on_a_cpu_may_gain_nothing(build, hand):
    record = build(settings={"device": "cpu"}, phases=(hand.phase("optimizer", 0.16),))
    assert memory_rules.micro_batch(gather(record)).gain_fraction == pytest.approx((0.0, 0.14))


def test_micro_batch_fills_kernels_that_are_too_small(build, hand):
    record = build(ops=(hand.op(bound="latency", time_s=0.4),))
    answer = memory_rules.micro_batch(gather(record))
    assert answer.gain_fraction == pytest.approx((0.0, 0.35))  # 0.4 * 7/8


def test_micro_batch_keeps_the_host_busy_less_often(build, hand):
    record = build(attribution=hand.attribution(idle_host_s=0.2, compute_s=0.8))
    assert memory_rules.micro_batch(gather(record)).gain_fraction == pytest.approx((0.0, 0.175))


def test_micro_batch_takes_over_from_accumulation_and_keeps_the_tokens(build, hand):
    record = build(
        settings={"gradient_accumulation": 6},
        phases=(hand.phase("optimizer", 0.5),),
        ops=(hand.op(bound="latency", time_s=0.4),),
    )
    answer = memory_rules.micro_batch(gather(record))
    assert answer.change == "--micro-batch 16 --gradient-accumulation 3"  # 6 divides by 2, not by 4
    assert answer.gain_fraction == pytest.approx((0.0, 0.2))  # the optimizer still runs once a step


def test_micro_batch_stays_where_a_larger_one_does_not_fit(build, hand):
    record = build(memory_bytes=100e6, phases=(hand.phase("optimizer", 0.4),))
    facts = gather(record)
    assert facts.largest_micro_batch < 16
    assert memory_rules.micro_batch(facts) is None


def test_unknown_memory_gives_no_advice_on_batches(build, hand):
    facts = gather(build(memory_bytes=None, phases=(hand.phase("optimizer", 0.4),)))
    assert memory_rules.micro_batch(facts) is None
    assert memory_rules.accumulation(facts) is None


def test_accumulation_where_a_larger_micro_batch_does_not_fit(build, hand):
    need_bytes = gather(build()).need_bytes["none"]
    record = build(memory_bytes=need_bytes * 1.3, phases=(hand.phase("optimizer", 0.4),))
    answer = memory_rules.accumulation(gather(record))
    assert answer.change == "--gradient-accumulation 4"
    assert answer.gain_fraction == pytest.approx((0.15, 0.3))  # 0.4 * 3/4, half of it sure


# --- precision --------------------------------------------------------------------------------------------------


def test_precision_by_the_ratio_of_measured_ceilings(build, hand):
    record = build(
        ceilings=(
            hand.ceiling("matmul.fp32", 1e12),
            hand.ceiling("matmul.bf16", 4e12),
            hand.ceiling("memory.dram", 10e9),
        )
    )
    answer = kernel_rules.precision(gather(record))
    assert answer.change == "--dtype bf16"
    # 0.9 s of products: a quarter of it remains at best; 3 GB at 10 GB/s keep 0.3 s at worst
    assert answer.gain_fraction == pytest.approx((0.6, 0.675))
    assert "matmul.bf16 4 TFLOP/s (measured)" in answer.evidence
    assert answer.basis == "measured"


def test_precision_goes_up_where_the_lower_one_was_measured_slower(build, hand):
    record = build(
        settings={"dtype": "bf16"},
        ceilings=(hand.ceiling("matmul.fp32", 1e12), hand.ceiling("matmul.bf16", 0.5e12)),
        ops=(hand.op(roof_name="matmul.bf16"),),
    )
    assert kernel_rules.precision(gather(record)).change == "--dtype fp32"


def test_a_slower_narrow_dtype_is_a_caution_and_no_advice(build, hand):
    record = build(ceilings=(hand.ceiling("matmul.fp32", 80e9), hand.ceiling("matmul.bf16", 35e9)))
    assert kernel_rules.precision(gather(record)) is None
    (caution,) = cautions(record)
    assert caution.startswith("bf16 matrix products were measured slower than fp32")
    assert "35 GFLOP/s against 80 GFLOP/s" in caution


def test_bf16_is_preferred_to_fp16_of_much_the_same_rate(build, hand):
    rates = {"fp32": 1e12, "bf16": 3.9e12, "fp16": 4e12, "tf32": 2e12}
    record = build(ceilings=tuple(hand.ceiling(f"matmul.{dtype}", rate) for dtype, rate in rates.items()))
    assert kernel_rules.precision(gather(record)).change == "--dtype bf16"


def test_a_datasheet_ceiling_is_no_reason_to_change_precision_on_a_cpu(build, hand):
    ceilings = tuple(
        hand.ceiling(name, value, origin="datasheet") for name, value in (("matmul.fp32", 1e12), ("matmul.bf16", 4e12))
    )
    assert kernel_rules.precision(gather(build(settings={"device": "cpu"}, ceilings=ceilings))) is None
    answer = kernel_rules.precision(gather(build(ceilings=ceilings)))
    assert answer.basis == "roofline"


def test_a_measured_ceiling_is_never_held_against_a_datasheet(build, hand):
    ceilings = (hand.ceiling("matmul.fp32", 1e12), hand.ceiling("matmul.bf16", 4e12, origin="datasheet"))
    assert kernel_rules.precision(gather(build(ceilings=ceilings))) is None


# --- recompute --------------------------------------------------------------------------------------------------


def test_recompute_is_turned_off_where_memory_allows(build, hand):
    again = hand.op(direction="recompute", phase="backward", time_s=0.2)
    record = build(settings={"recompute": "full"}, ops=(hand.op(time_s=0.7), again))
    answer = memory_rules.recompute_less(gather(record))
    assert answer.change == "--recompute none"
    assert answer.gain_fraction == pytest.approx((0.1, 0.2))


def test_recompute_stays_on_where_memory_is_short(build, hand):
    again = hand.op(direction="recompute", phase="backward", time_s=0.2)
    needs = gather(build()).need_bytes
    assert needs["full"] < needs["selective"] < needs["none"]
    asked = {"settings": {"recompute": "full"}, "ops": (hand.op(time_s=0.7), again)}
    between = memory_rules.recompute_less(
        gather(build(memory_bytes=(needs["none"] + needs["selective"]) / 1.8, **asked))
    )
    assert between.change == "--recompute selective"
    assert memory_rules.recompute_less(gather(build(memory_bytes=needs["full"] / 0.9, **asked))) is None


# --- short of memory --------------------------------------------------------------------------------------------


def test_out_of_memory_comes_first_and_promises_no_time(build, hand):
    needs = gather(build()).need_bytes
    memory_bytes = needs["none"] * 0.99
    record = build(memory_bytes=memory_bytes, status="out_of_memory", phases=(hand.phase("data", 0.3),))
    answers = recommend(record)
    assert [answer.gain_fraction for answer in answers[:2]] == [(0.0, 0.0), (0.0, 0.0)]
    assert answers[0].change == "--micro-batch 4 --gradient-accumulation 2"
    assert answers[1].change == "--recompute selective"
    assert "so that the step fits" in answers[0].title
    assert answers[2].change == "--workers 4"


def test_out_of_memory_without_a_step_still_gets_advice(build):
    needs = gather(build()).need_bytes
    record = build(
        memory_bytes=needs["none"] * 0.99, status="out_of_memory", step=None, attribution=None, ops=(), phases=()
    )
    assert [answer.change for answer in recommend(record)] == [
        "--micro-batch 4 --gradient-accumulation 2",
        "--recompute selective",
    ]


def test_more_devices_only_where_nothing_on_one_is_enough(build):
    least_bytes = gather(build()).smallest_need_bytes
    too_small = build(memory_bytes=least_bytes / 2, status="out_of_memory")
    (answer,) = recommend(too_small)
    assert "at least 3 such devices" in answer.change  # 2 / 0.9 of a device's usable memory
    assert "Split the model over more devices" in answer.title


def test_micro_batch_and_recompute_together_where_neither_is_enough(build):
    long = {"seq_len": 512, "micro_batch": 64}
    facts = gather(build(settings=long))
    alone = gather(build(settings=long | {"micro_batch": 1})).need_bytes["none"]
    assert facts.smallest_need_bytes < alone
    memory_bytes = (facts.smallest_need_bytes + min(alone, facts.need_bytes["full"])) / 1.8
    (answer,) = recommend(build(settings=long, memory_bytes=memory_bytes))
    assert answer.change == "--micro-batch 1 --gradient-accumulation 64 --recompute full"


def test_a_measured_peak_above_the_count_raises_every_need(build):
    counted = gather(build()).need_bytes["none"]
    memory = MemoryResult(parts=(), predicted_peak_bytes=100.0, measured_peak_bytes=150.0)
    assert gather(build(memory=memory)).need_bytes["none"] == pytest.approx(1.5 * counted)


# --- kernels ----------------------------------------------------------------------------------------------------


def test_compile_spares_the_traffic_between_fused_operations(build, hand):
    record = build(ops=(hand.op(time_s=0.5), hand.memory_op(time_s=0.4, read_bytes=1e6, write_bytes=1e6)))
    answer = kernel_rules.compiled(gather(record))
    assert answer.change == "--compile"
    assert answer.gain_fraction[1] == pytest.approx(0.4)  # all traffic of the norms is spared, and no more than that
    assert 0 < answer.gain_fraction[0] < 0.4


def test_compile_helps_where_the_device_waits_for_the_host(build, hand):
    record = build(attribution=hand.attribution(idle_host_s=0.3, compute_s=0.7))
    assert kernel_rules.compiled(gather(record)).gain_fraction == pytest.approx((0.0, 0.3))


def test_compile_is_not_proposed_twice(build, hand):
    record = build(settings={"compile": True}, attribution=hand.attribution(idle_host_s=0.3, compute_s=0.7))
    assert kernel_rules.compiled(gather(record)) is None


def test_optimizer_gains_what_it_takes_above_one_pass_at_its_roof(build, hand):
    record = build(
        settings={"optimizer_implementation": "for-loop"}, phases=(hand.phase("optimizer", 0.3, roof_s=0.1),)
    )
    answer = kernel_rules.optimizer_implementation(gather(record))
    assert answer.change == "--optimizer-implementation fused"
    # adamw: 20 arrays in separate passes, 7 in one, so the roof is 0.1 * 7/20 = 0.035
    assert answer.gain_fraction == pytest.approx((0.1325, 0.265))


def test_optimizer_gain_is_uncertain_from_foreach(build, hand):
    record = build(settings={"optimizer_implementation": "foreach"}, phases=(hand.phase("optimizer", 0.3, roof_s=0.1),))
    assert kernel_rules.optimizer_implementation(gather(record)).gain_fraction == pytest.approx((0.0, 0.265))


def test_adafactor_has_no_fused_kernel(build, hand):
    asked = {"optimizer": "adafactor", "optimizer_implementation": "for-loop"}
    phases = (hand.phase("optimizer", 0.3, roof_s=0.01),)
    assert kernel_rules.optimizer_implementation(gather(build(settings=asked, phases=phases))).change.endswith(
        "foreach"
    )
    asked["optimizer_implementation"] = "foreach"
    assert kernel_rules.optimizer_implementation(gather(build(settings=asked, phases=phases))) is None


def test_the_layer_kind_that_loses_most_is_named_with_its_remedy(build, hand):
    slow_norm = hand.memory_op(time_s=0.4, roof_s=0.1, lost_s=0.3, bound="memory")
    record = build(ops=(hand.op(time_s=0.5), slow_norm))
    answer = kernel_rules.slowest_kind(gather(record))
    assert answer.change == "fuse: --compile or a fused norm kernel"
    assert answer.gain_fraction == pytest.approx((0.0, 0.3))


# --- input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("workers", "more"), [(0, 2), (1, 2), (3, 6)])
def test_waiting_for_data_asks_for_more_workers(build, hand, workers, more):
    record = build(settings={"workers": workers}, phases=(hand.phase("data", 0.2),))
    answer = input_rules.data_workers(gather(record))
    assert answer.change == f"--workers {more}"
    assert answer.gain_fraction == pytest.approx((0.1, 0.2))


def test_workers_on_a_cpu_may_gain_nothing(build, hand):
    record = build(settings={"device": "cpu"}, phases=(hand.phase("data", 0.2),))
    assert input_rules.data_workers(gather(record)).gain_fraction == pytest.approx((0.0, 0.2))


def test_exposed_copies_are_hidden_behind_compute(build, hand):
    record = build(attribution=hand.attribution(exposed_copy_s=0.1, compute_s=0.9))
    answer = input_rules.overlapped_copies(gather(record))
    assert answer.gain_fraction == pytest.approx((0.05, 0.1))
    assert "non_blocking=True" in answer.change


# --- laws -------------------------------------------------------------------------------------------------------


def test_recommendations_are_ranked_by_the_middle_of_their_gain(build, hand):
    record = build(
        settings={"optimizer_implementation": "for-loop"},
        phases=(hand.phase("data", 0.05), hand.phase("optimizer", 0.3, roof_s=0.1)),
    )
    middles = [sum(answer.gain_fraction) for answer in recommend(record)]
    assert len(middles) >= 3
    assert middles == sorted(middles, reverse=True)


@given(stake=st.floats(0, 2), low=st.floats(-2, 2), high=st.floats(-2, 2))
def test_a_gain_stays_between_nothing_and_what_is_at_stake(stake, low, high):
    bottom, top = gain_within(stake, low=low, high=high)
    assert 0 <= bottom <= top <= min(stake, 1)


shares = st.floats(0, 1)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=shares,
    optimizer=shares,
    idle=shares,
    copy=shares,
    bf16=st.floats(0.1, 100),
    bound=st.sampled_from(["memory", "latency", "unknown"]),
    recompute=st.sampled_from(["none", "full"]),
)
def test_no_rule_promises_more_than_the_step_has(build, hand, data, optimizer, idle, copy, bf16, bound, recompute):
    record = build(
        settings={"recompute": recompute, "optimizer_implementation": "for-loop"},
        phases=(hand.phase("data", data), hand.phase("optimizer", optimizer)),
        ceilings=(hand.ceiling("matmul.fp32", 1e12), hand.ceiling("matmul.bf16", bf16 * 1e12)),
        attribution=hand.attribution(idle_host_s=idle, exposed_copy_s=copy),
        ops=(
            hand.op(time_s=0.5),
            hand.memory_op(bound=bound, lost_s=0.35),
            hand.op(direction="recompute", phase="backward", time_s=0.1),
        ),
    )
    facts = gather(record)
    at_stake = {
        "precision": 0.6,
        "recompute_less": 0.1,
        "compiled": 0.4 + idle,
        "optimizer_implementation": optimizer,
        "data_workers": data,
        "overlapped_copies": copy,
        "slowest_kind": 0.35,
        "micro_batch": optimizer + 0.4 + idle,
        "accumulation": optimizer,
    }
    for rule in GAIN_RULES:
        answer = rule(facts)
        if answer is not None:
            low, high = answer.gain_fraction
            assert 0 <= low <= high <= min(at_stake[rule.__name__], 1) + 1e-9, rule.__name__
            assert answer.reason
            assert answer.change
            assert answer.evidence
