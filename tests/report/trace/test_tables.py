"""Do the tables of analysed traces say where the time went, with units, and leave out what says nothing?"""

from __future__ import annotations

import pytest
from made_up_trace import OP, made_up_device, made_up_report, made_up_step

from hwprof.report.trace.tables import (
    broken_words,
    detail_tables,
    device_title,
    headline,
    part_table,
    sheets,
    together_tables,
    waiting_words,
)
from hwprof.specs.record.stragglers import RankWait, Stragglers
from hwprof.specs.record.trace import TraceBreak
from hwprof.specs.record.trace_rows import TraceOp


def shown(table):
    """Heading -> the texts below it."""
    headings = [f"{column.title} [{column.unit}]" if column.unit else column.title for column in table.columns]
    return dict(zip(headings, zip(*([cell.text for cell in row] for row in table.rows), strict=True), strict=True))


def details(top=10, **changes):
    return {table.name: table for table in detail_tables(made_up_device(**changes), top)}


def test_parts_are_named_for_people_with_their_shares_in_order():
    assert shown(part_table(made_up_device())) == {
        "Part": (
            "computation",
            "exposed communication",
            "idle: waiting for the next batch",
            "idle: waiting for the host",
        ),
        "Share [%]": ("60", "10", "20", "10"),
    }


def test_the_sentence_has_the_three_largest_parts_largest_first():
    shares = {"compute": 0.1, "communication": 0.45, "input": 0.2, "host": 0.25}
    assert headline(made_up_device(shares=shares)) == (
        "Most time: exposed communication 45 %, idle: waiting for the host 25 %, idle: waiting for the next batch 20 %."
    )


def test_the_title_says_which_device_how_many_steps_and_how_long():
    assert device_title(made_up_device(1, step_median_s=0.0123456)) == (
        "Rank 1 of 2, H100 (gpu:0): 2 steps of 12.35 ms (median)"
    )
    one = made_up_device(steps=(made_up_step(1),))
    assert device_title(one).endswith("one step of 10 ms")


def test_a_damaged_file_is_said_to_be_read_in_part():
    assert broken_words(made_up_device()) == ""
    broken = TraceBreak(offset_bytes=4711, reason="no closing quote")
    assert broken_words(made_up_device(broken=broken)) == (
        "BROKEN at byte 4711: no closing quote; this is what stands before."
    )


def test_times_of_kernels_and_steps_have_their_units():
    found = details()
    assert shown(found["kernels"])["Time [ms]"] == ("12.35",)
    assert shown(found["steps"])["Idle [ms]"] == ("3", "3")
    assert shown(found["memory"])["Peak allocated [MB]"] == ("284.4",)
    assert shown(found["memory"])["Growth per step [MB]"] == ("-12.6",)
    assert shown(found["queues"])["Mean queue"] == ("1.234",)


def test_what_has_no_name_is_said_to_have_none():
    found = details()
    assert shown(found["modules"])["Module"] == ("(none)",)
    assert shown(found["critical_path"])["Work"] == ("–",)
    assert shown(found["memory"])["Peak reserved [B]"] == ("–",)


def test_operators_without_shapes_have_no_columns_of_work():
    assert list(shown(details()["ops"])) == ["Operator", "Calls", "Time [ms]", "Share [%]", "Module", "Direction"]
    counted = TraceOp(**OP | {"shapes": "8x8", "matmul_flop": 2e9, "flop_per_s": 1e12, "bound": "compute"})
    columns = shown(details(ops=(counted,))["ops"])
    assert columns["Matrix work [GFLOP]"] == ("2",)
    assert columns["Compute rate [TFLOP/s]"] == ("1",)
    assert columns["Bound by"] == ("compute",)
    assert "Traffic [B]" not in columns


def test_only_the_first_rows_are_shown_and_the_rest_is_counted():
    table = details(top=1)["steps"]
    assert shown(table)["Step"] == ("ProfilerStep#1",)
    assert table.note == "The first 1 of 2; --top N shows more, --format json all."
    assert details(top=2)["steps"].note == ""


def test_a_table_without_rows_is_left_out():
    assert set(details()) - set(details(path=None, kernels=(), findings=())) == {
        "findings",
        "kernels",
        "path_parts",
        "critical_path",
    }


def test_files_have_every_row_in_base_units_and_their_names_say_which():
    found = sheets(made_up_device())
    assert list(found) == [
        "steps",
        "categories",
        "modules",
        "ops",
        "rates",
        "kernels",
        "counters",
        "copies",
        "collectives",
        "gathers",
        "critical_path",
        "causes",
        "queues",
        "memory",
    ]
    assert [column.name for column in found["steps"].columns] == [
        "step",
        "start_s",
        "duration_s",
        "compute_s",
        "communication_s",
        "copies_s",
        "idle_s",
    ]
    assert [row[2].text for row in found["steps"].rows] == ["0.01", "0.01"]
    assert [column.name for column in found["memory"].columns][1:4] == ["peak_bytes", "reserved_bytes", "at_s"]
    assert [cell.text for cell in found["kernels"].rows[0]][:6] == [
        "gemm",
        "compute",
        "unknown",
        "unknown",
        "4",
        "0.0123456",
    ]
    assert sheets(made_up_device(path=None))["critical_path"].rows == ()


def test_one_device_alone_has_no_table_beside_its_own():
    assert together_tables(made_up_report()) == []


def test_several_devices_stand_side_by_side_and_who_waited_for_whom_below():
    ranks = tuple(
        RankWait(rank=rank, waited_s=waited_s, caused_s=1e-3 - waited_s, last=3 * rank)
        for rank, waited_s in enumerate((1e-3, 0.0))
    )
    waits = Stragglers(collectives=9, unmatched=2, transfer_s=1e-3, ranks=ranks, note="Clocks are not compared.")
    devices, stragglers = together_tables(made_up_report(made_up_device(0), made_up_device(1), stragglers=waits))
    assert shown(devices)["95 % interval"] == ("9.9 to 10.2 ms", "9.9 to 10.2 ms")
    assert shown(devices)["Exposed copies [%]"] == ("0", "0")
    assert shown(devices)["Comm. hidden [%]"] == ("50", "50")
    assert shown(stragglers)["Waited [ms]"] == ("1", "0")
    assert shown(stragglers)["Came last"] == ("0", "3")
    assert stragglers.note == "9 collectives that all ranks share; 2 others. Clocks are not compared."
    assert pytest.approx(1e-3) == stragglers.rows[1][2].value


def test_the_rank_that_the_others_waited_for_is_named_with_its_cause():
    ranks = (
        RankWait(rank=0, waited_s=3e-3, caused_s=0.0, last=0, cause=""),
        RankWait(rank=1, waited_s=0.0, caused_s=3e-3, last=4, cause="input"),
    )
    waits = Stragglers(collectives=9, unmatched=0, transfer_s=1e-3, ranks=ranks)
    words = waiting_words(made_up_report(stragglers=waits))
    assert words.startswith("Rank 1 made the others wait most, 3 ms")
    assert "last to 4 of 9 collectives" in words
    assert words.endswith("more than the others of: input.")
    quiet = Stragglers(collectives=9, unmatched=0, transfer_s=1e-3, ranks=ranks[:1])
    assert waiting_words(made_up_report(stragglers=quiet)) == ""
    assert waiting_words(made_up_report()) == ""


def test_what_is_above_its_roof_is_said_to_be():
    fast = TraceOp(**OP | {"op": "aten::index", "roof_fraction": 7.8, "roof_name": "memory.dram"})
    table = details(top=1, ops=(fast, TraceOp(**OP)))["ops"]
    assert table.note.startswith("1 of 2 are above their roof (the most aten::index, 780 %)")
    assert table.note.endswith("--format json all.")
    assert "above" not in details(ops=(TraceOp(**OP),))["ops"].note
