"""``hwprof trace``: what it prints, writes and refuses."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import kineto
import pytest
from click.testing import CliRunner, Result
from made_up_record import made_up_ceiling

from hwprof.cli.trace import command
from hwprof.errors import InputError, UnknownNameError, WorkError
from hwprof.specs.record.calibration import Calibration
from hwprof.specs.record.trace import TraceReport


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("traces")
    ranks = kineto.simulate(kineto.Loop(straggler=1, rows=2048, memory=True), 2)
    return [str(file.write(folder / f"rank{rank}.json.gz")) for rank, file in enumerate(ranks)]


def _run(*args: str) -> Result:
    return CliRunner().invoke(command, args, catch_exceptions=True)


def test_json_is_the_schema_and_nothing_else(files: list[str]):
    result = _run(*files, "--format", "json")
    assert result.exit_code == 0
    report = TraceReport.model_validate(json.loads(result.stdout))
    assert [device.rank for device in report.devices] == [0, 1]
    assert report.stragglers is not None
    assert report.stragglers.ranks[1].caused_s > report.stragglers.ranks[0].caused_s


def test_a_folder_and_a_pattern_stand_for_their_traces(files: list[str], tmp_path: Path):
    folder = Path(files[0]).parent
    given = (str(folder), str(folder / "rank?.json.gz"))
    found = [
        [device["rank"] for device in json.loads(_run(one, "--format", "json").stdout)["devices"]] for one in given
    ]
    assert found == [[0, 1], [0, 1]]
    for nothing in (tmp_path, tmp_path / "rank*.json"):
        assert isinstance(_run(str(nothing)).exception, InputError)


def test_a_folder_of_a_run_stands_for_its_trace(files: list[str], tmp_path: Path):
    (tmp_path / "run.json").write_text('{"schema_version": 1}', encoding="utf-8")
    (tmp_path / "trace.json.gz").write_bytes(Path(files[0]).read_bytes())
    assert len(json.loads(_run(str(tmp_path), "--format", "json").stdout)["devices"]) == 1


def test_text_says_where_the_time_went_and_what_to_change(files: list[str]):
    text = _run(*files, "--top", "3").stdout
    for words in ("computation", "idle: waiting for the next batch", "Model.Block.Linear", "Critical path", "try:"):
        assert words in text
    assert "Ranks waiting for each other" in text
    assert "The first 3 of" in text


def test_roofs_of_a_named_device_bind_operators(files: list[str]):
    report = TraceReport.model_validate_json(_run(files[0], "--hardware", "h100-sxm", "--format", "json").stdout)
    products = [op for op in report.devices[0].ops if op.op == "aten::addmm"]
    assert products
    for op in products:
        assert op.matmul_flop is not None
        assert op.roof_s is not None
        assert op.roof_s == pytest.approx(max(op.matmul_flop / 989.4e12, op.moved_bytes / 3.35e12), rel=2e-3)
        assert op.roof_fraction == pytest.approx(op.roof_s / op.time_s)
    assert {ceiling.origin for ceiling in report.ceilings} == {"datasheet"}


def test_measured_roofs_go_before_the_datasheet(files: list[str], tmp_path: Path):
    measured = made_up_ceiling("memory.dram", 1e12)
    facts = dict.fromkeys(("hwprof_version", "created", "device", "torch_version", "driver"), "x")
    path = tmp_path / "calibration.json"
    saved = Calibration(status="complete", quick=True, environment={}, ceilings=(measured,), **facts)
    path.write_text(saved.to_json())
    options = (files[0], "--calibration", str(path), "--format", "json")
    report = TraceReport.model_validate_json(_run(*options, "--hardware", "h100-sxm").stdout)
    gelu = next(op for op in report.devices[0].ops if op.op == "aten::gelu")
    assert gelu.moved_bytes is not None
    assert gelu.roof_s == pytest.approx(gelu.moved_bytes / 1e12)


def test_files_of_a_folder(files: list[str], tmp_path: Path):
    assert _run(*files, "--output", str(tmp_path / "out")).exit_code == 0
    page = (tmp_path / "out" / "trace.html").read_text()
    assert "ncclDevKernel_AllReduce_Sum_bf16_RING_LL" in page
    assert "http" not in page.split("<body>")[1]
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out" / "rank0-0-kernels.csv").read_text())))
    report = json.loads((tmp_path / "out" / "trace.json").read_text())
    kernels = report["devices"][0]["kernels"]
    assert [float(row["time_s"]) for row in rows] == pytest.approx([kernel["time_s"] for kernel in kernels], rel=1e-6)


def test_a_cut_file_is_analysed_and_fails(tmp_path: Path):
    text = kineto.simulate(kineto.Loop())[0].text()
    path = tmp_path / "half.json"
    path.write_text(text[: len(text) // 2])
    result = _run(str(path), "--format", "json")
    assert isinstance(result.exception, WorkError)
    assert "half.json broke at byte" in str(result.exception)
    report = TraceReport.model_validate_json(result.stdout)
    assert report.devices[0].broken is not None
    assert report.devices[0].kernels


@pytest.mark.parametrize(
    ("content", "options", "error"),
    [
        ("{}", [], InputError),
        ("", [], InputError),
        (None, [], InputError),
        ('{"traceEvents": [{"ph": "M"}]}', [], InputError),
        ("good", ["--hardware", "h999"], UnknownNameError),
        ("good", ["--hardware", "cpu-xeon-8480plus"], InputError),
        ("good", ["--calibration", "nosuch.json"], InputError),
    ],
)
def test_wrong_input_is_refused(tmp_path: Path, content: str | None, options: list[str], error: type[Exception]):
    path = tmp_path / "t.json"
    if content is not None:
        path.write_text(kineto.simulate(kineto.Loop(steps=1))[0].text() if content == "good" else content)
    result = _run(str(path), *options)
    assert isinstance(result.exception, error)
    assert "\n" not in str(result.exception)


def test_it_needs_no_torch(files: list[str]):
    program = "import sys; from hwprof.cli.trace import command; command([sys.argv[1]], standalone_mode=False)"
    check = "; assert not {'torch', 'pandas', 'matplotlib'} & set(sys.modules), sorted(sys.modules)"
    subprocess.run([sys.executable, "-c", program + check, files[0]], check=True, capture_output=True)
