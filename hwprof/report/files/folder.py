"""Whose is a folder of results while it is written, and what of an earlier command goes? Never two mixed."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hwprof.errors import WorkError
from hwprof.specs.files import write_atomically

_UNFINISHED = (".*.tmp", ".partial-*", ".shorter-*", ".checkpoint-*")
"""What a command leaves that was killed."""


def made(directory: Path) -> Path:
    """A folder for results, made if it is not there.

    Raises:
        WorkError: it can't be.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WorkError(
            f"the folder {directory} can't be made ({error.strerror})", remedy="give another with --output"
        ) from error
    if not os.access(directory, os.W_OK | os.X_OK):
        raise WorkError(f"the folder {directory} can't be written", remedy="give another with --output")
    return directory


@contextmanager
def claimed(directory: Path) -> Iterator[Path]:
    """A folder that is this process's alone meanwhile.

    Raises:
        WorkError: it can't be made or written, or another process writes into it.
    """
    made(directory)
    number = os.open(directory, os.O_RDONLY)
    try:
        _lock(number, directory)
        yield directory
    finally:
        os.close(number)


def _lock(number: int, directory: Path) -> None:
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise WorkError(
            f"another run is under way in {directory}",
            expectation="each run has a directory of its own",
            remedy="give another with --output, or wait for that run",
        ) from error
    except OSError:
        """A file system that knows no locks, such as some of the network."""


def removed(directory: Path, patterns: Iterable[str], *, but: Sequence[Path] = ()) -> None:
    """Remove what an earlier command left in a folder, ``but`` for these; what else is there stays.

    Raises:
        WorkError: something can't be removed.
    """
    try:
        for path in {path for pattern in (*_UNFINISHED, *patterns) for path in directory.glob(pattern)} - set(but):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    except OSError as error:
        raise WorkError(
            f"what an earlier run left in {directory} can't be removed ({error.strerror})",
            remedy="give another directory with --output",
        ) from error


def write_folder(
    directory: Path, contents: Iterable[tuple[str, str | bytes]], *, earlier: Iterable[str] = ()
) -> list[Path]:
    """Write files into a folder, which is made if need be.

    Args:
        directory: the folder.
        contents: name below the folder, and what stands in the file.
        earlier: patterns of all files that such a command writes; those that this one has not written are removed.

    Returns:
        The files, in order.

    Raises:
        WorkError: a file could not be written or removed, or another process writes into the folder.
    """
    written: list[Path] = []
    with claimed(directory):
        for name, content in contents:
            made((directory / name).parent)
            write_atomically(directory / name, content)
            written.append(directory / name)
        removed(directory, earlier, but=written)
    return written
