"""Claims about the predicted step, on work whose times are known by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwprof.count.cost import Cost
from hwprof.predict.prediction import predict_step, roof_by_phase, with_residual
from hwprof.predict.roofs import MemoryRoof, Roofs
from hwprof.predict.work import Work


def _roofs(*, matmul=1e11, dram=1e10, dispatch_s=0.0, shapes=None, transfer=None):
    return Roofs(
        matmul_name="matmul.fp32",
        matmul_flop_per_s=matmul,
        shape_flop_per_s=shapes or {},
        memory=(
            MemoryRoof(name="memory.l3", capacity_bytes=1e6, byte_per_s=1e11),
            MemoryRoof(name="memory.dram", capacity_bytes=float("inf"), byte_per_s=dram),
        ),
        dispatch_s=dispatch_s,
        host_to_device_byte_per_s=transfer,
    )


def _work(label="head", direction="forward", phase="forward", flop=0, moved_bytes=0, instances=1):
    return Work(
        label=label,
        layer_kind="head",
        direction=direction,
        phase=phase,
        cost=Cost(matmul_flop=flop, read_bytes=moved_bytes),
        instances=instances,
        working_set_bytes=moved_bytes,
    )


LINEAR = _work(flop=2 * 100 * 50 * 1000, moved_bytes=4 * (100 * 1000 + 50 * 1000 + 100 * 50))


def _predict(work, roofs, shapes=None, input_bytes=0.0):
    return predict_step(work, shapes or {}, roofs, footprint_bytes=1e9, input_bytes=input_bytes)


def test_linear_layer_takes_the_time_that_was_probed_for_its_shape():
    roofs = _roofs(shapes={(100, 50, 1000): 1e10})
    prediction = _predict([LINEAR], roofs, {("head", "forward"): [(100, 50, 1000)]})
    assert prediction.step_s == pytest.approx(1e7 / 1e10)
    assert prediction.interval_s[0] == pytest.approx(1e7 / 1e11)


def test_unprobed_product_takes_half_its_roof_and_a_quarter_at_worst():
    prediction = _predict([_work(flop=1e9)], _roofs())
    assert prediction.step_s == pytest.approx(2e-2)
    assert prediction.interval_s == pytest.approx((1e-2, 4e-2))


def test_backward_traffic_comes_from_where_a_whole_step_fits():
    forward = _predict([_work(moved_bytes=1e5)], _roofs())
    backward = _predict([_work(moved_bytes=1e5, direction="backward", phase="backward")], _roofs())
    assert forward.step_s == pytest.approx(1e5 / 1e11)
    assert backward.step_s == pytest.approx(1e5 / 1e10)


def test_dispatch_is_paid_for_each_assumed_kernel():
    prediction = _predict([_work(instances=10)], _roofs(dispatch_s=1e-6))
    assert prediction.step_s == pytest.approx(10 * 3 * 1e-6)


def test_copies_are_predicted_only_where_the_device_has_memory_of_its_own():
    with_copy = _predict([LINEAR], _roofs(transfer=1e9), input_bytes=1e6)
    assert with_copy.phase_s["host_to_device"] == pytest.approx(1e-3)
    assert "host_to_device" not in _predict([LINEAR], _roofs(), input_bytes=1e6).phase_s


def test_nothing_is_predicted_without_ceilings():
    assert _predict([LINEAR], _roofs(matmul=None)) is None


@given(st.floats(0, 1e12), st.floats(0, 1e9), st.sampled_from(["forward", "backward"]))
def test_expected_time_lies_in_its_interval_and_a_faster_device_is_never_slower(flop, moved_bytes, direction):
    work = [_work(flop=flop, moved_bytes=moved_bytes, direction=direction, phase=direction)]
    slow = _predict(work, _roofs(dispatch_s=1e-6))
    fast = _predict(work, _roofs(matmul=2e11, dram=2e10, dispatch_s=1e-6))
    assert slow.interval_s[0] <= slow.step_s <= slow.interval_s[1]
    assert fast.step_s <= slow.step_s
    assert slow.step_s == pytest.approx(sum(slow.phase_s.values()))


def test_roofs_of_phases_are_the_sums_of_their_ops():
    roofs = roof_by_phase([_work(flop=1e9), _work(flop=2e9), _work(flop=1e9, phase="backward")], _roofs())
    assert roofs == pytest.approx({"forward": 3e-2, "backward": 1e-2})


@pytest.mark.parametrize(("measured_s", "words"), [(1e-3, "least possible"), (2e-2, "inside"), (1.0, "above")])
def test_residual_says_on_which_side_of_the_interval_the_measurement_lies(measured_s, words):
    prediction = with_residual(_predict([_work(flop=1e9)], _roofs()), measured_s=measured_s)
    assert words in prediction.residual_note
    assert prediction.residual_fraction == pytest.approx(measured_s / 2e-2 - 1)
