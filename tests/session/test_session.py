"""Claims about how a run ends when something unforeseen happens in it."""

import pytest
from click.testing import CliRunner

from hwprof.cli.run import command
from hwprof.errors import OutOfMemoryError, WorkError
from hwprof.measure.probes.device import ProbeResult
from hwprof.report.files.run import read_run
from hwprof.specs.measurement import Ceiling
from hwprof.specs.record.run import RunRecord

CEILING = Ceiling(
    name="matmul.fp32", kind="compute", value=1e11, unit="flop_per_s", origin="measured", source="made up"
)


@pytest.fixture(autouse=True)
def _quick_probes(monkeypatch):
    def probe_device(*_args, on_result, **_options):
        on_result(ProbeResult(ceilings=(CEILING,)))

    monkeypatch.setattr("hwprof.session.run.probe_device", probe_device)


def _run(folder, monkeypatch, where, error):
    def broken(*_args, **_options):
        raise error

    monkeypatch.setattr(where, broken)
    sizes = ["--micro-batch", "1", "--seq-len", "32", "--steps", "2", "--warmup-steps", "0", "--workers", "0"]
    return CliRunner().invoke(
        command, ["--model", "tiny", "--device", "cpu", *sizes, "--output", str(folder)], catch_exceptions=True
    )


def test_mistake_of_our_own_while_reading_the_trace_costs_neither_step_times_nor_the_traceback(tmp_path, monkeypatch):
    done = _run(
        tmp_path / "run", monkeypatch, "hwprof.measure.watch.steps.attribute", AssertionError("parts do not add")
    )
    assert isinstance(done.exception, AssertionError)
    record = read_run(tmp_path / "run")
    assert (record.status, record.status_note) == ("failed", "AssertionError: parts do not add")
    assert record.ceilings == (CEILING,)
    assert record.step is not None
    assert len(record.step.samples_s) == 2


@pytest.mark.parametrize(
    "text", ["CUDA error: out of memory", "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"]
)
def test_memory_that_libraries_lack_counts_as_out_of_memory_too(tmp_path, monkeypatch, text):
    done = _run(tmp_path / "run", monkeypatch, "hwprof.train.loop.Trainer.step", RuntimeError(text))
    assert isinstance(done.exception, OutOfMemoryError)
    assert read_run(tmp_path / "run").status == "out_of_memory"


class _Killed(BaseException):
    """Ends the process's Python code at once, as a kill does: no report is made, no file is tidied up."""


def test_killed_run_leaves_its_probes_and_the_steps_that_it_finished(tmp_path, monkeypatch):
    monkeypatch.setattr("hwprof.session.run.SAVE_EVERY_S", 0.0)
    with pytest.raises(_Killed):
        _run(tmp_path / "run", monkeypatch, "hwprof.measure.watch.steps.StepWatch.profiled", _Killed())
    record = read_run(tmp_path / "run")
    assert record.status == "partial"
    assert record.ceilings == (CEILING,)
    assert record.step is not None
    assert len(record.step.samples_s) == 2
    assert {phase.name for phase in record.phases} >= {"forward", "backward", "optimizer"}


def test_run_killed_between_two_probes_leaves_the_first(tmp_path, monkeypatch):
    def probe_device(*_args, on_result, **_options):
        on_result(ProbeResult(ceilings=(CEILING,)))
        raise _Killed

    monkeypatch.setattr("hwprof.session.run.probe_device", probe_device)
    line = ["--model", "tiny", "--device", "cpu", "--workers", "0", "--output", str(tmp_path / "run")]
    with pytest.raises(_Killed):
        CliRunner().invoke(command, line)
    assert read_run(tmp_path / "run").ceilings == (CEILING,)


def test_disk_that_fills_up_meanwhile_costs_the_files_but_not_the_summary(tmp_path, monkeypatch):
    writes = []

    def fills_up(record, _directory):
        writes.append(record)
        if len(writes) > 1:  # the first one finds out whether the directory can be written at all
            raise WorkError("cannot write run.json: No space left on device")

    monkeypatch.setattr("hwprof.session.run.SAVE_EVERY_S", 0.0)
    monkeypatch.setattr("hwprof.session.run.write_record", fills_up)
    monkeypatch.setattr("hwprof.report.files.run.write_record", fills_up)
    sizes = ["--micro-batch", "1", "--seq-len", "32", "--steps", "2", "--warmup-steps", "0", "--workers", "0"]
    line = ["--model", "tiny", "--device", "cpu", *sizes, "--format", "json", "--output", str(tmp_path / "run")]
    done = CliRunner().invoke(command, line)
    assert isinstance(done.exception, WorkError)
    assert "No space left on device" in str(done.exception)
    assert RunRecord.model_validate_json(done.stdout).step is not None
