"""Kernels without products: the memory's bandwidth when large, a launch when small, and who says so."""

from __future__ import annotations

import numpy as np
import pytest

from hwprof.errors import InputError
from hwprof.predict.kernels.traffic.elementwise import PASSES, ElementwiseKind, elementwise_s
from hwprof.predict.kernels.traffic.rows import elementwise_rows
from hwprof.specs.catalogue.kernel_points import KernelTable, kernel_table, table_of
from hwprof.specs.catalogue.lookup import load_device

TABLE = kernel_table("elementwise")


def rises(values):
    """Up to the rounding of what lies between two knots."""
    return bool((np.diff(values) >= -1e-9 * values[1:]).all())


def kind(op="add", dtype="fp32", library="eager", *, queued=False):
    return ElementwiseKind(op=op, dtype=dtype, library=library, queued=queued)


def asked_of(device, asked, rows, width, table=TABLE):
    rows, width = np.broadcast_arrays(np.asarray(rows, float), np.asarray(width, float))
    return elementwise_s(rows.ravel(), width.ravel(), load_device(device), asked, table=table)


@pytest.mark.parametrize("device", ["a100-pcie-40gb", "v100-pcie-32gb", "p100-pcie-16gb", "mi100", "l40s", "h200"])
def test_large_additions_move_three_tensors_at_most_of_the_bandwidth(device):
    found = asked_of(device, kind(), 1e5, 1e4)
    share = 3 * 4 * 1e9 / found.seconds[0] / load_device(device).memory.bandwidth_byte_per_s
    assert 0.7 < share < 0.95


def test_two_bytes_take_half_the_time_of_four():
    wide, narrow = (asked_of("a100-pcie-40gb", kind(dtype=one), 1e5, 1e4).seconds[0] for one in ("fp32", "bf16"))
    assert wide / narrow == pytest.approx(2, rel=0.02)


def test_a_queued_kernel_hides_the_hosts_launch():
    eager, queued = (asked_of("a100-pcie-40gb", kind(queued=one), 4.0, 512.0).seconds[0] for one in (False, True))
    assert eager > 20e-6
    assert queued < 8e-6


@pytest.mark.parametrize("op", PASSES)
@pytest.mark.parametrize(
    ("device", "library"), [("a100-pcie-40gb", "eager"), ("h100-sxm5-80gb", "serving"), ("t4", "eager")]
)
def test_more_work_never_takes_less_time(op, device, library):
    steps = 2.0 ** np.arange(0, 17, 0.3)
    for other in (3.0, 900.0):
        assert rises(asked_of(device, kind(op, "fp16", library), steps, other).seconds)
        assert rises(asked_of(device, kind(op, "fp16", library), other, steps).seconds)


def test_a_device_left_out_lies_inside_what_the_others_say():
    """V100's additions by A100, P100, P4 and MI100: their shares of their own bandwidth."""
    mine = TABLE.of("v100-pcie-32gb")
    mine = mine.where((mine.words["op"] == "add") & (mine.numbers["rows"] * mine.numbers["width"] > 1e6))
    others = {name: TABLE.of(name) for name in ("a100-pcie-40gb", "p100-pcie-16gb", "p4", "mi100")}
    table = KernelTable.holding("elementwise", others)
    found = asked_of("v100-pcie-32gb", kind(), mine.numbers["rows"], mine.numbers["width"], table)
    assert found.basis.word == "sibling"
    assert "mi100" in found.basis.text
    assert np.median(np.abs(np.log(found.seconds / mine.seconds))) < 0.2
    assert ((found.lo_s <= mine.seconds) & (mine.seconds <= found.hi_s)).mean() > 0.9


def test_unknown_words_are_refused():
    for asked in (kind("sort"), kind(dtype="int1"), kind(library="mine")):
        with pytest.raises(InputError, match="is unknown"):
            asked_of("h100", asked, 1.0, 1.0)


def table_rows(*cells, names=("op", "dtype", "rows", "width", "seconds")):
    return table_of(names, [[str(cell) for cell in row] for row in cells], where="test")


def test_rows_are_grouped_by_their_elements_and_refused_by_reason():
    table = table_rows(
        ["add", "fp32", 1000, 1000, "nan"], ["add", "fp32", 10, 1000, "nan"], ["fly", "fp32", 1, 1, "nan"]
    )
    times = elementwise_rows(load_device("p4"), table, TABLE)
    assert times.group[:2] == ["elementwise of a million elements", "elementwise below"]
    assert times.refused[:2] == ["", ""]
    assert "op 'fly' is unknown" in times.refused[2]


def test_a_rotary_row_without_keys_lies_between_few_keys_and_many():
    names = ("op", "dtype", "rows", "width", "seconds", "key_width")
    known = table_rows(["rope", "fp16", 4096, 4096, "nan", 512], ["rope", "fp16", 4096, 4096, "nan", 4096], names=names)
    few, many = elementwise_rows(load_device("h100"), known, TABLE).seconds
    unknown = elementwise_rows(load_device("h100"), table_rows(["rope", "fp16", 4096, 4096, "nan"]), TABLE)
    assert few < unknown.seconds[0] < many
    assert unknown.lo_s[0] < few
    assert unknown.hi_s[0] > many
