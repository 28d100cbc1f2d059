"""Is whatever stands in a file one line of error, in no time, and never a command to a terminal or a spreadsheet?"""

from __future__ import annotations

import csv
import json
import lzma
import os
from pathlib import Path

import pytest
from made_up_record import made_up_record

from hwprof.cli import cli
from hwprof.cli.view import command as view
from hwprof.report.files.run import record_text
from hwprof.report.files.run_list import RunFolder, list_page
from hwprof.simulate.published.validation import validate
from hwprof.specs.catalogue.published import read_published
from hwprof.specs.catalogue.simulator import simulator_parameters

ROWS = Path(__file__).resolve().parents[2] / "hardware_specs" / "published" / "measurements.csv.xz"
COUNT = ("count", "--batch-size", "1", "--seq-len", "8", "--model")
GIANT = "1" + 400 * "0"


def _deep(levels: int) -> str:
    return '{"a":' * levels + "1" + "}" * levels


def _one_line(failed, *words) -> str:
    code, error = failed(*words)
    assert code == 2, error
    assert error.count("\n") == 1
    assert "hwprof did not expect" not in error
    return error


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"name = 'x'\nlayers = {GIANT}\n", "number of more than 300 digits"),
        (f"kind = 'decoder'\nlayers = {'9' * 30}\n", "expected a finite number"),
        ("a = " + "[" * 200_000, "is not TOML"),
        (".".join(["a"] * 2000) + " = 1\n", "more than 100 tables within tables"),
        ("kind = 'decoder'\nlayers = inf\n", "expected a finite number"),
    ],
    ids=["giant", "large", "brackets", "tables", "infinite"],
)
def test_toml_with_numbers_or_levels_without_end(tmp_path, failed, text, said):
    path = tmp_path / "model.toml"
    path.write_text(text)
    assert said in _one_line(failed, "specs", "check", path)
    assert said in _one_line(failed, *COUNT, path)


@pytest.mark.parametrize("text", [_deep(200_000), _deep(500), f'{{"layers": {GIANT}}}'])
@pytest.mark.parametrize("words", [COUNT, ("view",), ("simulate", "--devices", "1", "--hardware")])
def test_json_with_numbers_or_levels_without_end(tmp_path, failed, text, words):
    path = tmp_path / "config.json"
    path.write_text(text)
    _one_line(failed, *words, path)


@pytest.mark.parametrize("changes", [{"num_hidden_layers": 10**9}, {"vision_config": {"depth": 10**9}}])
def test_layers_without_end_are_not_made_to_be_captured(tmp_path, failed, changes):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"model_type": "mamba2", "hidden_size": 64} | changes))
    assert "1,000,000,000, more than the 4,096 layers" in _one_line(failed, *COUNT, path)


@pytest.mark.parametrize(
    "words",
    [
        ("view",),
        COUNT,
        ("validate", "--data"),
        ("validate", "--kernels"),
        ("trace",),
        ("specs", "check"),
        ("run", "--data"),
        ("run", "--tokenizer"),
    ],
)
def test_pipe_in_place_of_a_file_is_refused_and_not_waited_for(tmp_path, failed, words):
    path = tmp_path / "pipe.toml"
    os.mkfifo(path)
    assert "is no file" in _one_line(failed, *words, path)


def _directory(tmp_path, change) -> Path:
    content = json.loads(record_text(made_up_record()))
    change(content)
    (tmp_path / "run.json").write_text(json.dumps(content))
    return tmp_path


def test_series_of_unequal_lengths_is_no_record(tmp_path, failed):
    series = {"name": "power", "unit": "W", "times_s": [0.0, 1.0], "values": [1.0]}
    directory = _directory(tmp_path, lambda content: content.update(telemetry=[series]))
    assert "1 values at 2 times" in _one_line(failed, "view", directory)


def test_one_bad_run_leaves_the_list_of_all(tmp_path):
    good, bad, pipe = tmp_path / "good", tmp_path / "bad", tmp_path / "pipe"
    for folder in (good, bad, pipe):
        folder.mkdir()
    _directory(good, lambda _: None)
    _directory(bad, lambda content: content.update(created=_deep(2), status="complete", settings={}))
    os.mkfifo(pipe / "run.json")
    page = list_page(RunFolder(tmp_path))
    assert 'value="good"' in page
    assert "bad" in page


def test_formulas_are_text_in_the_csv_of_validate(tmp_path):
    from click.testing import CliRunner

    with lzma.open(ROWS, "rt", newline="") as file:
        row = next(csv.DictReader(file))
    path, out = tmp_path / "in.csv", tmp_path / "out.csv"
    rows = [row | {"id": "=cmd|' /C calc'!A0"}, row | {"id": "+1", "precision": "@SUM(1)"}]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, row)
        writer.writeheader()
        writer.writerows(rows)
    result = CliRunner().invoke(cli, ["validate", "--data", str(path), "--csv", str(out)])
    assert result.exit_code == 0, result.output
    with out.open(newline="") as file:
        found = list(csv.DictReader(file))
    assert [one["id"] for one in found] == ["'=cmd|' /C calc'!A0", "+1"]
    assert not any(cell.startswith(("=", "@", "-")) for one in found for cell in one.values())


@pytest.mark.parametrize("column", ["micro_batch_seqs", "vp", "n_layers", "global_batch_seqs", "n_devices"])
def test_row_of_any_size_is_answered_at_once(tmp_path, column):
    """Work grows with no number of a row: a loop over two thousand million would outlive any limit of a test."""
    with lzma.open(ROWS, "rt", newline="") as file:
        row = next(row for row in csv.DictReader(file) if row["pp"] not in {"", "1", "1.0"})
    path = tmp_path / "rows.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, row)
        writer.writeheader()
        writer.writerow(row | {column: str(2**31)})
    assert len(validate(read_published(path), simulator_parameters()).rows) == 1


def test_escapes_of_a_record_do_not_reach_the_terminal(tmp_path):
    from click.testing import CliRunner

    evil = "\x1b]0;owned\x07\x1b[31mred\x9b2J"
    directory = _directory(tmp_path, lambda content: content["model"].update(name=evil))
    result = CliRunner().invoke(view, [str(directory), "--no-write"])
    assert result.exit_code == 0, result.output
    assert "red" in result.output
    assert not {"\x1b", "\x07", "\x9b"} & set(result.output)


def test_escapes_in_names_of_files_do_not_reach_the_terminal(tmp_path, failed):
    assert "\x1b" not in _one_line(failed, "view", tmp_path / "\x1b[31mred")
