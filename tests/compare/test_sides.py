"""Do a run and the traces of a program become the same kind of side: samples of the step, times by level and name?"""

from __future__ import annotations

import pytest
from made_up_record import made_up_attribution, made_up_op, made_up_phase, made_up_record, made_up_step
from made_up_trace import OP, made_up_device

from hwprof.compare.sides import side_of_run, side_of_traces
from hwprof.specs.record.run import KernelTime, MemoryResult
from hwprof.specs.record.trace import TraceBreak
from hwprof.specs.record.trace_rows import TraceOp


def kernel(time_s, calls, **changes):
    plain = {"label": "head", "phase": "forward", "direction": "forward"}
    return KernelTime(name="gemm", time_s=time_s, calls=calls, **plain | changes)


def test_a_run_without_a_step_is_no_side():
    assert side_of_run("x", made_up_record()) is None


def test_a_run_gives_phases_of_the_step_parts_operations_and_kernels_by_name():
    record = made_up_record(
        step=made_up_step(0.01),
        phases=(made_up_phase("forward", 0.004), made_up_phase("evaluation", 1.0, in_step=False)),
        attribution=made_up_attribution(0.01, compute_s=0.007, idle_host_s=0.003),
        ops=(made_up_op("head", 0.002, calls=3.0), made_up_op("head", 0.004, direction="backward")),
        kernels=(kernel(0.001, 2), kernel(0.003, 4, label="layers.*.ffn.up")),
        memory=MemoryResult(parts=(), measured_peak_bytes=5e6),
    )
    side = side_of_run("x", record)
    times_s = {key: item.time_s for key, item in side.items.items()}
    assert times_s == {
        ("phase", "forward"): 0.004,
        ("part", "compute"): 0.007,
        ("part", "exposed communication"): 0.0,
        ("part", "exposed copy"): 0.0,
        ("part", "idle host"): 0.003,
        ("part", "idle input"): 0.0,
        ("operation", "head forward"): 0.002,
        ("operation", "head backward"): 0.004,
        ("kernel", "gemm"): pytest.approx(0.004),
    }
    assert side.items["operation", "head forward"].calls == 3.0
    assert side.items["kernel", "gemm"].calls == 6
    assert (side.step_median_s, side.tokens_per_s, side.peak_memory_bytes) == (0.01, 1024.0, 5e6)
    assert (side.settings["micro_batch"], side.settings["world_size"], side.environment) == (
        "1",
        "1",
        {"device": "CPU"},
    )
    assert side.notes == ()


def test_a_step_that_was_not_stable_is_called_so():
    shaky = made_up_record(step=made_up_step(0.01, stable=False))
    assert side_of_run("left", shaky).notes == ("the step time of left was not stable while it ran",)


def test_traces_are_means_over_ranks_of_times_a_step():
    other = made_up_device(1, ops=(TraceOp(**OP | {"time_s": 0.02}),), memory=())
    side = side_of_traces("t", [made_up_device(0), other])
    assert side.step_samples_s == (0.01,) * 4
    assert side.items["part", "compute"].time_s == 6e-3
    assert side.items["part", "compute"].samples_s == (6e-3,) * 4
    product, addition = (side.items["operation", f"Block.up {name} forward []"] for name in ("aten::mm", "aten::add"))
    assert product.time_s == pytest.approx((0.0123456 + 0.02) / 2 / 2)  # two ranks, two steps
    assert product.calls == pytest.approx(2.0)  # 4 calls in 2 steps on each rank
    assert addition.time_s == pytest.approx(0.003 / 2 / 2)  # one of the ranks has none
    assert side.items["kernel", "gemm"].calls == 2.0
    assert (side.items["module", "(none) other"].time_s, side.items["module", "(none) other"].calls) == (0.001, None)
    assert (side.peak_memory_bytes, side.settings) == (284.37e6, {"ranks": "2", "world_size": "2"})


def test_a_damaged_file_is_said_to_be_compared_in_part():
    device = made_up_device(broken=TraceBreak(offset_bytes=1, reason="cut"), memory=())
    side = side_of_traces("t", [device])
    assert side.notes == ("rank0.json is damaged: only a part is compared",)
    assert side.peak_memory_bytes is None
