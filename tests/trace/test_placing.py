"""Which roof binds a recorded operator? By hand, under round ceilings."""

import pytest
from made_up_record import made_up_ceiling

from hwprof.specs.record.trace_rows import TraceOp
from hwprof.trace.placing import placed

CEILINGS = (
    made_up_ceiling("matmul.fp32", 1e12, dtype="fp32"),
    made_up_ceiling("matmul.tf32", 8e12, dtype="tf32"),
    made_up_ceiling("memory.dram", 1e11, level="dram"),
)


def _op(time_s, *, flop, moved_bytes, dtype="float32", calls=2):
    return TraceOp(
        module="", op="aten::mm", direction="forward", shapes="", dtype=dtype, calls=calls, kernels=calls,
        time_s=time_s, share=1.0, matmul_flop=flop, vector_flop=0.0, moved_bytes=moved_bytes,
    )  # fmt: skip


def _placed(op, kind="cpu"):
    (found,) = placed([op], CEILINGS, kind=kind)
    return found.bound, found.roof_name, found.roof_s, found.roof_fraction


def test_product_under_its_own_roof_is_bound_by_compute():
    """4 GFLOP at 1 TFLOP/s take 4 ms of the 5."""
    assert _placed(_op(5e-3, flop=4e9, moved_bytes=1e6)) == (
        "compute",
        "matmul.fp32",
        pytest.approx(4e-3),
        pytest.approx(0.8),
    )


def test_operator_that_moves_much_is_bound_by_memory():
    """300 MB at 100 GB/s take 3 ms of the 4."""
    assert _placed(_op(4e-3, flop=0.0, moved_bytes=3e8)) == (
        "memory",
        "memory.dram",
        pytest.approx(3e-3),
        pytest.approx(0.75),
    )


def test_product_of_fp32_that_is_faster_than_fp32_can_be_is_taken_for_tf32():
    """4 GFLOP in 1 ms are four times the roof of fp32, and half of that of TF32."""
    assert _placed(_op(1e-3, flop=4e9, moved_bytes=1e6), "gpu") == (
        "compute", "matmul.tf32", pytest.approx(0.5e-3), pytest.approx(0.5),
    )  # fmt: skip


def test_product_of_a_type_without_a_roof_is_only_held_against_memory():
    bound, roof, roof_s, _ = _placed(_op(5e-3, flop=4e9, moved_bytes=1e6, dtype="float64"))
    assert (bound, roof) != ("compute", "matmul.fp32")
    assert roof_s == pytest.approx(1e-5)


def test_without_ceilings_or_a_count_nothing_is_said():
    op, unknown = _op(5e-3, flop=4e9, moved_bytes=1e6), _op(5e-3, flop=None, moved_bytes=None)
    assert placed([op], (), kind="cpu") == (op,)
    assert placed([unknown], CEILINGS, kind="cpu") == (unknown,)


def test_what_is_above_its_roof_is_bound_by_nothing():
    """300 MB at 100 GB/s would take 3 ms; it took 1."""
    bound, roof, roof_s, fraction = _placed(_op(1e-3, flop=0.0, moved_bytes=3e8))
    assert (bound, roof) == ("unknown", "memory.dram")
    assert (roof_s, fraction) == (pytest.approx(3e-3), pytest.approx(3.0))


def test_what_may_lie_in_a_cache_and_what_is_short_is_marked():
    """1 MB a call fits 2 MB; two kernels in 15 µs are shorter than 10 each."""
    (cached,) = placed([_op(5e-3, flop=4e9, moved_bytes=2e6)], CEILINGS, kind="gpu", cache_bytes=2e6)
    assert (cached.marks, cached.bound) == (("may be in cache",), "compute")
    (short,) = placed([_op(15e-6, flop=0.0, moved_bytes=1e4)], CEILINGS, kind="gpu")
    assert (short.marks, short.bound) == (("short",), "latency")
    (above,) = placed([_op(1e-3, flop=0.0, moved_bytes=3e8)], CEILINGS, kind="gpu")
    assert (above.marks, above.bound) == (("above its roof",), "unknown")


def test_short_operators_of_a_cpu_are_as_long_as_its_operators_are():
    (op,) = placed([_op(15e-6, flop=0.0, moved_bytes=1e4)], CEILINGS, kind="cpu")
    assert op.marks == ()
