"""Does ``hwprof view`` read what a run wrote, and nothing else?"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from hwprof import cli
from hwprof.cli.view import command
from hwprof.report.directory import write_run
from hwprof.specs.model import ModelSpec
from hwprof.specs.run import DeviceIdentity, RunRecord, RunSettings


@pytest.fixture
def run_directory(tmp_path: Path) -> Path:
    model = ModelSpec(
        name="small",
        kind="decoder",
        layers=1,
        d_model=8,
        d_ff=16,
        heads=2,
        kv_heads=2,
        head_dim=4,
        vocab_size=256,
        max_seq_len=16,
        activation="gelu",
        gated=False,
        norm="layernorm",
        norm_placement="pre",
        final_norm=True,
        positions="learned",
        tied_embeddings=True,
        attention_bias="none",
        mlp_bias=False,
        source={"all": "test"},
    )
    record = RunRecord(
        hwprof_version="0.1.0",
        status="interrupted",
        status_note="Ctrl-C.",
        created="2026-01-15T10:30:00+00:00",
        command="hwprof run",
        settings=RunSettings(model="small", device="cpu", micro_batch=1, seq_len=16),
        model=model,
        environment={"python": "3.11"},
        device=DeviceIdentity(name="CPU", catalogue_id=None, note=""),
    )
    write_run(record, tmp_path)
    return tmp_path


def test_view_prints_the_summary_and_renders_again(run_directory: Path) -> None:
    (run_directory / "report.html").unlink()
    result = CliRunner().invoke(command, [str(run_directory)])
    assert result.exit_code == 0, result.output
    assert "small on CPU" in result.stdout
    assert (run_directory / "report.html").exists()


def test_no_write_leaves_the_files_alone(run_directory: Path) -> None:
    (run_directory / "report.html").unlink()
    result = CliRunner().invoke(command, [str(run_directory), "--no-write"])
    assert result.exit_code == 0, result.output
    assert not (run_directory / "report.html").exists()


@pytest.mark.parametrize("name", ["", "run.json"])
def test_json_is_the_record_and_nothing_else(name: str, run_directory: Path) -> None:
    result = CliRunner().invoke(command, [str(run_directory / name), "--format", "json"])
    assert result.stdout_bytes == (run_directory / "run.json").read_bytes()
    assert json.loads(result.stdout)["schema_version"] == 1


def test_a_missing_directory_is_one_line_and_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["hwprof", "view", str(tmp_path / "nosuch")])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    captured = capsys.readouterr()
    assert stop.value.code == 2
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "does not exist" in captured.err
