"""How is Nsight Systems' export read? An SQLite file: kernels, copies, calls into CUDA, NVTX ranges, waits of the host.

The tables are those of the exporter's schema (Nsight Systems User Guide, "SQLite Schema Reference"); one that a version
does not write is left out.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec

from hwprof.errors import InputError
from hwprof.spans.read.events import NOTHING, Args, Event
from hwprof.spans.read.source import Source, batched, span

MAGIC = b"SQLite format 3\0"
_KERNEL, _COPY, _SET = "CUPTI_ACTIVITY_KIND_KERNEL", "CUPTI_ACTIVITY_KIND_MEMCPY", "CUPTI_ACTIVITY_KIND_MEMSET"
_GRAPH, _CALL, _SYSTEM, _NVTX = (
    "CUPTI_ACTIVITY_KIND_GRAPH_TRACE",
    "CUPTI_ACTIVITY_KIND_RUNTIME",
    "OSRT_API",
    "NVTX_EVENTS",
)
_DEVICES, _STRINGS = "TARGET_INFO_GPU", "StringIds"
_COPY_KINDS = {
    1: "HtoD",
    2: "DtoH",
    3: "HtoA",
    4: "AtoH",
    5: "AtoA",
    6: "AtoD",
    7: "DtoA",
    8: "DtoD",
    9: "HtoH",
    10: "PtoP",
}
"""CUpti_ActivityMemcpyKind."""
_MEMORY_KINDS = {0: "Pageable", 1: "Pinned", 2: "Device", 3: "Array", 4: "Managed", 5: "Device Static"}
"""The exporter's ENUM_CUDA_MEM_KIND."""
_RANGES = (59, 60)
"""Event types of NVTX ranges: pushed and popped, started and ended."""
_VERSION = re.compile(r"_v\d+(_\w+)?$")
_TORCH = re.compile(
    r"(?P<name>[^,]+)(?:, op_id = \d+)?(?:, seq = (?P<seq>\d+))?(?:, op_id = \d+)?(?:, sizes = (?P<sizes>\[.*\]))?"
)
"""What ``torch.autograd.profiler.emit_nvtx`` writes of an operator."""
_FIELD = 0x1000000
"""A ``globalTid`` holds process and thread, 24 bits each, below the machine's number."""


def read(path: Path) -> Source:
    """The events of an export.

    Raises:
        InputError: it has no kernels and no calls of CUDA, or is no such file.
    """
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as base:
            tables = {row[0] for row in base.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if not tables & {_KERNEL, _CALL, _GRAPH, _NVTX}:
                raise _no_export(path, f"it has the tables {', '.join(sorted(tables)[:6]) or 'none'}")
            metadata = {"deviceProperties": list(_devices(base))} if _DEVICES in tables else {}
    except sqlite3.DatabaseError as error:
        raise _no_export(path, str(error)) from error
    return Source(batched(_events(path, tables)), metadata)


def _no_export(path: Path, why: str) -> InputError:
    return InputError(
        f"{path} is no export of Nsight Systems: {why}",
        expectation="expected what `nsys export --type sqlite report.nsys-rep` writes",
        remedy="profile with `nsys profile --trace=cuda,nvtx,osrt`, and export that",
    )


def _devices(base: sqlite3.Connection) -> Iterator[dict[str, Any]]:
    for row in _rows(base, _DEVICES, "id", "name"):
        yield {"id": row["id"], "name": row["name"]}


def _rows(base: sqlite3.Connection, table: str, *wanted: str) -> Iterator[dict[str, Any]]:
    """The wanted columns of a table; None where this version has no such column."""
    there = {row[1] for row in base.execute(f"PRAGMA table_info({table})")}
    columns = ", ".join(name if name in there else f"NULL AS {name}" for name in wanted)
    for values in base.execute(f"SELECT {columns} FROM {table}"):  # noqa: S608 - names of this module's own
        yield dict(zip(wanted, values, strict=True))


def _events(path: Path, tables: set[str]) -> Iterator[Event]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as base:
        texts = dict(base.execute("SELECT id, value FROM StringIds")) if _STRINGS in tables else {}
        for table, events in ((_KERNEL, _kernels), (_GRAPH, _graphs), (_COPY, _copies), (_SET, _sets), (_CALL, _calls),
                              (_SYSTEM, _calls), (_NVTX, _ranges)):  # fmt: skip
            if table in tables:
                yield from events(base, table, texts)


_Texts = dict[int, str]
_DEVICE_COLUMNS = ("start", "end", "deviceId", "streamId", "correlationId")


def _on_device(category: str, name: str, row: dict[str, Any]) -> Event:
    args = Args(
        device=row["deviceId"] or 0, stream=row["streamId"] or 0, correlation=row["correlationId"] or -1,
        size_bytes=row.get("bytes") or 0,
    )  # fmt: skip
    return span(category, name, row["start"], row["end"], process=row["deviceId"] or 0, args=args)


def _kernels(base: sqlite3.Connection, table: str, texts: _Texts) -> Iterator[Event]:
    for row in _rows(base, table, *_DEVICE_COLUMNS, "demangledName", "shortName"):
        name = texts.get(row["demangledName"]) or texts.get(row["shortName"]) or "kernel"
        yield _on_device("kernel", name, row)


def _graphs(base: sqlite3.Connection, table: str, texts: _Texts) -> Iterator[Event]:
    """Graphs that were traced as wholes (``--cuda-graph-trace=graph``): one piece each."""
    del texts
    for row in _rows(base, table, *_DEVICE_COLUMNS, "graphId"):
        yield _on_device("kernel", f"CUDA graph {row['graphId']}", row)


def _copies(base: sqlite3.Connection, table: str, texts: _Texts) -> Iterator[Event]:
    del texts
    for row in _rows(base, table, *_DEVICE_COLUMNS, "bytes", "copyKind", "srcKind", "dstKind"):
        kind = _COPY_KINDS.get(row["copyKind"], "")
        between = (_MEMORY_KINDS.get(row[side], "Unknown") for side in ("srcKind", "dstKind"))
        yield _on_device("gpu_memcpy", f"Memcpy {kind} ({' -> '.join(between)})", row)


def _sets(base: sqlite3.Connection, table: str, texts: _Texts) -> Iterator[Event]:
    del texts
    for row in _rows(base, table, *_DEVICE_COLUMNS, "bytes"):
        yield _on_device("gpu_memset", "Memset (Device)", row)


def _place(number: int | None) -> tuple[int, int]:
    """Process and thread of a ``globalTid``."""
    return (number // _FIELD % _FIELD, number % _FIELD) if number else (0, 0)


def _calls(base: sqlite3.Connection, table: str, texts: _Texts) -> Iterator[Event]:
    """Calls into CUDA, and calls of the system that wait, by their names without the interface's version."""
    for row in _rows(base, table, "start", "end", "globalTid", "correlationId", "nameId"):
        process, thread = _place(row["globalTid"])
        correlation = row["correlationId"] if table == _CALL else None
        args = Args(correlation=correlation) if correlation else None
        name = _VERSION.sub("", texts.get(row["nameId"], "call"))
        yield span("cuda_runtime", name, row["start"], row["end"], process=process, thread=thread, args=args)


def _ranges(base: sqlite3.Connection, table: str, texts: _Texts) -> Iterator[Event]:
    for row in _rows(base, table, "start", "end", "eventType", "text", "textId", "globalTid"):
        if row["eventType"] not in _RANGES or row["end"] is None:
            continue
        process, thread = _place(row["globalTid"])
        category, name, args = _said(row["text"] or texts.get(row["textId"], ""))
        yield span(category, name, row["start"], row["end"], process=process, thread=thread, args=args)


def _said(text: str) -> tuple[str, str, Args | None]:
    """An operator with what ``emit_nvtx`` says of it, or an annotation; types of elements are never said."""
    found = _TORCH.fullmatch(text)
    if found is None or "::" not in found["name"]:
        return "user_annotation", text, None
    sizes = found["sizes"]
    dims = msgspec.Raw(sizes.encode()) if sizes else NOTHING
    return "cpu_op", found["name"], Args(sequence=int(found["seq"]) if found["seq"] else -1, dims=dims)
