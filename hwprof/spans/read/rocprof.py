"""How is what rocprofv3 writes read? Its JSON, or its CSV files: kernels, copies, calls into HIP, markers.

Names of fields are those of rocprofiler-sdk's output (tool/rocprofv3 schema); times are nanoseconds.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from hwprof.errors import InputError
from hwprof.spans.read.events import Args, Event
from hwprof.spans.read.source import Source, batched, span

KEY = b'"rocprofiler-sdk-tool"'
KERNELS = "kernel_trace.csv"
_COPIES, _CALLS, _MARKERS, _AGENTS = (
    "memory_copy_trace.csv",
    "hip_api_trace.csv",
    "marker_api_trace.csv",
    "agent_info.csv",
)
_GPU = 2
"""rocprofiler_agent_type_t: 1 is a CPU, 2 a GPU."""
_DIRECTIONS = {"HOST_TO_DEVICE": "HtoD", "DEVICE_TO_HOST": "DtoH", "DEVICE_TO_DEVICE": "DtoD", "HOST_TO_HOST": "HtoH"}


def copy_name(text: str) -> str:
    """What CUPTI would call a copy of this direction."""
    kind = next((short for word, short in _DIRECTIONS.items() if word in text.upper()), text)
    return f"Memcpy {kind}"


def read_json(path: Path) -> Source:
    """The events of ``*_results.json``, of all processes in it.

    Raises:
        InputError: it is damaged.
    """
    try:
        content = msgspec.json.decode(path.read_bytes())
        found = content["rocprofiler-sdk-tool"]
        tools = found if isinstance(found, list) else [found]
        properties = [each for tool in tools for each in _agents(tool)]
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} is no output of rocprofv3: {error}",
            expectation="expected a whole file of `rocprofv3 --output-format json`",
            remedy="record it again: a program that was killed leaves half of it",
        ) from error
    return Source(batched(event for tool in tools for event in _of_tool(tool)), {"deviceProperties": properties})


def _handle(value: object) -> int:
    found = value.get("handle", 0) if isinstance(value, Mapping) else value
    return int(found) if isinstance(found, int | str) and str(found).isdecimal() else 0


def _agents(tool: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The GPUs, numbered as HIP does: in their order."""
    gpus = [agent for agent in tool.get("agents", ()) if agent.get("type") == _GPU]
    for number, agent in enumerate(gpus):
        name = agent.get("product_name") or agent.get("name") or ""
        yield {"id": number, "name": name, "handle": _handle(agent.get("id"))}


def _of_tool(tool: Mapping[str, Any]) -> Iterator[Event]:
    process = int(tool.get("metadata", {}).get("pid", 0))
    devices = {agent["handle"]: agent["id"] for agent in _agents(tool)}
    records = tool.get("buffer_records", {})
    symbols = {each.get("kernel_id"): _symbol(each) for each in tool.get("kernel_symbols", ())}
    for one in records.get("kernel_dispatch", ()):
        info = one.get("dispatch_info", {})
        yield _on_device(
            "kernel", symbols.get(info.get("kernel_id"), "kernel"), one,
            device=devices.get(_handle(info.get("agent_id")), 0),
            stream=_handle(one.get("stream_id") or info.get("queue_id")),
        )  # fmt: skip
    names = _operations(tool)
    for one in records.get("memory_copy", ()):
        yield _on_device(
            "gpu_memcpy", copy_name(names(one)), one, stream=_handle(one.get("stream_id")),
            device=devices.get(_handle(one.get("dst_agent_id")), devices.get(_handle(one.get("src_agent_id")), 0)),
        )  # fmt: skip
    for one in records.get("hip_api", ()):
        yield _call("cuda_runtime", names(one), one, process)
    marked = {each.get("key"): each.get("value") for each in tool.get("strings", {}).get("marker_api", ())}
    for one in records.get("marker_api", ()):
        text = marked.get(_correlation(one)) or names(one)
        yield _call("user_annotation", text, one, process)


def _symbol(symbol: Mapping[str, Any]) -> str:
    fields = ("formatted_kernel_name", "demangled_kernel_name", "kernel_name")
    return next((str(symbol[name]) for name in fields if symbol.get(name)), "kernel")


class _Operations:
    """Names of operations by the numbers of their kind and their own. Mutable: no, but read once."""

    def __init__(self, kinds: Sequence[Mapping[str, Any]]) -> None:
        self._names = [list(kind.get("operations", ())) for kind in kinds]

    def __call__(self, record: Mapping[str, Any]) -> str:
        kind, operation = record.get("kind"), record.get("operation")
        if isinstance(kind, str):
            return str(operation)
        try:
            return str(self._names[int(kind or 0)][int(operation or 0)])
        except (IndexError, TypeError, ValueError):
            return "call"


def _operations(tool: Mapping[str, Any]) -> _Operations:
    return _Operations(tool.get("strings", {}).get("buffer_records", ()))


def _correlation(record: Mapping[str, Any]) -> int:
    found = record.get("correlation_id", -1)
    return int(found.get("internal", -1)) if isinstance(found, Mapping) else int(found)


def _on_device(category: str, name: str, one: Mapping[str, Any], *, device: int, stream: int) -> Event:
    args = Args(device=device, stream=stream, correlation=_correlation(one), size_bytes=int(one.get("bytes", 0)))
    return span(category, name, int(one["start_timestamp"]), int(one["end_timestamp"]), process=device, args=args)


def _call(category: str, name: str, one: Mapping[str, Any], process: int) -> Event:
    args = Args(correlation=_correlation(one)) if category == "cuda_runtime" else None
    times = int(one["start_timestamp"]), int(one["end_timestamp"])
    return span(category, name, *times, process=process, thread=int(one.get("thread_id", 0)), args=args)


def read_csv(path: Path) -> Source:
    """The events of ``*_kernel_trace.csv`` and of the files of the same run beside it.

    Raises:
        InputError: it is another file.
    """
    if not path.name.endswith(KERNELS):
        raise InputError(
            f"{path} is no trace of kernels",
            expectation="expected rocprofv3's *_kernel_trace.csv; calls, copies and markers beside it are read, too",
            remedy="record with `rocprofv3 --kernel-trace --hip-trace --memory-copy-trace --output-format csv -- ...`",
        )
    agents = [row for row in _lines(path, _AGENTS) if row.get("Agent_Type") == "GPU"]
    numbers = {str(row.get("Node_Id")): number for number, row in enumerate(agents)}
    properties = [
        {"id": number, "name": row.get("Product_Name") or row.get("Name")} for number, row in enumerate(agents)
    ]
    return Source(batched(_of_files(path, numbers)), {"deviceProperties": properties})


def _lines(kernels: Path, name: str) -> Iterator[dict[str, str]]:
    """The rows of a file of the same run; none where it was not written."""
    path = kernels.with_name(kernels.name.removesuffix(KERNELS) + name)
    if path.is_file():
        with path.open(newline="", encoding="utf-8", errors="replace") as file:
            yield from csv.DictReader(file)


def _of_files(path: Path, numbers: Mapping[str, int]) -> Iterator[Event]:
    def device(row: Mapping[str, str], *fields: str) -> int:
        texts = (str(row.get(field, "")).removeprefix("Agent ").strip() for field in fields)
        found = [numbers.get(text, int(text) if text.isdecimal() and not numbers else -1) for text in texts]
        return max(found, default=0) if found and max(found) >= 0 else 0

    for row in _lines(path, KERNELS):
        yield _row("kernel", row["Kernel_Name"], row, device=device(row, "Agent_Id"))
    for row in _lines(path, _COPIES):
        name = copy_name(row.get("Direction") or row.get("Name") or "")
        yield _row("gpu_memcpy", name, row, device=device(row, "Source_Agent_Id", "Destination_Agent_Id"))
    for row in _lines(path, _CALLS):
        yield _row("cuda_runtime", row["Function"], row)
    for row in _lines(path, _MARKERS):
        yield _row("user_annotation", row["Function"], row)


def _number(row: Mapping[str, str], *fields: str, otherwise: int = 0) -> int:
    found = (row.get(field) or "" for field in fields)
    return next((int(text) for text in found if text.isdecimal()), otherwise)


def _row(category: str, name: str, row: Mapping[str, str], *, device: int | None = None) -> Event:
    correlation = _number(row, "Correlation_Id", otherwise=-1)
    times = _number(row, "Start_Timestamp"), _number(row, "End_Timestamp")
    if device is None:
        args = Args(correlation=correlation) if category == "cuda_runtime" else None
        thread, process = _number(row, "Thread_Id"), _number(row, "Process_Id")
        return span(category, name, *times, process=process, thread=thread, args=args)
    stream = _number(row, "Stream_Id", "Queue_Id")
    args = Args(device=device, stream=stream, correlation=correlation, size_bytes=_number(row, "Bytes", "Size"))
    return span(category, name, *times, process=device, args=args)
