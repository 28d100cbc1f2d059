"""Claims about the predicted step, on work whose times are known by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwprof.count.ops.cost import Cost
from hwprof.predict.ceilings.host import HostTimes
from hwprof.predict.ceilings.kernel_times import NO_KERNELS, KernelPoint, KernelTimes
from hwprof.predict.ceilings.roofs import MemoryRoof, Roofs
from hwprof.predict.ceilings.step_kernels import KernelUse
from hwprof.predict.prediction import StepFacts, predict_step, roof_by_phase, with_residual
from hwprof.predict.work import Work
from hwprof.specs.job.step_kernels import StepKernel


def _roofs(*, matmul=1e11, dram=1e10, dispatch_s=0.0, shapes=None, attention=None, transfer=None, **more):
    return Roofs(
        matmul_name="matmul.fp32",
        matmul_flop_per_s=matmul,
        shape_flop_per_s=shapes or {},
        attention_flop_per_s=attention or {},
        memory=(
            MemoryRoof(name="memory.l3", capacity_bytes=1e6, byte_per_s=1e11),
            MemoryRoof(name="memory.dram", capacity_bytes=float("inf"), byte_per_s=dram),
        ),
        dispatch_s=dispatch_s,
        host_to_device_byte_per_s=transfer,
        **more,
    )


def _work(label="head", direction="forward", phase="forward", flop=0, moved_bytes=0, instances=1, **more):
    return Work(
        label=label,
        layer_kind="head",
        direction=direction,
        phase=phase,
        cost=Cost(matmul_flop=flop, read_bytes=moved_bytes),
        instances=instances,
        **({"working_set_bytes": moved_bytes} | more),
    )


OPERANDS_BYTES = 4 * (100 * 1000 + 50 * 1000 + 100 * 50)
LINEAR = _work(flop=2 * 100 * 50 * 1000, moved_bytes=OPERANDS_BYTES)
SHAPES = {("head", "forward"): [(100, 50, 1000)]}
ATTENTION = "layers.*.attention.core"


def _predict(work, roofs, shapes=None, kernels=(), **facts):
    plain = {"input_bytes": 0.0, "footprint_bytes": 1e9, "operand_bytes": 4}
    return predict_step(work, shapes or {}, roofs, StepFacts(**plain | facts), kernels=kernels)


def test_linear_layer_takes_the_time_that_was_probed_for_its_shape():
    roofs = _roofs(shapes={(100, 50, 1000): 1e10})
    prediction = _predict([LINEAR], roofs, SHAPES)
    assert prediction.step_s == pytest.approx(1e7 / 1e10)
    assert prediction.interval_s[0] == pytest.approx(1e7 / 1e11)


def test_casts_and_sums_of_a_linear_layer_cost_their_traffic_beside_the_product():
    cast = _work(flop=1e7, moved_bytes=OPERANDS_BYTES + 1e6)
    prediction = _predict([cast], _roofs(shapes={(100, 50, 1000): 1e10}), SHAPES)
    assert prediction.step_s == pytest.approx(1e7 / 1e10 + 1e6 / 1e10)


def test_product_that_moves_more_than_it_computes_takes_the_time_of_its_operands():
    prediction = _predict([LINEAR], _roofs(shapes={(100, 50, 1000): 9e11}, dram=1e9), SHAPES)
    assert prediction.step_s == pytest.approx(OPERANDS_BYTES / 1e9)


def test_sum_of_gradients_booked_to_a_linear_layer_does_not_multiply_again():
    roofs = _roofs(shapes={(100, 50, 1000): 1e10})
    with_sum = _predict([LINEAR, _work(moved_bytes=1e6)], roofs, SHAPES)
    assert with_sum.step_s == pytest.approx(1e7 / 1e10 + 1e6 / 1e10)


def test_shape_without_a_probe_takes_its_time_from_a_curve_through_those_with_one():
    roofs = _roofs(shapes={(100, 50, 900): 4e10, (100, 50, 1100): 4e10, (100, 60, 1000): 4e10, (1, 2, 3): 1e10})
    prediction = _predict([LINEAR], roofs, SHAPES | {("other", "forward"): [(1, 2, 3)]})
    assert prediction.step_s == pytest.approx(1e7 / 4e10, rel=0.05)
    assert prediction.step_s < prediction.interval_s[1] < 1.5 * prediction.step_s + OPERANDS_BYTES / 1e10
    assert (
        "1 matrix-multiply shapes (100 % of their FLOP) at a curve through the 4 that were probed" in prediction.basis
    )


def test_the_basis_says_how_much_of_the_products_was_not_probed():
    both = [LINEAR, _work("other", flop=3 * 2 * 100 * 50 * 1000)]
    shapes = SHAPES | {("other", "forward"): [(100, 50, 3000)]}
    basis = _predict(both, _roofs(shapes={(100, 50, 1000): 1e10}), shapes).basis
    assert "1 matrix-multiply shapes at their own ceilings, 1 matrix-multiply shapes (75 % of their FLOP) at" in basis


def test_without_any_probed_shape_products_take_half_the_flat_roof_and_say_so():
    prediction = _predict([LINEAR], _roofs(), SHAPES)
    assert prediction.step_s == pytest.approx(1e7 / 5e10)
    assert "1 matrix-multiply shapes (100 % of their FLOP) at an assumed 50 % (25 to 100 %) of" in prediction.basis


def test_unprobed_attention_takes_half_the_flat_roof_and_a_quarter_at_worst_and_says_so():
    prediction = _predict([_work(ATTENTION, flop=1e9)], _roofs())
    assert prediction.step_s == pytest.approx(2e-2)
    assert prediction.interval_s == pytest.approx((1e-2, 4e-2))
    assert "attention at an assumed 50 % (25 to 100 %) of matmul.fp32" in prediction.basis


@pytest.mark.parametrize("label", [ATTENTION, "layers.*.self_attn.core"])
@pytest.mark.parametrize(("direction", "step_s"), [("forward", 5e-2), ("recompute", 5e-2), ("backward", 1e-1)])
def test_probed_attention_takes_its_own_rate_in_each_direction(label, direction, step_s):
    roofs = _roofs(attention={"forward": 2e10, "recompute": 2e10, "backward": 1e10})
    prediction = _predict([_work(label, direction, flop=1e9, moved_bytes=1e6)], roofs)
    assert prediction.step_s == pytest.approx(step_s)
    assert prediction.interval_s == pytest.approx((1e-2, step_s + 1e6 / 1e10))
    assert "attention at its own ceiling, traffic" in prediction.basis


def test_attention_probed_in_one_direction_only_is_assumed_in_the_other():
    roofs = _roofs(attention={"forward": 2e10, "recompute": 2e10})
    passes = [_work(ATTENTION, one, one, flop=1e9) for one in ("forward", "backward")]
    prediction = _predict(passes, roofs)
    assert prediction.phase_s == pytest.approx({"forward": 5e-2, "backward": 2e-2})
    assert "attention at its own ceiling, but backward at an assumed 50 %" in prediction.basis


def test_rate_of_attention_holds_for_attention_alone():
    roofs = _roofs(attention={"forward": 1e9, "recompute": 1e9, "backward": 1e9})
    assert _predict([_work("layers.*.ffn.up", flop=1e9)], roofs).step_s == pytest.approx(2e-2)


@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize(("footprint_bytes", "byte_per_s"), [(1e9, 1e10), (1e6, 1e11)])
def test_traffic_comes_from_where_a_whole_step_fits(direction, footprint_bytes, byte_per_s):
    work = [_work(moved_bytes=1e5, direction=direction, phase=direction)]
    assert _predict(work, _roofs(), footprint_bytes=footprint_bytes).step_s == pytest.approx(1e5 / byte_per_s)


def test_later_passes_of_an_update_find_what_the_first_one_brought():
    update = {"direction": "update", "phase": "optimizer", "moved_bytes": 3e6, "compulsory_bytes": 1e6}
    small = _predict([_work(**update, working_set_bytes=1e6)], _roofs())
    large = _predict([_work(**update, working_set_bytes=2e6)], _roofs())
    assert small.step_s == pytest.approx(1e6 / 1e10 + 2e6 / 1e11)
    assert large.step_s == pytest.approx(3e6 / 1e10)


def test_dispatch_is_paid_for_each_assumed_kernel():
    prediction = _predict([_work(instances=10)], _roofs(dispatch_s=1e-6))
    assert prediction.step_s == pytest.approx(10 * 3 * 1e-6)


LOSS = StepKernel("loss", "cross_entropy", "fp32", (4, 16), "forward")
LOSS_WORK = _work("loss", phase="loss", moved_bytes=1e6, instances=2)
LOSS_USE = KernelUse(kernel=LOSS, phase="loss", calls=2, moved_bytes=1e6, work=(LOSS_WORK,))


def _kernels(seconds, *, sizes="4x16", moved_bytes=1e6):
    point = KernelPoint(seconds=seconds, moved_bytes=moved_bytes)
    return KernelTimes(points={"loss.cross_entropy.fp32.forward": {sizes: point}})


def test_a_probed_kernel_takes_its_own_time_as_often_as_it_is_called():
    prediction = _predict([LOSS_WORK], _roofs(kernels=_kernels(3e-3)), kernels=[LOSS_USE])
    assert prediction.phase_s == pytest.approx({"loss": 6e-3})
    # at best both megabytes at 1e11 bytes/s; at worst they come from the last level, beside
    assert prediction.interval_s == pytest.approx((2e-5, 6e-3 + 2e6 / 1e10))
    assert "1 of 1 other kernels at their own ceilings" in prediction.basis


def test_a_kernel_is_never_faster_than_its_roof():
    prediction = _predict([LOSS_WORK], _roofs(kernels=_kernels(1e-9)), kernels=[LOSS_USE])
    assert prediction.step_s == pytest.approx(2e-5)


def test_a_kernel_of_other_sizes_takes_its_bytes_at_their_rate():
    roofs = _roofs(kernels=_kernels(3e-3, sizes="8x16", moved_bytes=2e6))
    prediction = _predict([LOSS_WORK], roofs, kernels=[LOSS_USE])
    assert prediction.step_s == pytest.approx(2 * 1.5e-3)
    assert "1 of 1 other kernels by the nearest sizes" in prediction.basis


def test_a_kernel_that_was_not_probed_is_traffic():
    prediction = _predict([LOSS_WORK], _roofs(kernels=NO_KERNELS), kernels=[LOSS_USE])
    assert prediction.step_s == pytest.approx(2e6 / 1e10)
    assert "other kernels" not in prediction.basis


HOST = HostTimes(forward_s=1e-3, backward_s=2e-3, clip_s=3e-3, optimizer_s=4e-3)


def test_on_a_cpu_the_host_comes_on_top_of_the_operators_for_each_micro_batch():
    prediction = _predict([LINEAR], _roofs(shapes={(100, 50, 1000): 1e10}, host=HOST), SHAPES, micro_batches=3)
    expected = {"forward": 1e-3 + 3e-3, "backward": 6e-3, "clip": 3e-3, "optimizer": 4e-3}
    assert prediction.phase_s == pytest.approx(expected)
    assert prediction.interval_s[0] == pytest.approx(1e-4)
    assert prediction.basis.split(", ")[-1].startswith("the host as probed;")


@pytest.mark.parametrize(("host_beside", "optimizer_s"), [(False, 5e-3), (True, 5e-3 + 4e-3 * 0.5)])
def test_a_probed_update_has_the_host_of_a_cpu_in_it(host_beside, optimizer_s):
    work = _work("optimizer", direction="update", phase="optimizer", moved_bytes=1e6)
    kernel = StepKernel("optimizer", "adamw_for-loop", "fp32", (1, 4), "update")
    use = KernelUse(kernel=kernel, phase="optimizer", calls=1, moved_bytes=1e6, work=(work,))
    point = KernelPoint(seconds=5e-3, moved_bytes=1e6)
    roofs = _roofs(host=HOST, kernels=KernelTimes(points={"optimizer.adamw_for-loop.fp32.update": {"1x4": point}}))
    prediction = _predict([work], roofs, kernels=[use], host_beside=host_beside)
    # beside a GPU 5 of the host's 10 ms are hidden, and half of each phase's is left
    assert prediction.phase_s["optimizer"] == pytest.approx(optimizer_s)
    assert prediction.phase_s["clip"] == pytest.approx(3e-3 * (0.5 if host_beside else 1))


def test_where_the_host_was_probed_no_kernels_are_assumed_to_be_dispatched():
    roofs = _roofs(host=HostTimes(forward_s=1e-6, backward_s=0.0, clip_s=0.0, optimizer_s=0.0), dispatch_s=1.0)
    assert _predict([_work(instances=10)], roofs).step_s == pytest.approx(1e-6)


@pytest.mark.parametrize(
    ("device_s", "phases"),
    [
        (20e-3, {"forward": 20e-3, "backward": 0.0, "clip": 0.0, "optimizer": 0.0}),
        # 4 ms of a host that takes 10 are hidden; the other 6 are spread as 1, 2, 3 and 4
        (4e-3, {"forward": 4.6e-3, "backward": 1.2e-3, "clip": 1.8e-3, "optimizer": 2.4e-3}),
    ],
)
def test_beside_a_gpu_the_longer_of_host_and_device_wins(device_s, phases):
    work = [_work(moved_bytes=device_s * 1e10)]
    prediction = _predict(work, _roofs(host=HOST), host_beside=True)
    assert prediction.phase_s == pytest.approx(phases)
    assert prediction.step_s == pytest.approx(max(device_s, 10e-3))
    assert "beside the host as probed" in prediction.basis


def test_stages_of_a_pipeline_share_the_host_s_work():
    prediction = _predict([], _roofs(host=HOST), stages=2)
    assert prediction.step_s == pytest.approx(5e-3)


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
