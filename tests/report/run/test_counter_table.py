"""Does the table of a GPU's counters say how much of the run it covers, and how far both agree?"""

from __future__ import annotations

import pytest

from hwprof.report.run.counter_table import counter_table
from hwprof.specs.record.counters import CounterRow, CountersResult


def row(kernel="gemm", **changes):
    plain = {
        "launches": 3,
        "calls": 4.0,
        "time_s": 0.0123456,
        "label": "head",
        "direction": "forward",
        "op_fraction": 0.8,
        "other_ops": 0,
        "counted_bound": "compute",
        "measured_bound": "compute",
    }
    return CounterRow(kernel=kernel, **plain | changes)


def result(*rows, **changes):
    plain = {"source": "ncu.csv", "run_kernels": 4, "file_kernels": 5, "matched_time_fraction": 0.9567}
    return CountersResult(rows=rows, **plain | changes)


def test_a_row_has_the_kernel_s_time_bytes_and_shares_of_peaks():
    one = row(counted_bytes=3e6, measured_bytes=2e6, dram_fraction=0.3, tensor_fraction=0.87251)
    table = counter_table(result(one))
    headings = [f"{column.title} [{column.unit}]".removesuffix(" []") for column in table.columns]
    shown = dict(zip(headings, (cell.text for cell in table.rows[0]), strict=True))
    assert shown == {
        "Kernel": "gemm",
        "Operation": "head",
        "Time [ms]": "12.35",
        "Bound by": "compute",
        "Busiest": "compute",
        "Counted over DRAM [×]": "1.5",
        "DRAM [%]": "30",
        "Tensor pipe [%]": "87.3",
        "Bytes counted [MB]": "3",
        "DRAM bytes [MB]": "2",
        "Of operation [%]": "80",
        "Others": "0",
        "Launches": "3",
    }


def test_the_note_says_what_was_matched_agreed_and_left_out():
    rows = row(counted_bytes=3e6, measured_bytes=2e6), row("add", counted_bound="memory", time_s=1e-3)
    names = ("void at::softmax<8>(int)", "lonely", "c", "d", "e", "f", "g")
    note = counter_table(result(*rows, unmatched=names)).note
    assert note == (
        "2 of 5 kernels in ncu.csv are among the 4 of the run, 95.7 % of its kernel time. "
        "Bound classes agree on 1 of 2 kernels: those of the 20 longest that are most of their operation and whose "
        "class both know. Bytes counted over DRAM bytes measured: 1.5. "
        "Not in the run: at::softmax, lonely, c, d, e and 2 more."
    )


@pytest.mark.parametrize(
    ("changes", "missing"),
    [({"op_fraction": 0.3}, "Bound classes"), ({"measured_bound": "unknown"}, "Bound classes"), ({}, "Bytes counted")],
)
def test_what_can_not_be_compared_is_not_spoken_of(changes, missing):
    note = counter_table(result(row(**changes))).note
    assert missing not in note
    assert "Not in the run" not in note


def test_a_file_without_kernels_of_the_run_says_what_to_do():
    table = counter_table(result(unmatched=("a",), matched_time_fraction=0.0))
    assert table.rows == ()
    assert table.empty == (
        "0 of 5 kernels in ncu.csv are among the 4 of the run, 0 % of its kernel time. Profile the command of this run."
    )
