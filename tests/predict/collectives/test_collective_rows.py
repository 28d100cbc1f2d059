"""Rows of a table of collectives: which are predicted, under which group, and which are refused with the reason."""

from __future__ import annotations

import numpy as np
import pytest

from hwprof.predict.collectives.rows import COLLECTIVE_COLUMNS, collective_rows, machine_for
from hwprof.specs.catalogue.kernel_points import kernel_table, table_of
from hwprof.specs.catalogue.lookup import load_device


def rows_of(device, *rows):
    names = (*COLLECTIVE_COLUMNS, "seconds")
    asked = table_of(names, [[*map(str, row), "nan"] for row in rows], where="test")
    return collective_rows(load_device(device), asked, kernel_table("collectives"))


def test_rows_keep_their_order_and_their_group():
    found = rows_of(
        "h100-sxm",
        ("scale-up", "all_reduce", 8, 8, 2**26),
        ("scale-up", "all_gather", 2, 2, 2**14),
        ("scale-up", "all_reduce", 8, 8, 2**19),
    )
    assert found.group == ["collectives over 1 MB", "collectives under 256 kB", "collectives between"]
    assert found.seconds == pytest.approx([324.5e-6, 6.2e-6, 20.1e-6], rel=0.15)
    assert (found.lo_s < found.seconds).all()
    assert (found.seconds < found.hi_s).all()
    assert found.refused == ["", "", ""]


def test_a_machine_known_by_its_rows_is_met_by_its_name():
    """A pair of bridged cards, and four of them over PCIe; two nodes of an older network."""
    found = rows_of(
        "a100-sxm4-80gb",
        ("a100_pairwise_nvlink", "all_reduce", 2, 2, 2**26),
        ("a100_pairwise_nvlink", "all_reduce", 4, 4, 2**26),
        ("a100_dgx", "send_recv", 2, 1, 2**25),
        ("a100_dgx", "all_reduce", 16, 8, 2**25),
    )
    assert found.seconds == pytest.approx([400e-6, 4300e-6, 4400e-6, 3700e-6], rel=0.15)
    assert {basis.word for basis in found.bases.values()} == {"measured"}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (("scale-up", "all_to_all", 8, 8, 1024), "op 'all_to_all' is none of all_gather, reduce_scatter, all_reduce"),
        (("scale-up", "all_reduce", 1, 8, 1024), "1 ranks, 8 in a node: expected at least 2"),
        (("scale-up", "all_reduce", 2.5, 8, 1024), "2.5 ranks, 8 in a node: expected at least 2"),
        (("h100_cluster", "all_reduce", 8, 8, 1024), "link 'h100_cluster' is not scale-up, and no measured all_reduce"),
        (("h100_dgx", "all_reduce", 16, 8, 1024), "link 'h100_dgx' is not scale-up, and no measured all_reduce"),
    ],
)
def test_what_is_not_known_is_refused_with_the_reason(row, reason):
    found = rows_of("h100-sxm", row, ("scale-up", "all_gather", 8, 8, 2**20))
    assert found.refused[0].startswith(reason)
    assert np.isnan([found.seconds[0], found.lo_s[0], found.hi_s[0]]).all()
    assert found.refused[1] == ""
    assert found.seconds[1] == pytest.approx(17.1e-6, rel=0.15)


def test_devices_in_fewer_nodes_than_the_usual_ones_are_as_the_row_says():
    """72 of an NVL72 meet over NVLink in trays of 4; 16 cards without NVLink over PCIe and a network."""
    assert machine_for(load_device("gb200"), 8, 4).domain == 8
    assert machine_for(load_device("h100-sxm"), 8, 4).domain == 4
    assert machine_for(load_device("l40s"), 8, 8).domain == 8


def test_nodes_that_no_file_joins_are_predicted_with_a_much_wider_interval():
    """RTX 4090: no network is stated, so from a quarter to four times the assumed one."""
    wide = rows_of("rtx-4090", ("scale-up", "all_gather", 16, 8, 2**28))
    known = rows_of("h100-sxm", ("scale-up", "all_gather", 16, 8, 2**28))
    assert wide.hi_s[0] / wide.lo_s[0] > 16
    assert known.hi_s[0] / known.lo_s[0] == pytest.approx(np.exp(1.0))
