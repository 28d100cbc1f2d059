"""Claims about the main job: every file and field of the contract, bad input, and nothing lost when it ends early."""

import json
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from made_up_record import made_up_ceiling, made_up_record

from hwprof.cli.run import command
from hwprof.errors import InputError, OutOfMemoryError, WorkError
from hwprof.measure.probes.device import ProbeResult
from hwprof.report.files.run import read_run, write_record
from hwprof.specs.measurement import Skipped
from hwprof.specs.record.run import RunRecord

FILES = [
    "run.json",
    "report.html",
    "roofline.png",
    "step.png",
    "memory.png",
    "phases.csv",
    "ops.csv",
    "memory.csv",
    "plan.csv",
    "trace.json.gz",
]
QUICK = [
    "--device",
    "cpu",
    "--steps",
    "6",
    "--warmup-steps",
    "1",
    "--micro-batch",
    "2",
    "--seq-len",
    "64",
    "--workers",
    "0",
]


VALUES = {"matmul.fp32": 1e11, "memory.dram": 2e10, "latency.dispatch": 1e-6}
CEILINGS = tuple(made_up_ceiling(name, value, samples=(value,)) for name, value in VALUES.items())


@pytest.fixture
def quick_probes(monkeypatch):
    """The probes have tests of their own; here stand-ins of a known machine take their place."""

    def probe_device(*_args, on_result, **_options):
        result = ProbeResult(ceilings=CEILINGS, skipped=(Skipped(name="transfer", reason="no accelerator"),))
        on_result(result)
        return result

    monkeypatch.setattr("hwprof.session.ceilings.probe_device", probe_device)


def _run(*arguments):
    return CliRunner().invoke(command, list(arguments))


@pytest.fixture(scope="module")
def real_run(tmp_path_factory):
    """The whole job in a process of its own, real probes and all."""
    folder = tmp_path_factory.mktemp("run") / "deep" / "run"
    line = [sys.executable, "-m", "hwprof", "run", "--model", "tiny", *QUICK, "--format", "json"]
    done = subprocess.run([*line, "--output", str(folder)], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), folder, done.stderr


def test_every_promised_file_is_there_and_not_empty(real_run):
    _, folder, _ = real_run
    assert {name for name in FILES if (folder / name).stat().st_size > 0} == set(FILES)


def test_stdout_is_the_record_and_stderr_is_silent_when_piped(real_run):
    record, folder, stderr = real_run
    assert record == json.loads((folder / "run.json").read_text())
    assert stderr == ""


def test_record_has_the_fields_of_the_contract(real_run):
    record, _, _ = real_run
    assert record["schema_version"] == 1
    assert record["status"] == "complete"
    assert record["world_size"] == 1
    low_s, high_s = record["step"]["interval_s"]
    assert low_s <= record["step"]["median_s"] <= high_s
    low_s, high_s = record["prediction"]["interval_s"]
    assert 0 < low_s <= record["prediction"]["step_s"] <= high_s
    assert record["bound"] in {"compute", "memory", "communication", "transfer", "host", "latency", "unknown"}
    assert isinstance(record["recorder_overhead_fraction"], float)
    assert record["environment"]["torch.version"] == torch.__version__
    assert {"name", "value", "unit", "samples", "conditions"} <= set(record["ceilings"][0])
    assert isinstance(record["recommendations"], list)


def test_step_is_wholly_accounted_for(real_run):
    attribution = real_run[0]["attribution"]
    names = ["compute", "exposed_communication", "exposed_copy", "idle_host", "idle_input", "residue"]
    assert sum(attribution[f"{name}_s"] for name in names) == pytest.approx(attribution["step_s"], rel=1e-6)
    assert attribution["explained_fraction"] >= 0.98


def test_every_counted_flop_of_the_step_is_found_in_the_measured_operations(real_run):
    record, _, _ = real_run
    booked = sum(op["matmul_flop"] for op in record["ops"])
    assert booked == pytest.approx(record["work"]["train_flop_causal"], rel=1e-9)


def test_memory_was_predicted_within_five_percent_of_what_was_measured(real_run):
    memory = real_run[0]["memory"]
    assert memory["predicted_peak_bytes"] == pytest.approx(memory["measured_peak_bytes"], rel=0.05)


def test_loss_falls(real_run):
    losses = real_run[0]["losses"]
    assert losses[-1] < losses[0]


def test_own_time_of_the_phases_fills_the_step(real_run):
    """In the step that the machine disturbed least: its threads wait between phases, too."""
    phases = [phase for phase in real_run[0]["phases"] if phase["in_step"]]
    assert [phase["name"] for phase in phases] == [
        "data",
        "host_to_device",
        "forward",
        "loss",
        "backward",
        "clip",
        "optimizer",
    ]
    parts_s = zip(*(phase["samples_s"] for phase in phases), strict=True)
    filled = [sum(parts) / step_s for parts, step_s in zip(parts_s, real_run[0]["step"]["samples_s"], strict=True)]
    assert 0.9 <= max(filled) <= 1.0


def test_tables_open_with_one_header_row_and_units(real_run):
    _, folder, _ = real_run
    phases, ops = pd.read_csv(folder / "phases.csv"), pd.read_csv(folder / "ops.csv")
    assert {"forward", "backward", "optimizer"} <= set(phases.iloc[:, 0])
    assert len(ops) >= 15
    assert pd.read_csv(folder / "plan.csv").shape[0] >= 1


@pytest.mark.usefixtures("quick_probes")
def test_own_text_is_trained_on_and_a_cluster_adds_layouts_and_their_assumptions(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("it is a truth universally acknowledged. " * 500)
    more = ["--data", str(text), "--cluster", "8xh100-sxm"]
    done = _run("--model", "tiny", *QUICK, *more, "--output", str(tmp_path / "run"))
    assert done.exit_code == 0, done.output
    assert "report.html" in done.output
    record = read_run(tmp_path / "run")
    assert record.settings.data == str(text)
    assert {row.devices for row in record.layouts} == {1, 8}
    assert any("memory is kept free" in note for note in record.notes)
    assert any("parameters fitted for h100-sxm5-80gb" in note for note in record.notes)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model", "nosuch"], "not in the catalogue"),
        (["--model", ""], ""),
        (["--device", "quantum"], "quantum"),
        (["--cluster", "8xh999"], "h999"),
        (["--data", "/nowhere/text.txt"], "/nowhere/text.txt"),
        (["--model", "gpt2-124m", "--seq-len", "5000"], "1024"),
        (["--dtype", "tf32"], "tf32"),
        (["--tokenizer", "bpe:many"], "bpe"),
    ],
)
@pytest.mark.usefixtures("quick_probes")
def test_wrong_input_is_refused_in_one_line(tmp_path, arguments, words):
    device = [] if "--device" in arguments else ["--device", "cpu"]
    done = _run(*device, "--workers", "0", *arguments, "--output", str(tmp_path / "run"))
    assert isinstance(done.exception, InputError)
    assert words in str(done.exception)
    assert "\n" not in str(done.exception)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data", "/nowhere/text.txt"], "/nowhere/text.txt"),
        (["--tokenizer", "bpe:many"], "bpe:4096"),
        (["--tokenizer", "/nowhere/tokenizer.json"], "/nowhere/tokenizer.json"),
        (["--workers", "1000000"], "--workers 1000000 is a process each"),
    ],
)
def test_what_can_be_known_to_be_wrong_is_refused_before_anything_is_probed(tmp_path, monkeypatch, arguments, words):
    monkeypatch.setattr("hwprof.session.ceilings.probe_device", lambda *_args, **_options: pytest.fail("it probes"))
    done = _run("--device", "cpu", *arguments, "--output", str(tmp_path / "run"))
    assert isinstance(done.exception, InputError)
    assert words in str(done.exception)
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_missing_cuda_names_the_way_out(tmp_path):
    done = _run("--device", "cuda", "--output", str(tmp_path / "run"))
    assert isinstance(done.exception, InputError)
    assert "--device cpu" in str(done.exception)


def test_model_that_does_not_fit_says_how_much_it_needs_before_anything_runs(tmp_path):
    done = _run("--model", "405b", "--device", "cpu", "--output", str(tmp_path / "run"))
    assert isinstance(done.exception, OutOfMemoryError)
    assert "TB of memory" in str(done.exception)
    assert done.exception.exit_code == 1


def test_batch_that_does_not_fit_says_what_would(tmp_path):
    done = _run("--model", "tiny", "--device", "cpu", "--micro-batch", "10000000", "--output", str(tmp_path / "run"))
    assert isinstance(done.exception, OutOfMemoryError)
    assert "what fits: --micro-batch" in str(done.exception)


@pytest.mark.usefixtures("quick_probes")
def test_out_of_memory_while_training_keeps_the_probes(tmp_path, monkeypatch):
    def exhausted(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr("hwprof.train.loop.Trainer.step", exhausted)
    done = _run("--model", "tiny", *QUICK, "--output", str(tmp_path / "run"))
    assert isinstance(done.exception, OutOfMemoryError)
    record = read_run(tmp_path / "run")
    assert record.status == "out_of_memory"
    assert record.ceilings == CEILINGS
    assert "--micro-batch" in record.status_note
    assert (tmp_path / "run" / "report.html").exists()


@pytest.mark.usefixtures("quick_probes")
def test_step_that_fails_keeps_the_probes_and_says_where(tmp_path, monkeypatch):
    def broken(*_):
        raise RuntimeError("device-side assert triggered")

    monkeypatch.setattr("hwprof.train.loop.Trainer.step", broken)
    done = _run("--model", "tiny", *QUICK, "--output", str(tmp_path / "run"))
    assert isinstance(done.exception, WorkError)
    assert "device-side assert" in str(done.exception)
    assert read_run(tmp_path / "run").status == "failed"


@pytest.mark.usefixtures("quick_probes")
def test_run_directory_that_cannot_be_made_is_one_clear_line(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    done = _run("--model", "tiny", *QUICK, "--output", str(blocked / "run"))
    assert isinstance(done.exception, WorkError)
    assert "--output" in str(done.exception)


@pytest.mark.usefixtures("quick_probes")
def test_report_that_can_not_be_written_costs_exit_code_1_but_not_the_summary(tmp_path, monkeypatch):
    def full(_record, _directory):
        raise WorkError("cannot write run.json: No space left on device")

    monkeypatch.setattr("hwprof.session.outcome.write_run", full)
    done = _run("--model", "tiny", *QUICK, "--format", "json", "--output", str(tmp_path / "run"))
    assert isinstance(done.exception, WorkError)
    assert "No space left on device" in str(done.exception)
    assert RunRecord.model_validate_json(done.stdout).step is not None


def test_interrupt_leaves_a_readable_run_one_line_and_exit_code_130(tmp_path):
    folder = tmp_path / "run"
    line = [
        sys.executable,
        "-m",
        "hwprof",
        "run",
        "--model",
        "tiny",
        *QUICK,
        "--steps",
        "5000",
        "--output",
        str(folder),
    ]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)  # ignored in a shell's background job, and then inherited
    try:
        process = subprocess.Popen(line, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    finally:
        signal.signal(signal.SIGINT, before)
    deadline = time.monotonic() + 120
    while not (folder / "run.json").exists():
        assert time.monotonic() < deadline
        time.sleep(0.2)
    time.sleep(2)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 130
    assert stderr.strip() == f"hwprof: interrupted; what was measured is in {folder}"
    assert read_run(folder).status == "interrupted"


def test_in_chinese_the_summary_and_the_report_are(tmp_path, monkeypatch):
    record = made_up_record()
    write_record(record, tmp_path)
    ran = SimpleNamespace(record=record, directory=tmp_path, report_error=None)
    monkeypatch.setattr("hwprof.session.run.run_alone", lambda _request, _told: ran)
    result = CliRunner().invoke(command, ["--model", "tiny", "--device", "cpu", "--lang", "zh"], catch_exceptions=False)
    assert result.exit_code == 0
    assert "结论" in (tmp_path / "report.html").read_text(encoding="utf-8")
