"""Products: near what others measured best, within the roof, never falling with work, said by the most trusted."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from hwprof.errors import InputError, SpecError
from hwprof.predict.kernels.formats import FORMATS
from hwprof.predict.kernels.products import Products, product_s
from hwprof.specs.catalogue.kernel_points import KernelTable, kernel_table, table_of
from hwprof.specs.catalogue.lookup import load_device

TABLE = kernel_table("gemm")


def products(m, n, k, batch=1.0):
    m, n, k, batch = np.broadcast_arrays(*(np.asarray(one, float) for one in (m, n, k, batch)))
    return Products(m=m, n=n, k=k, batch=batch)


def times(device, dtype, asked, table=TABLE, **changes):
    return product_s(asked, load_device(device), dtype, table=table, **changes)


@pytest.mark.parametrize(
    ("device", "dtype", "flop_per_s"),
    [
        ("a100-sxm4-80gb", "bf16", 271e12),
        ("h100-sxm5-80gb", "bf16", 794.5e12),
        ("h200-sxm5-141gb", "bf16", 794.5e12),
        ("h100-sxm5-80gb", "fp8", 1403e12),
    ],
)
def test_large_products_run_about_as_fast_as_the_best_that_others_found(device, dtype, flop_per_s):
    """The best of many shapes (stas00/ml-engineering, compute/accelerator/README.md), at 8192 x 8192 x 8192."""
    found = times(device, dtype, products([8192.0], 8192, 8192)).seconds[0]
    assert 0.85 < 2 * 8192**3 / found / flop_per_s < 1.05


@pytest.mark.parametrize(
    ("device", "dtype"),
    [
        ("h100-sxm5-80gb", "bf16"),
        ("h100-sxm5-80gb", "fp8-block"),
        ("a100-sxm4-80gb", "bf16"),
        ("rtx-pro-6000-blackwell-server", "nvfp4"),
        ("v100-pcie-32gb", "fp32"),
        ("l40s", "bf16"),
        ("tpu-v5p", "bf16"),
    ],
)
def test_more_work_never_takes_less_time(device, dtype):
    """Across every boundary of tiles and waves up to 700, then by steps of an eighth of an octave."""
    sizes = np.concatenate([np.arange(1, 700), np.exp2(np.arange(9.5, 21, 0.125))])
    for fixed in ((1, 64), (17, 4096), (300, 11008), (4096, 4096), (30000, 8)):
        for asked in (products(sizes, *fixed), products(fixed[0], sizes, fixed[1]), products(*fixed, sizes)):
            found = times(device, dtype, asked).seconds
            assert (np.diff(found) >= -1e-9 * found[1:]).all()


def test_nothing_beats_the_datasheet():
    random = np.random.default_rng(1)
    m, n, k = np.exp(random.uniform(0, 11, (3, 5000)))
    for device, dtype in (
        ("h100-sxm5-80gb", "bf16"),
        ("rtx-pro-6000-blackwell-server", "bf16"),
        ("gb300-nvl72", "nvfp4"),
    ):
        spec, kept = load_device(device), FORMATS[dtype]
        asked = products(m, n, k)
        moved_bytes = (m * k + k * n) * kept.operand_bytes + m * n * kept.result_bytes
        seconds = times(device, dtype, asked).seconds
        assert (seconds >= 2 * m * n * k / spec.matmul_flop_per_s(kept.peak) * (1 - 1e-9)).all()
        assert (seconds >= moved_bytes / spec.memory.bandwidth_byte_per_s * (1 - 1e-9)).all()


def test_shapes_that_were_held_back_are_predicted():
    """A quarter of the shapes, by a hash of their sizes: H100 in bf16, training size and small."""
    points = TABLE.of("h100-sxm5-80gb")
    points = points.where(points.words["dtype"] == "bf16")
    texts = zip(points.numbers["m"], points.numbers["n"], points.numbers["k"], strict=True)
    held = np.array([hashlib.md5(repr([float(x) for x in one]).encode()).digest()[0] % 4 == 0 for one in texts])
    table = KernelTable.holding("gemm", {"h100-sxm5-80gb": points.where(~held)})
    asked = points.where(held)
    sizes = asked.numbers
    found = times("h100-sxm5-80gb", "bf16", products(sizes["m"], sizes["n"], sizes["k"]), table)
    size = np.expm1(np.abs(np.log(found.seconds / asked.seconds)))
    large, small = (sizes["m"] >= 1024) & (found.seconds > 50e-6), sizes["m"] <= 256
    assert min(large.sum(), small.sum()) >= 30
    assert np.median(size[large]) < 0.05
    assert np.quantile(size[large], 0.9) < 0.15
    assert np.median(size[small]) < 0.10
    assert np.quantile(size[small], 0.9) < 0.35
    inside = (found.lo_s <= asked.seconds) & (asked.seconds <= found.hi_s)
    assert inside.mean() > 0.85


def test_a_batch_takes_at_most_as_long_as_its_products_one_by_one():
    for device, dtype in (("h100-sxm5-80gb", "bf16"), ("v100-pcie-32gb", "fp32")):
        one, together = (times(device, dtype, products([512.0], 512, 64, batch)).seconds[0] for batch in (1, 32))
        assert one < together < 32 * one


@pytest.mark.parametrize(
    ("device", "dtype", "word", "named"),
    [
        ("h100-sxm5-80gb", "bf16", "measured", "786 bf16 products measured on h100-sxm5-80gb"),
        ("h200-sxm5-141gb", "fp16", "sibling", "bf16 products measured on h200-sxm5-141gb"),
        ("gb300-nvl72", "bf16", "sibling", "measured on b300-sxm-288gb"),
        ("l40s", "fp8", "sibling", "measured on rtx-pro-6000-blackwell-server"),
        ("tpu-v5p", "bf16", "assumed", "80 % of tpu-v5p's bf16 peak"),
        ("mi300x", "bf16", "assumed", "MI300X (51 %)"),
    ],
)
def test_the_basis_names_who_says_the_time(device, dtype, word, named):
    basis = times(device, dtype, products([4096.0], 4096, 4096)).basis
    assert basis.word == word
    assert named in basis.text


def test_intervals_widen_down_the_order_of_trust():
    asked = products([4096.0], 4096, 4096)
    found = [times(*who, asked) for who in (("b300-sxm-288gb", "bf16"), ("gb300-nvl72", "bf16"), ("tpu-v5p", "bf16"))]
    widths = [one.hi_s[0] / one.lo_s[0] for one in found]
    assert widths == sorted(widths)
    assert widths[0] < widths[1]


def here(*rows):
    names = ("dtype", "batch", "m", "n", "k", "seconds")
    return table_of(names, [[str(cell) for cell in row] for row in rows], where="a probe")


def test_what_was_measured_here_stands_before_what_others_measured():
    """This H100 is half as fast as theirs, where it was measured; so it is nearby, less so far away."""
    asked = products([4096.0, 3800.0], 4096, 4096)
    theirs = times("h100", "bf16", asked)
    probed = here(*(("bf16", 1, m, 4096, 4096, 2 * times("h100", "bf16", products([m], 4096, 4096)).seconds[0])
                    for m in (1024.0, 2048.0, 4096.0, 8192.0)))  # fmt: skip
    found = times("h100", "bf16", asked, here=probed)
    assert found.basis.word == "measured_here"
    assert "4 bf16 products measured here, between them 786" in found.basis.text
    assert found.seconds == pytest.approx(2 * theirs.seconds, rel=0.1)


def test_a_device_that_nobody_measured_takes_its_own_points_even_above_the_datasheet():
    """A CPU whose clock is above the one of its datasheet: 1.5 times the peak that the file states."""
    spec = load_device("cpu-xeon-8480plus")
    best_s = 2 * 4096**3 / (1.5 * spec.matmul_flop_per_s("fp32"))
    probed = here(*(("fp32", 1, size, size, size, best_s * (size / 4096) ** 3) for size in (2048.0, 4096.0)))
    found = times(spec.id, "fp32", products([4096.0, 3000.0], [4096, 3000], [4096, 3000]), here=probed)
    assert found.seconds == pytest.approx([best_s, best_s * (3000 / 4096) ** 3], rel=0.1)
    assert found.basis.text == "2 fp32 products measured here"


def test_a_format_that_a_device_lacks_is_refused():
    with pytest.raises(SpecError, match="a100-sxm4-80gb has no fp8 peak"):
        times("a100-sxm4-80gb", "fp8", products([64.0], 64, 64))


def test_sustained_power_stretches_the_arithmetic_alone():
    """A product of 2 x 4096^3 FLOP holds 138.9 us of arithmetic at 989.4 TFLOP/s; at 90 % of the clock 15.4 us more."""
    asked = products([4096.0], 4096, 4096)
    alone, hot = (times("h100", "bf16", asked, sustained_share=share).seconds[0] for share in (1.0, 0.9))
    assert hot - alone == pytest.approx(15.435e-6, rel=1e-3)


@pytest.mark.parametrize("share", [0.5, 1.1])
def test_a_sustained_share_out_of_bounds_is_refused(share):
    with pytest.raises(InputError, match="out of bounds"):
        times("h100", "bf16", products([64.0], 64, 64), sustained_share=share)


def test_a_product_in_a_step_takes_no_launch_of_the_host():
    """24.2 us for 196 x 96 x 196, twelve times, 1.3 us at the peak; in a graph an H100's shortest takes 2.6 us."""
    asked = products([196.0, 4096.0], [96, 4096], [196, 4096], [12, 1])
    ahead, waiting = (times("h100-sxm5-80gb", "fp32", asked, launched=one).seconds for one in (False, True))
    assert 20e-6 < waiting[0] < 28e-6
    assert 1.3e-6 < ahead[0] < 8e-6
    assert ahead[1] == pytest.approx(waiting[1], rel=0.05)
    assert times("h100-sxm5-80gb", "fp32", products([8.0], 8, 8)).seconds[0] == pytest.approx(2.6e-6, rel=0.05)
    narrow = [times("h100-sxm5-80gb", "bf16", asked, launched=one).seconds for one in (False, True)]
    assert narrow[0].tolist() == narrow[1].tolist()
