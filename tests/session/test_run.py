"""Claims about `hwprof.run`: a record and its files from Python, and how it ends when something unforeseen happens."""

import logging
import pydoc
import signal

import pytest
from made_up_record import made_up_ceiling

import hwprof
from hwprof.errors import InputError, OutOfMemoryError, WorkError
from hwprof.measure.probes.device import ProbeResult
from hwprof.report.files.run import read_run
from hwprof.session.outcome import claimed

CEILING = made_up_ceiling("matmul.fp32", 1e11)
QUICK = {"device": "cpu", "micro_batch": 1, "seq_len": 32, "steps": 2, "warmup_steps": 0, "workers": 0}


@pytest.fixture(autouse=True)
def _quick_probes(monkeypatch):
    def probe_device(*_args, on_result, **_options):
        on_result(ProbeResult(ceilings=(CEILING,)))

    monkeypatch.setattr("hwprof.session.ceilings.probe_device", probe_device)


def _broken(monkeypatch, where, error):
    def broken(*_args, **_options):
        raise error

    monkeypatch.setattr(where, broken)


def test_a_run_from_python_returns_the_record_that_it_leaves(tmp_path, caplog, capsys):
    caplog.set_level(logging.INFO, logger="hwprof")
    record = hwprof.run(model="tiny", **QUICK, output=str(tmp_path / "run"))
    assert record == read_run(tmp_path / "run")
    assert record.status == "complete"
    assert (record.settings.micro_batch, record.settings.seq_len, len(record.step.samples_s)) == (1, 32, 2)
    assert record.command == (
        "hwprof.run(model='tiny', device='cpu', micro_batch=1, seq_len=32, workers=0, warmup_steps=0, steps=2, "
        f"output='{tmp_path}/run')"
    )
    assert capsys.readouterr() == ("", "")
    assert "writing the report" in caplog.messages


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"micro_batch": 0}, "'micro_batch' is 0; expected greater than 0"),
        ({"steps": 1.5}, "'steps' is 1.5; expected a valid integer"),
        ({"learning_rate": float("nan")}, "'learning_rate' is nan; expected a finite number"),
        ({"time_budget_s": 0.5}, "'time_budget_s' is 0.5; expected greater than or equal to 1"),
        ({"dtype": "fp4"}, "'dtype' is 'fp4'; expected 'fp32', 'tf32', 'bf16' or 'fp16'"),
        ({"schedule": "zb-h1"}, "'schedule' is 'zb-h1'; expected 'gpipe' or '1f1b'"),
        ({"seed": 2**32}, "'seed' is 4294967296; expected less than or equal to 4294967295"),
        ({"modle": "1b"}, "'modle' is unknown; did you mean model?"),
        ({"model": "nosuch"}, "not in the catalogue"),
        ({"parallel": "fsdp"}, "torchrun --nproc-per-node 2"),
    ],
)
def test_wrong_options_are_refused_before_anything_runs(tmp_path, options, says):
    with pytest.raises(InputError) as refused:
        hwprof.run(**{"device": "cpu"} | options, output=tmp_path / "run")
    assert says in str(refused.value)
    assert not (tmp_path / "run").exists()


def test_options_go_by_their_names():
    with pytest.raises(TypeError, match="by their names"):
        hwprof.run("1b")


def test_one_of_several_ranks_is_told_what_to_call(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match=r"hwprof\.run_ranks"):
        hwprof.run(device="cpu")


def test_mistake_of_our_own_while_reading_the_trace_costs_neither_step_times_nor_the_traceback(tmp_path, monkeypatch):
    _broken(monkeypatch, "hwprof.measure.watch.steps.attribute", AssertionError("parts do not add"))
    with pytest.raises(AssertionError, match="parts do not add"):
        hwprof.run(**QUICK, output=tmp_path)
    record = read_run(tmp_path)
    assert (record.status, record.status_note) == ("failed", "AssertionError: parts do not add")
    assert record.ceilings == (CEILING,)
    assert record.step is not None
    assert len(record.step.samples_s) == 2


@pytest.mark.parametrize(
    "text", ["CUDA error: out of memory", "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"]
)
def test_memory_that_libraries_lack_counts_as_out_of_memory_too(tmp_path, monkeypatch, text):
    _broken(monkeypatch, "hwprof.train.loop.Trainer.step", RuntimeError(text))
    with pytest.raises(OutOfMemoryError, match="free: something else took it"):
        hwprof.run(**QUICK, output=tmp_path)
    assert read_run(tmp_path).status == "out_of_memory"


def test_interrupt_keeps_what_was_measured_and_stays_an_interrupt(tmp_path, monkeypatch):
    _broken(monkeypatch, "hwprof.measure.watch.steps.StepWatch.profiled", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        hwprof.run(**QUICK, output=tmp_path)
    record = read_run(tmp_path)
    assert record.status == "interrupted"
    assert len(record.step.samples_s) == 2


class _Killed(BaseException):
    """Ends the process's Python code at once, as a kill does: no report is made, no file is tidied up."""


def test_killed_run_leaves_its_probes_and_the_steps_that_it_finished(tmp_path, monkeypatch):
    monkeypatch.setattr("hwprof.session.run.SAVE_EVERY_S", 0.0)
    _broken(monkeypatch, "hwprof.measure.watch.steps.StepWatch.profiled", _Killed())
    with pytest.raises(_Killed):
        hwprof.run(**QUICK, output=tmp_path)
    record = read_run(tmp_path)
    assert record.status == "partial"
    assert record.ceilings == (CEILING,)
    assert record.step is not None
    assert len(record.step.samples_s) == 2
    assert {phase.name for phase in record.phases} >= {"forward", "backward", "optimizer"}


def test_run_killed_between_two_probes_leaves_the_first(tmp_path, monkeypatch):
    def probe_device(*_args, on_result, **_options):
        on_result(ProbeResult(ceilings=(CEILING,)))
        raise _Killed

    monkeypatch.setattr("hwprof.session.ceilings.probe_device", probe_device)
    with pytest.raises(_Killed):
        hwprof.run(**QUICK, output=tmp_path)
    assert read_run(tmp_path).ceilings == (CEILING,)


def test_disk_that_fills_up_meanwhile_costs_the_files_but_not_the_record(tmp_path, monkeypatch):
    writes = []

    def fills_up(record, _directory):
        writes.append(record)
        if len(writes) > 1:  # the first one finds out whether the directory can be written at all
            raise WorkError("cannot write run.json: No space left on device")

    monkeypatch.setattr("hwprof.session.run.SAVE_EVERY_S", 0.0)
    monkeypatch.setattr("hwprof.session.run.write_record", fills_up)
    monkeypatch.setattr("hwprof.report.files.run.write_record", fills_up)
    with pytest.raises(WorkError, match="No space left on device") as unwritten:
        hwprof.run(**QUICK, output=tmp_path)
    assert unwritten.value.record.status == "complete"
    assert len(unwritten.value.record.step.samples_s) == 2


class _Signals:
    """Signals that arrive at chosen moments of a run."""

    def __init__(self, monkeypatch):
        self._monkeypatch = monkeypatch

    def before(self, where, number=signal.SIGINT):
        """Send one, once, as soon as the program comes to a place; then that place is what it was."""
        place, _, name = where.rpartition(".")
        original, sent = getattr(pydoc.locate(place), name), []

        def reached(*args, **options):
            if not sent:
                sent.append(1)
                signal.raise_signal(number)
            return original(*args, **options)

        self._monkeypatch.setattr(where, reached)


@pytest.fixture
def signals(monkeypatch):
    return _Signals(monkeypatch)


def test_second_interrupt_before_the_record_is_written_waits_for_it(tmp_path, signals, monkeypatch):
    monkeypatch.setattr("hwprof.session.run.SAVE_EVERY_S", 3600.0)  # nothing but the end writes the record
    signals.before("hwprof.measure.watch.recorder.StepRecorder.profile_window")
    signals.before("hwprof.session.run.analysed")
    with pytest.raises(KeyboardInterrupt, match=r"`hwprof view .*run`"):
        hwprof.run(model="tiny", **QUICK, output=tmp_path / "run")
    record = read_run(tmp_path / "run")
    assert record.status == "interrupted"
    assert len(record.step.samples_s) == 2
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_interrupt_names_the_folder_and_leaves_the_reports(tmp_path, signals):
    signals.before("hwprof.measure.watch.recorder.StepRecorder.profile_window")
    with pytest.raises(KeyboardInterrupt, match=r"what was measured is in .*run$"):
        hwprof.run(model="tiny", **QUICK, output=tmp_path / "run")
    assert (tmp_path / "run" / "report.html").is_file()


def test_interrupt_of_the_report_says_how_to_have_it(tmp_path, signals):
    signals.before("hwprof.report.files.run.render_html")
    with pytest.raises(KeyboardInterrupt, match=r"for its reports run `hwprof view"):
        hwprof.run(model="tiny", **QUICK, output=tmp_path / "run")
    assert read_run(tmp_path / "run").status == "complete"


def test_second_run_into_one_directory_replaces_the_first_whole(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("run.json", "ranks.csv", "trace-rank3.json.gz", ".run.json.123.tmp", "mine.txt"):
        (folder / name).write_text("old")
    hwprof.run(model="tiny", **QUICK, output=folder)
    left = {path.name for path in folder.iterdir()}
    assert not {"ranks.csv", "trace-rank3.json.gz", ".run.json.123.tmp"} & left
    assert "mine.txt" in left
    assert read_run(folder).status == "complete"


def test_directory_in_which_a_run_is_under_way_is_refused(tmp_path):
    with claimed(tmp_path / "run"), pytest.raises(WorkError, match="another run is under way"):
        hwprof.run(model="tiny", **QUICK, output=tmp_path / "run")


def test_directory_that_cannot_be_written_is_refused_before_anything_runs(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(WorkError, match=r"can't be written; give another with --output"):
        hwprof.run(model="tiny", **QUICK, output=tmp_path / "run")
