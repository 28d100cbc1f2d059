"""Claims about how the command line ends whatever command ran."""

import os
import signal
import subprocess
import sys
import time

import pytest

from hwprof import cli


@pytest.fixture
def _own_handler():
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("_own_handler")
def test_termination_by_a_scheduler_ends_like_ctrl_c(monkeypatch, capsys):
    def terminated(*_args, **_options):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(30)

    monkeypatch.setattr(cli.cli, "main", terminated)
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 130
    assert capsys.readouterr().err == "hwprof: interrupted\n"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("frobnicate", "no such command 'frobnicate'; there are run, view, "),
        ("train --model 8b", "no such command 'train'; did you mean `hwprof run`? (see `hwprof --help`)"),
        ("specs lst", "no such command 'lst'; did you mean `hwprof specs list`?"),
        ("run --bogus", "(see `hwprof run --help`)"),
        ("plan --gpus 64", "--model, --hardware are missing; for example `hwprof plan --model 70b"),
        ("deploy --gpu 4", "no such option --gpu; did you mean --hardware or --devices?"),
        ("fit --model 8b --lora", "no such option --lora; did you mean --adaptation lora or --lora-rank 16?"),
        ("plan --modl 8b", "no such option --modl; did you mean --model?"),
        ("simulate", "--model and --hardware are missing; for example `hwprof simulate --model 70b"),
        ("deploy --model=8b", "--hardware is missing; for example `hwprof deploy "),
        ("plan --model 8b --power-cap 500", "'--power-cap': 500 has no unit, such as 500W"),
        ("plan --model 8b --budget M", "(of $2M a shell leaves M: write 2M or '$2M')"),
        ("count --model 8b --hardware h100", "`hwprof fit` says what fits a device"),
        ("run --micro-batch 0", "0 is not in the range x>=1 (see `hwprof run --help`)"),
        ("run --learning-rate nan", "nan is not a finite number"),
        ("run --clip-norm inf", "inf is not a finite number"),
        ("run --time-budget soon", "'soon' is not a valid number"),
        ("run --seed 99999999999999999999", "is not in the range 0<=x<=4294967295"),
        ("count", "Missing option '--model'"),
    ],
)
@pytest.mark.usefixtures("_own_handler")
def test_mistyped_command_is_one_line_and_exit_code_2(failed, line, words):
    code, error = failed(*line.split())
    assert code == 2
    assert error.startswith("hwprof: ")
    assert error.count("\n") == 1
    assert words in error


@pytest.mark.usefixtures("_own_handler")
def test_nothing_typed_shows_the_commands(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["hwprof"])
    with pytest.raises(SystemExit):
        cli.main()
    shown = capsys.readouterr()
    assert "  run " in shown.out + shown.err


@pytest.mark.usefixtures("_own_handler")
def test_an_error_of_hwprofs_own_is_one_line_and_asks_for_a_report(monkeypatch, failed):
    def broken(*_args, **_options):
        raise KeyError("layers")

    monkeypatch.setattr(cli.cli, "main", broken)
    code, error = failed("count")
    assert code == 1
    assert error.startswith("hwprof: KeyError in test_main.py, line ")
    assert "--debug" in error
    assert error.count("\n") == 1


@pytest.mark.usefixtures("_own_handler")
def test_memory_that_runs_out_is_no_mistake_of_hwprofs(monkeypatch, failed):
    def starved(*_args, **_options):
        raise MemoryError

    monkeypatch.setattr(cli.cli, "main", starved)
    code, error = failed("count")
    assert code == 1
    assert error.startswith("hwprof: memory ran out")
    assert "ulimit -v" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("shell", "code", "says"),
    [
        ("{} >&-", 0, ""),
        ("{} | true", 141, ""),
        ("{} >&- 2>&-", 0, ""),
        ("{} > /dev/full", 1, "hwprof: [Errno 28] No space left on device\n"),
    ],
)
def test_closed_or_full_output_is_no_crash(shell, code, says):
    line = shell.format(f"{sys.executable} -m hwprof specs show tiny")
    ended = subprocess.run(["bash", "-o", "pipefail", "-c", line], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (code, "", says)
