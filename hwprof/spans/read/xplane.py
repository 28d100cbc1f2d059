"""How is a profile of JAX, of a TPU or a GPU, read? An ``xplane.pb``: planes of devices and hosts, lines, events.

The messages are those of XLA's ``xplane.proto`` (tsl/profiler/protobuf); protobuf reads them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hwprof.errors import InputError
from hwprof.spans.read.events import Args, Event
from hwprof.spans.read.messages import Field, decoder
from hwprof.spans.read.source import Source, batched, span

_PS_PER_NS = 1000
_STAT: tuple[Field, ...] = (
    ("metadata_id", 1, "int64"), ("double_value", 2, "double"), ("uint64_value", 3, "uint64"),
    ("int64_value", 4, "int64"), ("str_value", 5, "string"), ("bytes_value", 6, "bytes"), ("ref_value", 7, "uint64"),
)  # fmt: skip
_MESSAGES: Mapping[str, tuple[Field, ...]] = {
    "XStat": _STAT,
    "XEvent": (
        ("metadata_id", 1, "int64"), ("offset_ps", 2, "int64"), ("duration_ps", 3, "int64"), ("stats", 4, "*XStat"),
        ("num_occurrences", 5, "int64"),
    ),
    "XLine": (
        ("id", 1, "int64"), ("name", 2, "string"), ("timestamp_ns", 3, "int64"), ("events", 4, "*XEvent"),
        ("display_name", 11, "string"),
    ),
    "XEventMetadata": (
        ("id", 1, "int64"), ("name", 2, "string"), ("display_name", 4, "string"), ("stats", 5, "*XStat"),
    ),
    "XStatMetadata": (("id", 1, "int64"), ("name", 2, "string")),
    "EventEntry": (("key", 1, "int64"), ("value", 2, "XEventMetadata")),
    "StatEntry": (("key", 1, "int64"), ("value", 2, "XStatMetadata")),
    "XPlane": (
        ("id", 1, "int64"), ("name", 2, "string"), ("lines", 3, "*XLine"), ("event_metadata", 4, "*EventEntry"),
        ("stat_metadata", 5, "*StatEntry"), ("stats", 6, "*XStat"),
    ),
    "XSpace": (("planes", 1, "*XPlane"), ("hostnames", 4, "*string")),
}  # fmt: skip
_DEVICE = re.compile(r"/device:(?P<kind>TPU|GPU):(?P<number>\d+)")
_WHOLE = re.compile(r"(while|conditional|call|async-(start|done))\b|tuple|parameter|get-tuple-element|bitcast$")
"""Operations of XLA that stand around others, or do nothing."""
_STREAM = re.compile(r"Stream #(\d+)")
_COPY = re.compile(r"Memcpy|copy-(start|done)|infeed|outfeed|send|recv", re.IGNORECASE)
_TYPE = re.compile(r"\b(bf16|f16|f32|f64|s8)\[")
_TYPES = {"bf16": "bfloat16", "f16": "float16", "f32": "float32", "f64": "float64", "s8": "int8"}
_OPS, _ASYNC, _STEPS = "XLA Ops", "Async XLA Ops", "Steps"


def read(path: Path) -> Source:
    """The events of a profile.

    Raises:
        InputError: the file is no profile, or protobuf is not installed.
    """
    space = decoder(_MESSAGES, "XSpace", path, "expected an xplane.pb that jax.profiler or XProf wrote")
    planes = [(plane, _DEVICE.match(plane.name)) for plane in space.planes]
    if not any(plane.lines for plane, _ in planes):
        raise InputError(
            f"{path} is no profile: it has no lines of events",
            expectation="expected an xplane.pb that jax.profiler.trace or XProf wrote",
            remedy="give the .xplane.pb in plugins/profile/TIME/ of the log folder",
        )
    properties = [
        {"id": int(found["number"]), "name": _device_name(plane) or found["kind"]} for plane, found in planes if found
    ]
    times = [line.timestamp_ns for plane, _ in planes for line in plane.lines if line.events]
    return Source(batched(_events(planes, min(times, default=0))), {"deviceProperties": properties})


class _Plane:
    """Names of what a plane's numbers stand for. Mutable: no."""

    def __init__(self, plane: Any) -> None:
        self._plane = plane
        self._names = {entry.key: entry.value.name or entry.value.display_name for entry in plane.event_metadata}
        self._shown = {entry.key: entry.value.display_name for entry in plane.event_metadata}
        self._stats = {entry.key: entry.value.name for entry in plane.stat_metadata}
        self._of_kind = {entry.key: entry.value.stats for entry in plane.event_metadata}

    def name(self, event: Any) -> str:
        """What an event is called: of an operation of XLA the short name."""
        return str(self._shown.get(event.metadata_id) or self._names.get(event.metadata_id, ""))

    def stats(self, event: Any) -> dict[str, Any]:
        """What is said of an event, and of all of its kind."""
        both = (*self._of_kind.get(event.metadata_id, ()), *event.stats)
        return {self._stats.get(stat.metadata_id, ""): self.value(stat) for stat in both}

    def of_plane(self) -> dict[str, Any]:
        """What is said of the whole plane."""
        return {self._stats.get(stat.metadata_id, ""): self.value(stat) for stat in self._plane.stats}

    def value(self, stat: Any) -> Any:
        """A number or a text, looked up where it is a reference."""
        kind = stat.WhichOneof("value")
        return self._stats.get(stat.ref_value, "") if kind == "ref_value" else getattr(stat, kind) if kind else None


def _device_name(plane: Any) -> str:
    said = _Plane(plane).of_plane()
    return next((str(said[key]) for key in ("device_type_string", "device_vendor") if said.get(key)), "")


def _events(planes: list[tuple[Any, re.Match[str] | None]], origin_ns: int) -> Iterator[Event]:
    stepped = any(line.name == _STEPS and line.events for plane, found in planes if found for line in plane.lines)
    for plane, found in planes:
        known = _Plane(plane)
        for line in plane.lines:
            at_ns = line.timestamp_ns - origin_ns
            if found:
                yield from _of_device(known, line, at_ns, int(found["number"]))
            elif plane.name.startswith("/host:"):
                yield from _of_host(known, line, at_ns, plane.name, stepped=stepped)


def _times(event: Any, at_ns: int) -> tuple[float, float]:
    start = at_ns + event.offset_ps / _PS_PER_NS
    return start, start + event.duration_ps / _PS_PER_NS


def _of_device(known: _Plane, line: Any, at_ns: int, device: int) -> Iterator[Event]:
    """Operations of a TPU, kernels of a GPU's streams; the lines that sum these up are left out, but for steps."""
    stream = _STREAM.match(line.name)
    if line.name == _STEPS:
        for event in line.events:
            step = re.search(r"\d+", known.name(event))
            if step:
                yield span("user_annotation", f"ProfilerStep#{step[0]}", *_times(event, at_ns), process="steps")
        return
    if not stream and line.name not in {_OPS, _ASYNC}:
        return
    number = int(stream[1]) if stream else int(line.name == _ASYNC)
    for event in line.events:
        name = known.name(event)
        if not stream and _WHOLE.match(name.removeprefix("%")):
            continue
        said = known.stats(event)
        moves = _COPY.match(name.removeprefix("%")) is not None
        args = Args(
            device=device, stream=number, correlation=_whole(said.get("correlation_id"), -1),
            size_bytes=_whole(said.get("bytes_transferred") or said.get("memcpy_bytes"), 0),
            counted_flop=float(_whole(said.get("model_flops") or said.get("flops"), 0)),
            counted_bytes=float(_whole(said.get("bytes_accessed"), 0)),
            counted_dtype=_dtype(str(said.get("shape_with_layout", ""))),
        )  # fmt: skip
        category = "gpu_memset" if name.startswith("Memset") else "gpu_memcpy" if moves else "kernel"
        name = f"{said['hlo_category']} {name}" if said.get("hlo_category") and category == "kernel" else name
        yield span(category, name, *_times(event, at_ns), process=device, args=args)


def _of_host(known: _Plane, line: Any, at_ns: int, plane: str, *, stepped: bool) -> Iterator[Event]:
    """Python frames, steps, calls into the driver and what JAX and XLA say of themselves, by thread."""
    for event in line.events:
        name, said = known.name(event), known.stats(event)
        correlation = _whole(said.get("correlation_id"), -1)
        step = said.get("step_num")
        if step is not None:
            if stepped:
                continue
            category, name = "user_annotation", f"ProfilerStep#{step}"
        elif name.startswith("$"):
            category, name = "python_function", name.removeprefix("$")
        else:
            called = "cpu_op" if "hlo_op" in said else "user_annotation"  # what stands around operations does none
            category = "cuda_runtime" if correlation > 0 else called
        args = Args(correlation=correlation) if category == "cuda_runtime" else None
        yield span(category, name, *_times(event, at_ns), process=plane, thread=int(line.id), args=args)


def _dtype(shape: str) -> str:
    """``(bf16[128,256]{1,0}, ...)``: torch's name of the first type."""
    found = _TYPE.search(shape)
    return _TYPES.get(found[1], "") if found else ""


def _whole(value: object, otherwise: int) -> int:
    if isinstance(value, int | float):
        return int(value)
    return int(value) if isinstance(value, str) and value.isdecimal() else otherwise
