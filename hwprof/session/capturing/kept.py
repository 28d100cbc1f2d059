"""Was this captured before? What was found is kept in the user's cache folder, so that no command captures it again.

It holds for one file's content, one question, hwprof's own code and the releases that are installed: a change of any is
a question of its own. Deleting the folder is always safe.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from hwprof.errors import WorkError
from hwprof.specs.files import PACKAGE, cache_folder, write_atomically

MOST_BYTES = 200_000_000
"""Of all that is kept together; beyond it what is oldest goes."""

_OWN = ("count", "measure", "session", "specs")
"""Packages of hwprof that what is found depends on."""

_CAPTURED = ("torch", "transformers", "diffusers", "timm")
"""Packages whose code is captured: of a checkout, whose code may change under one name, nothing is kept."""

_INFO = (".dist-info", ".egg-info")
_GPUS = ("/dev/nvidiactl", "/dev/kfd")
"""Of a folder that machines share, those with a GPU may run kernels that others don't."""

_VENDORED = f"{os.sep}_vendor"
"""What setuptools adds to ``sys.path`` once somebody imports it: copies of its own."""

Answer = TypeVar("Answer")


def kept(kind: type[Answer], path: Path, asked: object, find: Callable[[], Answer]) -> Answer:
    """What was found of a file before, else what is found now.

    Args:
        kind: a type of which pydantic makes JSON and back.
        path: the configuration of a model; its place and name don't matter.
        asked: all else that the answer depends on; its ``repr`` says all of it.
        find: asked where nothing is kept; what it raises is not.
    """
    if not _are_releases():
        return find()
    question = repr((kind, asked, _own_code(), _around())).encode()
    name = hashlib.sha256(path.read_bytes() + b"\0" + question).hexdigest()
    adapter = TypeAdapter(kind)
    with suppress(OSError, WorkError, ValidationError):
        return adapter.validate_json(_read(name))
    found = find()
    with suppress(OSError, WorkError):  # a folder that can't be written, or none
        folder = _folder()
        folder.mkdir(parents=True, exist_ok=True)
        body = adapter.dump_json(found)
        write_atomically(folder / name, _seal(name, body) + b"\n" + body)
        _make_room(folder)
    return found


def _folder() -> Path:
    return cache_folder() / "captured"


def _read(name: str) -> bytes:
    """What is kept under a name; nothing where the file is not whole, or not what was written under it."""
    seal, _, body = (_folder() / name).read_bytes().partition(b"\n")
    return body if seal == _seal(name, body) else b""


def _seal(name: str, body: bytes) -> bytes:
    return hashlib.sha256(name.encode() + body).hexdigest().encode()


def _make_room(folder: Path) -> None:
    with os.scandir(folder) as entries:
        files = sorted((entry.stat().st_mtime_ns, entry.stat().st_size, entry.path) for entry in entries)
    over_bytes = sum(size for _, size, _ in files) - MOST_BYTES
    for _, size, path in files:
        if over_bytes <= 0:
            break
        Path(path).unlink(missing_ok=True)
        over_bytes -= size


@cache
def _own_code() -> str:
    """Hwprof's own modules as they lie here: who changes one never gets what the one before found."""
    stamps = sorted(stamp for package in _OWN for stamp in _stamps(PACKAGE / package))
    return hashlib.sha256(repr(stamps).encode()).hexdigest()


def _stamps(package: Path) -> Iterator[tuple[str, int, int]]:
    for path in package.rglob("*.py"):
        seen = path.stat()
        yield str(path), seen.st_size, seen.st_mtime_ns


def _around() -> tuple[object, ...]:
    """What classes look at beside their configuration: all that is installed, by name and version, and GPUs."""
    folders = [each for each in sys.path if not each.endswith(_VENDORED)]
    installed = sorted({name for folder in folders for name in _installed(folder)})
    return sys.version, installed, [Path(each).exists() for each in _GPUS], os.environ.get("CUDA_VISIBLE_DEVICES")


def _are_releases() -> bool:
    """Whether what is captured is installed under a version."""
    found = ((name, find_spec(name)) for name in _CAPTURED)
    homes = ((name, Path(spec.origin).parents[1]) for name, spec in found if spec and spec.origin)
    return all(any(each.startswith(f"{name}-") for each in _installed(str(home))) for name, home in homes)


@cache
def _installed(folder: str) -> tuple[str, ...]:
    with suppress(OSError):
        return tuple(each.name for each in Path(folder).iterdir() if each.name.endswith(_INFO))
    return ()
