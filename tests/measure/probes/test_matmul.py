import dataclasses
import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from made_up_bench import made_up_bench
from scripted_timer import ScriptedTimer

from hwprof.errors import WorkError
from hwprof.measure.probes import matmul
from hwprof.measure.probes.bench import CannotRunError
from hwprof.measure.probes.matmul import (
    MatmulShape,
    check_product,
    distinct,
    matmul_ceiling,
    pilot_flop_per_s,
    shape_ceiling,
)
from hwprof.measure.probes.sampling import Samples
from hwprof.measure.timing import WallTimer

CPU = torch.device("cpu")
SMALL = (MatmulShape(4, 4, 4), MatmulShape(8, 4, 2), MatmulShape(2, 2, 2))


@pytest.fixture
def small_sweep(monkeypatch):
    monkeypatch.setattr(matmul, "_CPU_SWEEP", SMALL)
    monkeypatch.setattr(matmul, "_PILOT_SIDES", (4,))


def test_a_multiply_add_is_two_flop():
    assert MatmulShape(3, 5, 7).flop == 210  # 3 x 5 elements of 7 multiply-adds each, twice
    assert str(MatmulShape(3, 5, 7)) == "3x5x7"


@pytest.mark.usefixtures("small_sweep")
def test_the_best_shape_of_the_sweep_is_the_ceiling():
    # pilot of 128 FLOP in 0.1 s; then 128 FLOP in 1 s, 128 FLOP in 0.5 s, 16 FLOP in 0.25 s
    script = [0.1] * 3 + [1.0] * 5 + [0.5] * 5 + [0.25] * 5
    found = matmul_ceiling(made_up_bench(ScriptedTimer(script)), "fp32")
    assert found.value == 256.0
    assert (found.name, found.dtype, found.unit) == ("matmul.fp32", "fp32", "flop_per_s")
    assert found.conditions["shape_mxnxk"] == "8x4x2"
    assert found.conditions["shapes_tried"] == 3


@pytest.mark.parametrize(("told", "kept"), [("brg_matmul:avx512_core", "brg_matmul:avx512_core"), ("", " (BLAS)")])
def test_a_product_on_a_cpu_says_with_which_instructions_it_ran(monkeypatch, told, kept):
    monkeypatch.setattr(matmul, "_CPU_SWEEP", SMALL[:1])
    monkeypatch.setattr(matmul, "_PILOT_SIDES", (4,))
    monkeypatch.setattr(matmul, "products_run_on", lambda _dtype: told)
    found = matmul_ceiling(made_up_bench(ScriptedTimer(itertools.repeat(0.5))), "fp32")
    assert found.conditions["runs_on"].endswith(kept)


def test_shapes_that_take_longer_than_their_part_of_the_time_are_left_out(monkeypatch):
    monkeypatch.setattr(matmul, "_CPU_SWEEP", (MatmulShape(4, 4, 4), MatmulShape(64, 64, 64)))
    monkeypatch.setattr(matmul, "_PILOT_SIDES", (4,))
    # 512 FLOP/s: the second shape's 524288 FLOP, six times, would take over an hour
    found = matmul_ceiling(made_up_bench(ScriptedTimer([0.25] * 8), probe_s=60.0), "fp32")
    assert found.conditions["shapes_tried"] == 1


def test_a_full_probe_tries_more_shapes_and_each_once(monkeypatch):
    quick, full = (
        matmul.sweep_of(made_up_bench(ScriptedTimer([]))),
        matmul.sweep_of(made_up_bench(ScriptedTimer([]), thorough=True)),
    )
    assert set(quick) < set(full)
    assert len(set(full)) == len(full)
    monkeypatch.setattr(matmul, "_CPU_SWEEP", SMALL[:1])
    monkeypatch.setattr(matmul, "_CPU_MORE", SMALL)
    monkeypatch.setattr(matmul, "_PILOT_SIDES", (4,))
    found = matmul_ceiling(made_up_bench(ScriptedTimer(itertools.repeat(0.5)), thorough=True), "fp32")
    assert found.conditions["shapes_tried"] == 3


def test_on_a_gpu_the_best_shape_is_measured_again_after_a_second_of_load():
    asked = []

    def at_shape(where, shape, _deadline_s):
        asked.append((shape, where.warmups))
        seconds = shape.flop / 1000 * len(asked)  # the first is the best, and slower under load
        timed = Samples(seconds=(seconds,), warmups=where.warmups, repeats=1, discarded=0)
        return where.ceiling("matmul.bf16", "compute", timed, work_per_call=shape.flop)

    real = dataclasses.replace(made_up_bench(WallTimer(), thorough=True), device=torch.device("cuda", 0))
    found = matmul.best_of_sweep(real, SMALL, at_shape, flop_per_s=1e12)
    assert asked == [*((shape, 1) for shape in SMALL), (SMALL[0], 8)]  # 0.128 s a call: eight of them last a second
    assert found.conditions["before_sustained_load_flop_per_s"] == 1000.0
    assert found.value == 250.0


def test_a_dtype_whose_small_product_takes_too_long_is_not_measured():
    with pytest.raises(CannotRunError, match=r"fp32 is too slow here: one 256x256x256 product takes 2 s"):
        pilot_flop_per_s(made_up_bench(ScriptedTimer(itertools.repeat(2.0))), "fp32")


def test_the_pilot_stops_at_the_first_size_that_takes_five_milliseconds():
    # 256 cubed in 1 ms, then 512 cubed (268435456 FLOP) in 8 ms, each three times
    script = [1e-3] * 3 + [8e-3] * 3
    assert pilot_flop_per_s(made_up_bench(ScriptedTimer(script)), "fp32") == pytest.approx(268435456 / 8e-3)


def test_tf32_has_no_meaning_on_a_cpu():
    with pytest.raises(CannotRunError, match="tensor cores"):
        matmul_ceiling(made_up_bench(ScriptedTimer([])), "tf32")


@pytest.mark.parametrize(
    ("capability", "dtype", "reason"),
    [((7, 5), "bf16", r"needs compute capability 8\.0; this device has 7\.5"), ((7, 0), "tf32", r"has 7\.0")],
)
def test_an_old_gpu_is_not_measured_in_a_dtype_that_it_emulates(monkeypatch, capability, dtype, reason):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: capability)
    with pytest.raises(CannotRunError, match=reason):
        matmul.require_support(torch.device("cuda", 0), dtype)


def test_a_shape_is_named_and_counted_by_its_own_dimensions():
    found = shape_ceiling(made_up_bench(ScriptedTimer([0.5] * 5)), "bf16", MatmulShape(6, 10, 4), deadline_s=1000.0)
    assert found.name == "matmul.bf16.6x10x4"
    assert found.value == 960.0  # 2 x 6 x 10 x 4 FLOP in 0.5 s


def test_a_shape_is_refused_where_its_dtype_is():
    with pytest.raises(CannotRunError, match="tensor cores"):
        shape_ceiling(made_up_bench(ScriptedTimer([])), "tf32", MatmulShape(1, 1, 1), deadline_s=3.0)


@pytest.mark.usefixtures("small_sweep")
def test_the_process_s_own_precision_comes_back_after_a_probe():
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        matmul_ceiling(made_up_bench(ScriptedTimer(itertools.repeat(0.1))), "fp32")
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


def test_fp32_is_measured_in_true_fp32_and_tf32_in_tf32():
    with matmul.matmul_precision("fp32"):
        assert torch.get_float32_matmul_precision() == "highest"
    with matmul.matmul_precision("tf32"):
        assert torch.get_float32_matmul_precision() == "high"


def operands(m=32, n=24, k=64, dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(m, k, generator=generator).to(dtype), torch.randn(n, k, generator=generator).to(dtype)


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
def test_a_right_product_passes_in_each_dtype(dtype):
    x, w = operands(dtype=matmul.TORCH_DTYPE[dtype], k=1024)
    check_product(torch.nn.functional.linear(x, w), x, w, tolerance=matmul._TOLERANCE[dtype])


def wrong_products():
    x, w = operands()
    y = x @ w.t()
    half = x[:, :32] @ w[:, :32].t()
    last_row = y.clone()
    last_row[-1] = 0
    return {
        "all zero": torch.zeros_like(y),
        "only half of k": half,
        "last row missing": last_row,
        "not a number": y * float("nan"),
        "transposed weights": torch.nn.functional.linear(x, w.flip(0)),
    }


@pytest.mark.parametrize("case", wrong_products())
def test_a_wrong_product_is_an_error_in_the_coarsest_dtype_too(case):
    x, w = operands()
    with pytest.raises(WorkError, match="product is wrong"):
        check_product(wrong_products()[case], x, w, tolerance=matmul._TOLERANCE["bf16"])


def test_products_on_a_cpu_are_timed_without_a_cache_flush():
    assert matmul.l2_flush(CPU) is None


@given(st.lists(st.builds(MatmulShape, st.integers(1, 3), st.integers(1, 3), st.integers(1, 3))))
def test_repeated_shapes_are_measured_once_and_keep_their_order(shapes):
    found = distinct(shapes)
    assert set(found) == set(shapes)
    assert len(found) == len(set(shapes))
    assert sorted(found, key=shapes.index) == list(found)


def test_a_real_product_runs_between_a_megaflop_and_a_petaflop_per_second():
    real = made_up_bench(WallTimer(), probe_s=0.2, samples=3)
    found = shape_ceiling(real, "fp32", MatmulShape(128, 128, 128), deadline_s=0.2)
    assert 1e6 < found.value < 1e15


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and none is visible")
def test_bf16_is_faster_than_fp32_on_a_gpu_with_tensor_cores():
    from hwprof.measure.probes.device import bench_for

    real = bench_for(torch.device("cuda", 0), quick=True)
    assert matmul_ceiling(real, "bf16").value > 2 * matmul_ceiling(real, "fp32").value
