"""Who speaks for a device without kernels of its own: the same chip, the same instructions, the nearest balance."""

from __future__ import annotations

import pytest

from hwprof.predict.curves.lenders import kinship, lenders, lent_width
from hwprof.specs.catalogue.kernel_points import KernelTable, table_of
from hwprof.specs.catalogue.lookup import load_device


@pytest.mark.parametrize(
    ("one", "other", "kin"),
    [
        ("h100-sxm5-80gb", "h200-sxm5-141gb", 0),
        ("gb300-nvl72", "b300-sxm-288gb", 0),
        ("b300-sxm-288gb", "b200-sxm-180gb", 1),
        ("rtx-pro-6000-blackwell-server", "a100-sxm4-80gb", 1),
        ("rtx-pro-6000-blackwell-server", "b200-sxm-180gb", 2),
        ("h100-sxm5-80gb", "a100-sxm4-80gb", 2),
        ("mi210", "mi100", 1),
    ],
)
def test_kinship_is_by_chip_and_by_instructions_for_products(one, other, kin):
    assert kinship(load_device(one), load_device(other)) == kin


def table(*devices):
    points = table_of(["dtype", "seconds"], [["bf16", "1"]], where="a test")
    return KernelTable.holding("gemm", dict.fromkeys(devices, points))


@pytest.mark.parametrize(
    ("device", "measured", "lent_by"),
    [
        ("h100-sxm5-80gb", ("a100-sxm4-80gb", "h100-sxm5-80gb", "h200-sxm5-141gb"), ["h200-sxm5-141gb"]),
        ("l40s", ("h100-sxm5-80gb", "a40", "rtx-pro-6000-blackwell-server"), ["rtx-pro-6000-blackwell-server", "a40"]),
        ("mi300x", ("h100-sxm5-80gb", "a40"), []),
    ],
)
def test_lenders_are_of_one_vendor_and_the_nearest_kin(device, measured, lent_by):
    found = lenders(table(*measured), load_device(device), "bf16", lambda points: len(points) > 0)
    assert [one.id for one in found] == lent_by


def test_points_that_can_not_serve_are_not_asked():
    assert lenders(table("h200-sxm5-141gb"), load_device("h100"), "bf16", lambda _: False) == []


def test_a_board_with_little_power_for_its_peak_is_less_certain():
    """An L4 has 72 W for 30 TFLOP/s in single precision, a V100 250 W for 14."""
    v100, l4, t4 = (load_device(name) for name in ("v100-pcie-32gb", "l4", "t4"))
    assert lent_width(l4, v100, (0.1, 0.2, 0.3)) > 0.9
    assert lent_width(v100, l4, (0.1, 0.2, 0.3)) == pytest.approx(0.2)
    assert 0.3 < lent_width(t4, v100, (0.1, 0.2, 0.3)) < 0.6
