"""`hwprof specs` lists, shows and checks; JSON stands alone on stdout, problems are one line each."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from hwprof.cli.specs import command
from hwprof.errors import UnknownNameError
from hwprof.specs.catalogue.lookup import find_file, load_model

ROOT = Path(__file__).resolve().parents[2]


def run(*words):
    return CliRunner().invoke(command, words)


def test_list_shows_every_sort_as_aligned_text():
    result = run("list")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert [line for line in lines if line in {"models", "devices", "links", "clusters"}] == [
        "models",
        "devices",
        "links",
        "clusters",
    ]
    row = next(line for line in lines if line.startswith("h100-sxm5-80gb"))
    header = next(line for line in lines if line.startswith("device "))
    assert row.index("989 TFLOP/s") == header.index("bf16 dense")
    assert row.index("3.35 TB/s") == header.index("bandwidth")


def test_list_as_json_is_in_base_units():
    result = run("list", "devices", "--format", "json")
    devices = json.loads(result.stdout)["devices"]
    assert len(devices) == len([*(ROOT / "hardware_specs" / "devices").glob("*.toml")])
    h100 = next(device for device in devices if device["id"] == "h100-sxm5-80gb")
    assert h100["memory"]["bandwidth_byte_per_s"] == pytest.approx(3.35e12)


def test_show_prints_the_file_itself_so_that_it_can_start_another():
    result = run("show", "7B")
    assert result.exit_code == 0
    assert result.stdout.split("\n", 1)[1] == find_file("model", "llama-2-7b").read_text()


def test_what_show_prints_is_a_file_that_loads(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(run("show", "tiny").stdout)
    assert load_model(path) == load_model("tiny")


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("tiny", "layers", 4),
        ("h200", "id", "h200-sxm5-141gb"),
        ("nvlink4", "kind", "scale_up"),
        ("dgx-h100", "devices", 8),
        ("16xh100-sxm", "devices_per_node", 8),
    ],
)
def test_show_as_json_finds_names_of_every_sort(name, key, value):
    result = run("show", name, "--format", "json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)[key] == value


def test_show_of_counted_devices_is_a_table():
    result = run("show", "16xh100-sxm")
    assert result.exit_code == 0
    assert "16xh100-sxm5-80gb" in result.stdout


def test_show_of_an_unknown_name_suggests_a_known_one():
    result = run("show", "llama-3.1-80b")
    assert isinstance(result.exception, UnknownNameError)
    assert "did you mean llama-3.1-8" in str(result.exception)


def test_check_finds_the_catalogue_right():
    result = run("check")
    assert result.exit_code == 0
    assert result.stdout.endswith(" files are right\n")


def test_check_prints_one_line_a_problem_and_exits_2(tmp_path):
    (tmp_path / "a.toml").write_text("kind = [[[")
    text = find_file("model", "tiny").read_text()
    (tmp_path / "b.toml").write_text(text.replace("layers = 4", "layers = 0").replace("heads = 4", "heads = 0"))
    (tmp_path / "c.toml").write_text(text)
    result = run("check", str(tmp_path))
    assert result.exit_code == 2
    assert result.stdout == ""
    assert [line.split("/")[-1][:6] for line in result.stderr.splitlines()] == ["a.toml", "b.toml", "b.toml"]


def test_check_of_a_missing_file_or_an_empty_folder_exits_2(tmp_path):
    assert run("check", str(tmp_path / "none.toml")).exit_code == 2
    assert run("check", str(tmp_path)).exit_code == 2
