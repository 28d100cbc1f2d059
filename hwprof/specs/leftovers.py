"""Whose is a temporary file? Its name says so, and what a killed process left is removed by the next one."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from functools import cache
from pathlib import Path

_NAMESPACE = Path("/proc/self/ns/pid")


def owner() -> str:
    """This process, for the name of a temporary file; a forked copy of it is another."""
    return f"{_here()}-{os.getpid()}"


def scratch_prefix() -> str:
    """How names of this process's temporary folders begin; those of processes that were killed are removed."""
    start = "hwprof-"
    for path in Path(tempfile.gettempdir()).glob(f"{start}{_here()}-*"):
        if _is_left(path.name[len(start) :].rsplit("-", 1)[0]):
            shutil.rmtree(path, ignore_errors=True)
    return f"{start}{owner()}-"


def remove_left_of(target: Path) -> None:
    """Remove what processes that were killed left while they wrote ``target``."""
    start, end = f".{target.name}.", ".tmp"
    with os.scandir(target.parent) as entries:
        names = [entry.name for entry in entries if entry.name.startswith(start) and entry.name.endswith(end)]
    for name in names:
        if _is_left(name[len(start) : -len(end)]):
            (target.parent / name).unlink(missing_ok=True)


@cache
def _here() -> str:
    """What numbers of processes are counted in: this machine, and of its containers this one."""
    container = _NAMESPACE.stat().st_ino if _NAMESPACE.exists() else 0
    return f"{socket.gethostname()}-{container}"


def _is_left(whose: str) -> bool:
    """Whether a file's owner was a process of this machine and container that is no more."""
    where, _, number = whose.rpartition("-")
    if where != _here() or not number.isdigit():
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):  # another user's, or no number of a process
        return False
    return False
