"""How is a program started so that it is measured? Its command as it stands, Python told to load us first."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from hwprof.attach.options import Attach, environment
from hwprof.errors import InputError

_STDERR = 2
SITE = Path(__file__).parent / "site"


def launch(command: Sequence[str], attach: Attach, *, quiet: bool) -> int:
    """Run a command to its end; its exit code, negative for a signal.

    ``python`` and ``torchrun`` are those beside this interpreter, if it has torch, else those of the path. What is
    interrupted here is interrupted there.

    Args:
        command: the program and its arguments.
        attach: how it is measured.
        quiet: what it prints goes to stderr, so that stdout is free.

    Raises:
        InputError: there is no such program.
    """
    words = list(command)
    own = Path(sys.executable).parent / words[0]
    if os.sep not in words[0] and own.is_file() and find_spec("torch"):
        words[0] = str(own)
    try:
        free = _STDERR if quiet else None
        process = subprocess.Popen(words, env=environment(attach, SITE), stdout=free)  # noqa: S603 (the user's own command)
    except OSError as error:
        raise InputError(
            f"{command[0]} can't be started: {error.strerror}",
            expectation="after -- comes a command: python train.py, or torchrun ... train.py",
        ) from error
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            process.send_signal(signal.SIGINT)
