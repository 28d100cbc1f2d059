"""How is a file of unknown origin read? A plain file of bounded size and depth, with numbers that a float can hold."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

from hwprof.errors import InputError

MOST_BYTES = 500_000_000
"""A record, a specification or a configuration is far smaller."""
MOST_LEVELS = 100
"""Of tables within tables; those of hwprof have fewer than ten."""
_LARGEST = 10**300
"""A whole number above this is none of anything, and no float holds it."""


def model_name(path: Path) -> str:
    """What a configuration's model is called: after its folder, else its file; a pipeline's part after the pipeline."""
    folder = path.resolve().parent
    inside = folder.parent if folder.name == "transformer" else folder
    return (inside.name if path.name == "config.json" else path.stem) or "model"


def content_of(path: Path, *, error: type[InputError] = InputError, remedy: str) -> bytes:
    """What is in a file.

    Raises:
        InputError: it is not there, can't be read, is too large, or is a folder, pipe or device (as an ``error``).
    """
    try:
        if path.is_file():
            size_bytes = path.stat().st_size
            if size_bytes > MOST_BYTES:
                raise error(
                    f"{path} has {size_bytes} bytes", expectation=f"expected at most {MOST_BYTES}", remedy=remedy
                )
            return path.read_bytes()
        fact = "is no file" if path.exists() else "does not exist"
        if remedy.startswith("correct the file"):  # there is none
            remedy = "give the path of a file that is there"
    except OSError as failure:
        raise error(f"{path} cannot be read: {failure.strerror}", remedy="name a readable file") from failure
    except ValueError as failure:  # a name with a zero byte in it
        raise error(f"{str(path)!r} is no name of a file", remedy=remedy) from failure
    raise error(f"{path} {fact}", remedy=remedy)


def json_of(path: Path, *, error: type[InputError] = InputError, remedy: str) -> Any:
    """The value in a JSON file.

    Raises:
        InputError: as ``content_of``, or it is no JSON that can be worked with (as an ``error``).
    """
    return _value(content_of(path, error=error, remedy=remedy), path, error=error, remedy=remedy)


def packed_json_of(path: Path, *, remedy: str) -> Any:
    """The value in a JSON file that gzip packed, which may not be larger than any other when it is unpacked.

    Raises:
        InputError: as ``json_of``, or it is not packed, or cut short.
    """
    packed, unpacker = content_of(path, remedy=remedy), zlib.decompressobj(wbits=_GZIP)
    try:
        content = unpacker.decompress(packed, MOST_BYTES)
    except zlib.error as failure:
        raise InputError(f"{path} can't be unpacked: {failure}", remedy=remedy) from failure
    if not unpacker.eof:
        raise InputError(f"{path} is cut short, or larger than {MOST_BYTES} bytes", remedy=remedy)
    return _value(content, path, error=InputError, remedy=remedy)


_GZIP = 31
"""zlib's word for the format of gzip with the largest window."""


def _value(content: bytes, path: Path, *, error: type[InputError], remedy: str) -> Any:
    try:
        value = json.loads(content.decode())
    except (ValueError, RecursionError) as failure:
        raise error(f"{path} is no JSON: {failure}", remedy=remedy) from failure
    check_bounded(value, path, error=error, remedy=remedy)
    return value


def check_bounded(value: Any, path: Path, *, error: type[InputError] = InputError, remedy: str) -> None:
    """Refuse what would end those who work with it: tables within tables without end, numbers with hundreds of digits.

    Raises:
        InputError: it is such a value (as an ``error``).
    """
    level, levels = [value], 0
    while level:
        if levels > MOST_LEVELS:
            raise error(f"{path} has more than {MOST_LEVELS} tables within tables", remedy=remedy)
        if any(isinstance(item, int) and abs(item) > _LARGEST for item in level):
            raise error(f"{path} has a whole number of more than 300 digits", remedy=remedy)
        below = [item.values() if isinstance(item, dict) else item for item in level if isinstance(item, dict | list)]
        level, levels = [item for items in below for item in items], levels + 1
