"""How does a whole command line fail? Its exit code and its words, as a shell sees them."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from hwprof.cli import main


@pytest.fixture
def failed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str]]:
    """``failed("count", ...)`` -> exit code and standard error; nothing stands on standard output."""

    def run(*words: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["hwprof", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            main()
        output = capsys.readouterr()
        assert output.out == ""
        assert isinstance(stop.value.code, int)
        return stop.value.code, output.err

    return run
