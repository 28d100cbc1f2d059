"""Claims about bound classes, on work whose floors are known by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_record import made_up_attribution

from hwprof.count.ops.cost import Cost
from hwprof.predict.ceilings.roofs import MemoryRoof, Roofs
from hwprof.predict.classify import classify_kinds, classify_ops, floor_of, phase_bounds, step_shares, verdict
from hwprof.predict.work import Work
from hwprof.specs.record.run import OpTime

ROOFS = Roofs(
    matmul_name="matmul.fp32",
    matmul_flop_per_s=1e11,
    shape_flop_per_s={},
    attention_flop_per_s={"forward": 1e6, "backward": 1e6},
    memory=(
        MemoryRoof(name="memory.l2", capacity_bytes=1e6, byte_per_s=1e11),
        MemoryRoof(name="memory.dram", capacity_bytes=float("inf"), byte_per_s=1e10),
    ),
    dispatch_s=1e-6,
    host_to_device_byte_per_s=None,
)


def _work(flop=0.0, moved_bytes=0.0, instances=1, label="head", **more):
    return Work(
        label=label,
        layer_kind="head",
        direction="forward",
        phase="forward",
        cost=Cost(matmul_flop=flop, read_bytes=moved_bytes),
        instances=instances,
        **({"working_set_bytes": moved_bytes} | more),
    )


def _time(seconds, calls=1, label="head"):
    return OpTime(label=label, layer_kind="head", phase="forward", direction="forward", calls=calls, time_s=seconds)


def _classify(seconds, work, calls=1):
    return classify_ops([_time(seconds, calls)], work, ROOFS, step_s=1.0, advice=lambda kind, bound: f"{kind} {bound}")[
        0
    ]


def test_matrix_multiply_at_80_percent_of_its_peak_is_compute_bound():
    op = _classify(1.25e-2, [_work(flop=1e9, moved_bytes=2e7)])  # 10 ms of arithmetic, 2 ms of traffic
    assert op.bound == "compute"
    assert op.roof_fraction == pytest.approx(0.8)
    assert op.margin == pytest.approx(0.8)
    assert op.confidence == "high"
    assert op.lost_s == pytest.approx(2.5e-3)
    assert op.roof_name == "matmul.fp32"


def test_traffic_above_arithmetic_is_memory_bound_at_the_level_that_holds_it():
    dram = _classify(2e-3, [_work(moved_bytes=1e7)])
    cache = _classify(1.6e-4, [_work(moved_bytes=5e5, instances=20)], calls=20)
    assert (dram.bound, dram.roof_name) == ("memory", "memory.dram")
    assert (cache.bound, cache.roof_name) == ("memory", "memory.l2")
    assert cache.roof_s == pytest.approx(1e-4)


def test_small_parts_of_a_large_sweep_are_first_touched_in_main_memory():
    parts = {"moved_bytes": 6e5, "working_set_bytes": 2e5, "compulsory_bytes": 2e5, "instances": 50}
    near = _classify(1e-3, [_work(**parts, swept_bytes=2e5)])
    far = _classify(2e-3, [_work(**parts, swept_bytes=1e7)])
    assert (near.roof_name, near.roof_s) == ("memory.l2", pytest.approx(50 * 6e5 / 1e11))
    assert (far.roof_name, far.roof_s) == ("memory.dram", pytest.approx(50 * 2e5 / 1e10))


def test_attention_stands_under_the_flat_roof_whatever_rate_was_probed_for_it():
    floor = floor_of([_work(flop=1e9, label="layers.*.attention.core")], ROOFS, launches=0)
    assert floor.roof_s == pytest.approx(1e9 / 1e11)


def test_many_tiny_kernels_are_latency_bound():
    op = _classify(1.5e-4, [_work(moved_bytes=100)], calls=100)
    assert op.bound == "latency"


def test_time_far_above_every_floor_is_unknown_not_blamed_on_a_roof():
    op = _classify(1.0, [_work(flop=1e9, moved_bytes=1e7)])
    assert op.bound == "unknown"
    assert op.confidence == "low"


def test_point_above_its_roof_is_reported_as_an_error_of_the_ceiling():
    op = _classify(0.5e-2, [_work(flop=1e9)])
    assert op.roof_fraction == pytest.approx(2.0)
    assert "in error" in op.advice
    assert op.confidence == "low"


def test_advice_is_about_the_roof_only_near_it():
    assert _classify(1.25e-2, [_work(flop=1e9)]).advice == "head compute"
    assert _classify(4e-2, [_work(flop=1e9)]).advice == "head unknown"


def test_uncounted_operation_has_no_roof_and_no_loss():
    op = _classify(1e-3, [])
    assert (op.bound, op.roof_fraction, op.lost_s) == ("unknown", None, 0.0)


@given(
    st.floats(0, 1e12),
    st.floats(0, 1e9),
    st.integers(1, 100),
)
def test_floor_is_the_largest_of_its_parts_and_grows_with_work(flop, moved_bytes, launches):
    floor = floor_of([_work(flop, moved_bytes)], ROOFS, launches=launches)
    double = floor_of([_work(flop, moved_bytes, instances=2)], ROOFS, launches=launches)
    assert floor.roof_s == max(floor.compute_s, floor.memory_s)
    assert double.roof_s == pytest.approx(2 * floor.roof_s)


ATTRIBUTION = made_up_attribution(
    compute_s=0.6, exposed_copy_s=0.05, idle_host_s=0.2, idle_input_s=0.1, residue_s=0.05, explained_fraction=0.95
)


def test_shares_of_the_step_add_up_to_one():
    ops = [_classify(1.25e-2, [_work(flop=1e9)]), _classify(2e-3, [_work(moved_bytes=1e7)])]
    shares = step_shares(ops, ATTRIBUTION)
    assert sum(shares.values()) == pytest.approx(1.0)
    assert shares["host"] == pytest.approx(0.3)
    assert shares["transfer"] == pytest.approx(0.05)


def test_verdict_names_the_largest_class_and_the_largest_loss():
    result = verdict([_classify(1.25e-2, [_work(flop=1e9)])], ATTRIBUTION)
    assert result.bound == "compute"
    assert "compute-bound" in result.sentence
    assert "head forward" in result.sentence


def test_verdict_is_no_surer_than_the_measurement_that_it_rests_on():
    ops = [_classify(1.25e-2, [_work(flop=1e9)])]
    assert [verdict(ops, ATTRIBUTION, at_most=most).confidence for most in ("high", "medium", "low")] == [
        verdict(ops, ATTRIBUTION).confidence,
        "medium",
        "low",
    ]


def test_kinds_are_the_sums_of_their_operations_and_bound_by_what_takes_longest():
    times = [_time(0.2), _time(0.05, label="other")]
    work = [_work(flop=1.6e10), _work(moved_bytes=4e8, label="other")]
    ops = classify_ops(times, work, ROOFS, step_s=1.0, advice=lambda *_: "")
    (kind,) = classify_kinds(ops, step_s=1.0)
    assert (kind.layer_kind, kind.bound) == ("head", "compute")
    assert (kind.time_s, kind.share) == (pytest.approx(0.25), pytest.approx(0.25))
    assert kind.roof_s == pytest.approx(0.16 + 0.04)
    assert kind.lost_s == pytest.approx(0.05)


def test_phases_are_bound_by_their_operations_but_for_those_that_have_none():
    ops = classify_ops([_time(0.2)], [_work(flop=1.6e10)], ROOFS, step_s=1.0, advice=lambda *_: "")
    found = phase_bounds(ops, ["forward", "backward", "data", "host_to_device", "checkpoint"])
    assert found == {
        "forward": "compute",
        "backward": "unknown",
        "data": "host",
        "host_to_device": "transfer",
        "checkpoint": "transfer",
    }


def test_verdict_that_its_own_roofs_contradict_is_none():
    """Operations of most of the step that run faster than their roofs say that the roofs are wrong."""
    ops = classify_ops([_time(0.1)], [_work(flop=1.6e10)], ROOFS, step_s=0.13, advice=lambda *_: "")
    assert ops[0].roof_fraction == pytest.approx(1.6)
    found = verdict(ops, ATTRIBUTION)
    assert (found.bound, found.confidence) == ("unknown", "low")
    assert found.sentence.startswith("No verdict: 76.9 % of the step ran faster than its roofs")
