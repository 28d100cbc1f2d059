"""How is a trace file read? As a stream, plain or gzipped, into columns; a damaged file up to where it broke."""

from __future__ import annotations

import zlib
from collections.abc import Container
from pathlib import Path
from typing import BinaryIO

from hwprof.errors import InputError
from hwprof.spans.columns import Trace
from hwprof.spans.read.collect import Collector
from hwprof.spans.read.scan import Scanner

_GZIP_MAGIC = b"\x1f\x8b"
_COMPRESSED_BYTES = 1 << 18
_GZIP_WINDOW = 31
"""zlib's word for a gzip header and the largest window."""


class _Gunzip:
    """What a gzipped stream holds. All that stands before damage is given before the error is raised."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._member = zlib.decompressobj(_GZIP_WINDOW)
        self._compressed = b""

    def read(self, most_bytes: int) -> bytes:
        """Up to ``most_bytes``, none at the end.

        Raises:
            EOFError: the stream ends within a member.
            zlib.error: the stream is damaged.
        """
        while True:
            self._compressed = self._compressed or self._stream.read(_COMPRESSED_BYTES)
            if self._member.eof:
                if not self._compressed.strip(b"\0"):
                    return b""
                self._member = zlib.decompressobj(_GZIP_WINDOW)
            if not self._compressed:
                raise EOFError("the compressed stream is cut off")
            plain = self._member.decompress(self._compressed, most_bytes)
            self._compressed = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
            if plain:
                return plain


def read_trace(path: Path, *, values_of: Container[str] = ()) -> Trace:
    """The events of a Chrome trace (.json or .json.gz; the content decides, not the name).

    A file that is cut off or damaged gives what stands before, and ``broken`` says where that was.

    Args:
        path: the file.
        values_of: operators of which arguments that are no tensors are kept, too.

    Raises:
        InputError: there is no such file, or it is no Chrome trace.
    """
    if not path.is_file():
        raise InputError(
            f"{path} is {'a directory' if path.is_dir() else 'no file'}",
            expectation="expected a trace file (.json or .json.gz)",
            remedy="give the files themselves, one per rank",
        )
    with path.open("rb") as file:
        gzipped = file.read(2) == _GZIP_MAGIC
        file.seek(0)
        scanner = Scanner(_Gunzip(file) if gzipped else file, str(path))
        collector = Collector(values_of)
        for events in scanner.batches():
            collector.add(events)
    return collector.trace(str(path), scanner.metadata, scanner.broken)
