"""How is a trace file read? A Chrome trace as a stream, up to where it broke; files of other profilers each its way."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Callable, Container
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from hwprof.errors import InputError
from hwprof.spans.columns import Trace
from hwprof.spans.read import nsys, perfetto, rocprof, xplane
from hwprof.spans.read.collect import Collector
from hwprof.spans.read.ranges import counted_ranges
from hwprof.spans.read.scan import Scanner
from hwprof.spans.read.source import Source

_GZIP_MAGIC = b"\x1f\x8b"
_START_BYTES = 1 << 16
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
    """The events of a trace; the content decides what it is, else the end of its name.

    A Chrome trace that is cut off or damaged gives what stands before, and ``broken`` says where that was.

    Args:
        path: a file of one of the ``FORMATS``.
        values_of: operators of which arguments that are no tensors are kept, too.

    Raises:
        InputError: there is no such file, or it is no trace.
    """
    if not path.is_file():
        raise InputError(
            f"{path} is {'a directory' if path.is_dir() else 'no file'}",
            expectation=f"expected a trace file ({', '.join(one.what for one in FORMATS)})",
            remedy="give the files themselves, one per rank",
        )
    with path.open("rb") as file:
        start = file.read(_START_BYTES)
    found = next(one for one in FORMATS if one.fits(path.name, start))
    return _chrome_trace(path, start, values_of) if found.read is None else _other_trace(path, found.read, values_of)


def _chrome_trace(path: Path, start: bytes, values_of: Container[str]) -> Trace:
    with path.open("rb") as file:
        scanner = Scanner(_Gunzip(file) if start.startswith(_GZIP_MAGIC) else file, str(path))
        collector = Collector(values_of)
        for events in scanner.batches():
            collector.add(events)
    found = collector.trace(str(path), scanner.metadata, scanner.broken)
    return replace(found, ranges=counted_ranges(path)) if collector.counts_ranges else found


def _other_trace(path: Path, read: Callable[[Path], Source], values_of: Container[str]) -> Trace:
    source = read(path)
    collector = Collector(values_of)
    try:
        for events in source.batches:
            collector.add(events)
    except (sqlite3.DatabaseError, LookupError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} is damaged: {type(error).__name__}: {error}",
            expectation="expected a whole file, as the profiler wrote it",
            remedy="export it again",
        ) from error
    return collector.trace(str(path), source.metadata, None)


@dataclass(frozen=True, slots=True)
class Format:
    """One kind of file: what it is called, how it is told by its name and first bytes, and what reads it.

    ``read`` is None for Chrome traces, which are streams.
    """

    what: str
    patterns: tuple[str, ...]
    fits: Callable[[str, bytes], bool]
    read: Callable[[Path], Source] | None


def _nsys_report(path: Path) -> Source:
    raise InputError(
        f"{path} is Nsight Systems' own report",
        expectation="expected its export to SQLite",
        remedy=f"nsys export --type sqlite {path}",
    )


FORMATS: tuple[Format, ...] = (
    Format("Nsight Systems' .sqlite", ("*.sqlite",), lambda _name, start: start.startswith(nsys.MAGIC), nsys.read),
    Format(".nsys-rep", (), lambda name, _start: name.endswith(".nsys-rep"), _nsys_report),
    Format("JAX's .xplane.pb", ("*.xplane.pb",), lambda name, _start: name.endswith(".xplane.pb"), xplane.read),
    Format("rocprofv3's .pftrace", ("*.pftrace",), lambda name, _start: name.endswith(".pftrace"), perfetto.read),
    Format(
        "rocprofv3's *_kernel_trace.csv",
        (f"*{rocprof.KERNELS}",),
        lambda name, _start: name.endswith(".csv"),
        rocprof.read_csv,
    ),
    Format("rocprofv3's .json", ("*.json",), lambda _name, start: rocprof.KEY in start, rocprof.read_json),
    Format("Kineto's .json or .json.gz", ("*.json", "*.json.gz"), lambda _name, _start: True, None),
)
"""All kinds of files, the first that fits."""
