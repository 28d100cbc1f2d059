"""Does ``hwprof view`` read what a run wrote, and nothing else?"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from made_up_record import made_up_record

from hwprof.cli.view import command
from hwprof.report.files.run import write_run


@pytest.fixture
def run_directory(tmp_path: Path) -> Path:
    write_run(made_up_record(status="interrupted", status_note="Ctrl-C."), tmp_path)
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
    tmp_path: Path, failed: Callable[..., tuple[int, str]]
) -> None:
    code, error = failed("view", tmp_path / "nosuch")
    assert code == 2
    assert error.count("\n") == 1
    assert "does not exist" in error


@pytest.fixture
def gpu_directory(run_directory: Path, tmp_path: Path) -> Path:
    """The run as it would have been on a GPU, with one kernel of one operation."""
    content = json.loads((run_directory / "run.json").read_text())
    content["settings"]["device"] = "cuda"
    where = {"label": "head", "phase": "forward", "direction": "forward", "calls": 2.0, "time_s": 1e-3}
    content["kernels"] = [{"name": "void gemm<128>(int)", **where}]
    (tmp_path / "run.json").write_text(json.dumps(content))
    (tmp_path / "ncu.csv").write_text(
        '"ID","Kernel Name","gpu__time_duration.sum","dram__bytes_read.sum","dram__bytes_write.sum",'
        '"dram__throughput.avg.pct_of_peak_sustained_elapsed",'
        '"sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustained_active"\n'
        '"","","us","Mbyte","Mbyte","%","%"\n'
        '"0","void gemm<128>(int)","500","3","1","21.5","87.25"\n'
        '"1","void softmax<8>(int)","5","3","1","21.5","1"\n'
    )
    return tmp_path


def test_counters_stand_beside_the_run_s_kernels_in_text_page_and_record(gpu_directory: Path) -> None:
    result = CliRunner().invoke(command, [str(gpu_directory), "--ncu", str(gpu_directory / "ncu.csv")])
    assert result.exit_code == 0, result.output
    assert "1 of 2 kernels in ncu.csv are among the 1 of the run, 100 % of its kernel time." in " ".join(
        result.stdout.split()
    )
    assert "Not in the run: softmax." in result.stdout
    assert "87.2" in result.stdout
    page = (gpu_directory / "report.html").read_text()
    assert 'id="table-counters"' in page
    (row,) = json.loads((gpu_directory / "run.json").read_text())["counters"]["rows"]
    assert (row["measured_bytes"], row["measured_bound"]) == (8e6, "compute")  # two calls of 4 MB
    again = CliRunner().invoke(command, [str(gpu_directory)])
    assert "1 of 2 kernels in ncu.csv" in again.stdout


def test_counters_of_a_view_that_writes_nothing_are_in_its_json_alone(gpu_directory: Path) -> None:
    before = (gpu_directory / "run.json").read_bytes()
    arguments = [str(gpu_directory), "--ncu", str(gpu_directory / "ncu.csv"), "--no-write", "--format", "json"]
    result = CliRunner().invoke(command, arguments)
    assert json.loads(result.stdout)["counters"]["file_kernels"] == 2
    assert (gpu_directory / "run.json").read_bytes() == before


@pytest.mark.parametrize(
    ("device", "text", "said"),
    [
        ("cuda", "no csv", 'no row has "Kernel Name"'),
        ("cuda", "==ERROR== ERR_NVGPUCTRPERM", "NVreg_RestrictProfilingToAdminUsers=0"),
        ("cpu", "no csv", "whose kernels ncu does not count"),
    ],
)
def test_counters_that_can_t_be_used_are_one_line_and_leave_the_run_alone(
    gpu_directory: Path,
    failed: Callable[..., tuple[int, str]],
    device: str,
    text: str,
    said: str,
) -> None:
    run = gpu_directory / "run.json"
    run.write_text(run.read_text().replace('"device": "cuda"', f'"device": "{device}"'))
    (gpu_directory / "ncu.csv").write_text(text)
    before = run.read_bytes()
    code, error = failed("view", gpu_directory, "--ncu", gpu_directory / "ncu.csv")
    assert code == 2
    assert error.count("\n") == 1
    assert said in error
    assert run.read_bytes() == before
