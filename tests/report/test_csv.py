"""Do the CSV files open cleanly in a spreadsheet and in scripts?"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from records import make_ranks

import hwprof
from hwprof.report.cells import Cell, Column, Table
from hwprof.report.csv import guarded, render_csv
from hwprof.report.run.sheets import build_sheets
from hwprof.specs.record.run import RunRecord

UNIT = re.compile(r"_(s|ms|bytes|flop|fraction|count|per_step|per_s|per_byte|per_device|sequences|steps)$")
ORDINALS = {"rank", "devices", "data_parallel", "tensor_parallel", "pipeline_parallel", "zero_stage"}
"""Columns of plan.csv that number or count devices and stages."""


def parsed(table: Table) -> list[list[str]]:
    return list(csv.reader(io.StringIO(render_csv(table), newline="")))


@pytest.mark.parametrize("name", ["phases", "ops", "memory", "plan"])
def test_csv_is_the_golden_one(name: str, record: RunRecord, golden: Callable[[str, str], None]) -> None:
    sheets = {sheet.name: sheet for sheet in build_sheets(record)}
    golden(f"{name}.csv", render_csv(sheets[name]))


def test_every_numeric_header_ends_in_its_unit(record: RunRecord) -> None:
    for sheet in build_sheets(record):
        for column in sheet.columns:
            if column.style == "number":
                assert UNIT.search(column.name) or column.name in ORDINALS, column.name


def test_first_columns_name_the_row(record: RunRecord) -> None:
    phases, ops, memory, plan = (parsed(sheet) for sheet in build_sheets(record))
    assert [row[0] for row in phases[:3]] == ["phase", "data", "host_to_device"]
    assert ops[0][0] == "op"
    assert memory[0][0] == "part"
    assert [row[0] for row in plan] == ["rank", "1", "2"]


def test_numbers_read_back_in_the_unit_of_their_header(record: RunRecord) -> None:
    _, ops, _, _ = build_sheets(record)
    rows = list(csv.DictReader(io.StringIO(render_csv(ops), newline="")))
    for row, op in zip(rows, record.ops, strict=True):
        assert float(row["time_ms"]) == pytest.approx(1e3 * op.time_s, rel=1e-8)
        assert float(row["lost_ms"]) == pytest.approx(1e3 * op.lost_s, rel=1e-8)
        assert float(row["matmul_flop"]) == pytest.approx(op.matmul_flop)


def test_a_record_without_data_gives_headers_alone(bare_record: RunRecord) -> None:
    for sheet in build_sheets(bare_record):
        assert len(parsed(sheet)) == 1


def test_several_ranks_have_two_more_sheets(record: RunRecord) -> None:
    sheets = build_sheets(make_ranks(record))
    assert [sheet.name for sheet in sheets] == ["phases", "ops", "memory", "plan", "ranks", "collectives"]
    ranks = list(csv.DictReader(io.StringIO(render_csv(sheets[-2]), newline="")))
    assert [(row["rank"], row["data"], row["host"]) for row in ranks[:2]] == [("0", "0", "here"), ("1", "1", "here")]
    assert float(ranks[2]["late_s"]) > 0 == float(ranks[1]["late_s"])
    (collective,) = csv.DictReader(io.StringIO(render_csv(sheets[-1]), newline=""))
    assert (collective["collective"], collective["size_bytes"]) == ("all_reduce", "4000000")
    assert "place" not in ranks[0]


def one_cell(text: str, value: str | float, style: str) -> Table:
    column = Column(name="name", title="Name", style=style)
    return Table(name="t", title="T", columns=(column,), rows=((Cell(value=value, text=text),),))


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_text_that_would_run_as_a_formula_is_prefixed(start: str) -> None:
    assert parsed(one_cell(f"{start}cmd()", f"{start}cmd()", "text"))[1] == [f"'{start}cmd()"]


def test_negative_numbers_stay_numbers() -> None:
    assert parsed(one_cell("-0.25", -0.25, "number"))[1] == ["-0.25"]


@given(st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), min_size=1))
def test_any_text_survives_quoting_and_never_starts_a_formula(text: str) -> None:
    (cell,) = parsed(one_cell(text, text, "text"))[1]
    assert cell.removeprefix("'") == text.removeprefix("'")
    assert cell[0] not in "=+-@\t\r"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("=1+1", "'=1+1"),
        ("  @x", "'  @x"),
        ("-1.5e-3", "-1.5e-3"),
        ("-2+3", "'-2+3"),
        ("", ""),
        ("\tx", "'\tx"),
        ("+5", "+5"),
    ],
)
def test_numbers_stay_numbers_and_what_would_run_is_text(text: str, expected: str) -> None:
    assert guarded(text) == expected


def test_no_other_module_writes_csv() -> None:
    """So that none can leave a formula unguarded."""
    package = Path(hwprof.__file__).parent
    writers = [path.name for path in package.rglob("*.py") if re.search(r"csv\.(writer|DictWriter)", path.read_text())]
    assert writers == ["csv.py"]
