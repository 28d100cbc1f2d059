"""Does a module's row add up its operations?"""

from __future__ import annotations

import pytest

from hwprof.report.run.module_table import module_table


def test_rows_hold_both_directions_and_lose_nothing(record):
    table = module_table(record)
    names = [column.name for column in table.columns]
    rows = [dict(zip(names, (cell.value for cell in row), strict=True)) for row in table.rows]
    assert {row["module"] for row in rows} == {op.label for op in record.ops}
    for quantity in ("time", "lost", "roof"):
        assert sum(row[quantity] for row in rows) == pytest.approx(
            sum(getattr(op, f"{quantity}_s") for op in record.ops)
        )
    times = [row["time"] for row in rows]
    assert times == sorted(times, reverse=True)
    row = next(row for row in rows if row["forward"] and row["backward"])
    assert row["time"] == pytest.approx(row["forward"] + row["backward"])


def test_recompute_is_part_of_a_modules_backward(record):
    op = record.ops[0]
    times = {"forward": 1.0, "backward": 2.0, "recompute": 4.0}
    ops = tuple(op.model_copy(update={"direction": name, "time_s": time_s}) for name, time_s in times.items())
    table = module_table(record.model_copy(update={"ops": ops}))
    (row,) = table.rows
    found = dict(zip((column.name for column in table.columns), (cell.value for cell in row), strict=True))
    assert (found["time"], found["forward"], found["backward"]) == (7.0, 1.0, 6.0)


def test_a_run_without_operations_says_so(bare_record):
    assert module_table(bare_record).empty.startswith("No operation times: the run was interrupted")
