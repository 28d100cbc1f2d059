"""Claims about how the command line ends whatever command ran."""

import os
import signal
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
