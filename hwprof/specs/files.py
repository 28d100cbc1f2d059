"""Where do the data files live, and how is a file written so that it is complete or absent?"""

from __future__ import annotations

import os
from pathlib import Path

from hwprof.errors import InputError, WorkError
from hwprof.specs.leftovers import owner, remove_left_of

PACKAGE = Path(__file__).resolve().parents[1]
"""The folder of the package ``hwprof``."""

PATH_VARIABLE = "HWPROF_PATH"
"""Environment variable: folders of the user's own models and hardware, separated as in PATH."""


def cache_folder() -> Path:
    """Where hwprof keeps for this user what takes long to find out anew.

    Raises:
        WorkError: the user has no home.
    """
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hwprof"
    except RuntimeError as error:
        raise WorkError("this user has no home folder", remedy="set XDG_CACHE_HOME") from error


def data_roots() -> tuple[Path, ...]:
    """The folders that hold ``models/`` and ``hardware_specs/``: hwprof's own first, then those of HWPROF_PATH.

    Raises:
        InputError: HWPROF_PATH names something that is not a folder.
        WorkError: hwprof's own data folders are missing.
    """
    own = builtin_root(PACKAGE)
    return (own, *(root for root in _user_roots() if root.resolve() != own))


def builtin_root(package: Path) -> Path:
    """The folder that holds hwprof's own data: ``_data`` in an installed ``package``, else the source checkout.

    Raises:
        WorkError: neither is there.
    """
    for root in (package / "_data", package.parent):
        if (root / "models").is_dir() and (root / "hardware_specs").is_dir():
            return root
    raise WorkError(
        f"the data folders models/ and hardware_specs/ are neither in {package / '_data'} nor in {package.parent}",
        expectation="an installed hwprof carries them",
        remedy="install hwprof again with `pip install --force-reinstall`",
    )


def _user_roots() -> tuple[Path, ...]:
    roots = tuple(Path(text) for text in os.environ.get(PATH_VARIABLE, "").split(os.pathsep) if text)
    for root in roots:
        if not root.is_dir():
            raise InputError(
                f"{PATH_VARIABLE} names {str(root)!r}, which is not a folder",
                expectation=f"expected folders separated by {os.pathsep!r}",
                remedy=f"correct or unset {PATH_VARIABLE}",
            )
    return roots


def write_atomically(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Write ``content`` (text as UTF-8) to ``path``: afterwards the file is complete, or as it was before.

    Raises:
        WorkError: the folder cannot be written, or the disk is full; no partial file is left.
    """
    target = Path(path)
    data = content.encode() if isinstance(content, str) else content
    temporary = target.with_name(f".{target.name}.{owner()}.tmp")
    try:
        remove_left_of(target)
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except OSError as error:
        raise WorkError(
            f"cannot write {target}: {error.strerror or error}",
            remedy=f"free space in {target.parent} and make it writable, or choose another folder",
        ) from error
    finally:
        _discard(temporary)


def _discard(temporary: Path) -> None:
    """Remove what an interrupted write left; after a complete one there is nothing."""
    if os.access(temporary, os.F_OK):
        temporary.unlink()
