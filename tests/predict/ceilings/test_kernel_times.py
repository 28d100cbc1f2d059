"""Claims about times of kernels by their probes: at their own sizes, at others, and without what the host adds."""

import pytest
from made_up_record import made_up_ceiling

from hwprof.predict.ceilings.kernel_times import kernel_times
from hwprof.specs.job.step_kernels import StepKernel

LOSS = StepKernel("loss", "cross_entropy", "fp32", (4, 16), "forward")


def ceiling(kernel, call_s, *, counted_bytes=100.0, operators=0):
    conditions = {"call_s": call_s, "counted_bytes": counted_bytes, "operators": operators}
    return made_up_ceiling(str(kernel), conditions=conditions)


def test_a_kernel_takes_its_own_time_where_its_sizes_were_probed():
    other = LOSS._replace(sizes=(8, 16))
    times = kernel_times([ceiling(LOSS, 2.0), ceiling(other, 5.0)], dispatch_s=0.0)
    assert times.call_s(LOSS, 100.0) == 2.0
    assert times.call_s(other, 1e9) == 5.0
    assert times.has(LOSS)


def test_elsewhere_its_bytes_run_at_the_rate_of_the_nearest():
    times = kernel_times([ceiling(LOSS, 2.0)], dispatch_s=0.0)
    larger = LOSS._replace(sizes=(8, 16))
    assert times.call_s(larger, 200.0) == pytest.approx(4.0)
    assert times.has_like(larger)
    assert not times.has(larger)


@pytest.mark.parametrize(
    "other", [{"direction": "backward"}, {"dtype": "bf16"}, {"variant": "z_loss"}, {"kind": "rope"}]
)
def test_another_pass_format_or_kind_says_nothing_of_it(other):
    times = kernel_times([ceiling(LOSS, 2.0)], dispatch_s=0.0)
    assert times.call_s(LOSS._replace(**other), 100.0) is None
    assert not times.has_like(LOSS._replace(**other))


def test_dispatch_that_the_host_s_probe_has_too_is_taken_off():
    found = [ceiling(LOSS, 10.0, operators=3)]
    assert kernel_times(found, dispatch_s=1.0).call_s(LOSS, 100.0) == 7.0
    assert kernel_times(found, dispatch_s=100.0).call_s(LOSS, 100.0) == 1.0  # a tenth is the kernel's own


def test_nothing_is_taken_off_an_update():
    update = StepKernel("clip", "norm", "fp32", (4, 16), "update")
    assert kernel_times([ceiling(update, 10.0, operators=3)], dispatch_s=1.0).call_s(update, 100.0) == 10.0


def test_ceilings_without_the_time_of_a_call_are_left_out():
    old = made_up_ceiling("norm.rmsnorm.fp32.1024x1024.forward")
    gather = made_up_ceiling("gather.fp32", kind="kernel")
    assert kernel_times([old, gather], dispatch_s=0.0).points == {}
