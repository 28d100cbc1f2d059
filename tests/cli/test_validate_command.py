"""``hwprof validate``: its JSON contract, its CSV, and tables with bad cells."""

from __future__ import annotations

import csv
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from hwprof.cli.validate import command
from hwprof.specs.catalogue.simulator import simulator_file

SHIPPED = simulator_file().parents[1] / "published" / "measurements.csv.xz"
COLUMNS = [
    "id",
    "measured_step_s",
    "predicted_step_s",
    "step_lo_s",
    "step_hi_s",
    "measured_memory_gib",
    "predicted_memory_gib",
    "memory_lo_gib",
    "memory_hi_gib",
    "assumptions",
    "refused",
]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Six shipped rows, two of them spoilt."""
    with lzma.open(SHIPPED, "rt", newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["step_s"]][::150][:6]
    rows[1]["tp"] = "many"
    rows[3]["accelerator"] = "Abacus 9000"
    path = tmp_path / "runs.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def validated(*arguments: str | Path) -> Any:
    result = CliRunner().invoke(command, [*map(str, arguments), "--format", "json"], catch_exceptions=False)
    assert result.exit_code == 0
    return json.loads(result.stdout)


def test_json_keeps_its_contract(table: Path) -> None:
    found = validated("--data", table)
    assert (found["rows"], found["predicted"]) == (6, 4)
    assert found["coverage"] == pytest.approx(4 / 6)
    assert {"median_abs_pct", "p90_abs_pct", "max_abs_pct", "bias_pct", "interval_coverage"} <= set(found["step_time"])
    assert found["step_time"]["count"] == 4
    assert isinstance(found["memory"], dict)
    assert sum(errors["count"] for errors in found["by_accelerator"].values()) == 4
    assert sum(found["refused"].values()) == 2
    assert any("'many'" in reason for reason in found["refused"])


def test_the_csv_has_a_line_for_each_row_in_order(table: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    validated("--data", table, "--csv", out)
    with out.open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    with table.open(newline="", encoding="utf-8") as file:
        given = [row["id"] for row in csv.DictReader(file)]
    assert list(lines[0]) == COLUMNS
    assert [line["id"] for line in lines] == given
    assert [bool(line["refused"]) for line in lines] == [False, True, False, True, False, False]
    for line in lines:
        if line["refused"]:
            assert line["predicted_step_s"] == line["step_lo_s"] == ""
        else:
            assert float(line["step_lo_s"]) < float(line["predicted_step_s"]) < float(line["step_hi_s"])
            assert float(line["measured_step_s"]) > 0


def test_tables_follow_each_other(table: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    validated("--data", table, "--data", table, "--csv", out)
    with out.open(newline="", encoding="utf-8") as file:
        ids = [line["id"] for line in csv.DictReader(file)]
    assert ids[:6] == ids[6:]
    assert len(ids) == 12


def test_rows_that_measured_nothing_are_predicted_all_the_same(table: Path, tmp_path: Path) -> None:
    with table.open(newline="", encoding="utf-8") as file:
        rows = [row | {"step_s": "", "peak_mem_gib_per_device": ""} for row in csv.DictReader(file)]
    blank, out = tmp_path / "blank.csv", tmp_path / "out.csv"
    with blank.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    found = validated("--data", blank, "--csv", out)
    assert found["predicted"] == 4
    assert out.read_text().count("\n") == 7
    assert found["step_time"]["interval_coverage"] is None


def test_text_shows_errors_and_refusals(table: Path) -> None:
    result = CliRunner().invoke(command, ["--data", str(table)])
    assert result.exit_code == 0
    assert "6 rows, 4 predicted (66.7 %)" in result.stdout
    assert "step time by accelerator" in result.stdout
    assert "refused" in result.stdout


@pytest.mark.parametrize(
    ("text", "fact"),
    [(None, "does not exist"), ("", "has no column"), ("id,model_name\n1,2\n", "has no column accelerator")],
)
def test_a_table_that_is_none_is_exit_code_2(
    failed: Callable[..., tuple[int, str]], tmp_path: Path, text: str | None, fact: str
) -> None:
    path = tmp_path / "runs.csv"
    if text is not None:
        path.write_text(text)
    code, error = failed("validate", "--data", path)
    assert code == 2
    assert fact in error
    assert "Traceback" not in error


def test_a_place_that_cannot_be_written_is_exit_code_1(
    failed: Callable[..., tuple[int, str]], table: Path, tmp_path: Path
) -> None:
    code, error = failed("validate", "--data", table, "--csv", tmp_path / "absent" / "out.csv")
    assert code == 1
    assert "cannot write" in error
