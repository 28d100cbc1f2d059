"""What is in a Kineto trace? Spans by category, read from the Chrome trace that torch.profiler writes."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hwprof.errors import InputError

US = 1e-6
"""Seconds in the unit of a Chrome trace's time stamps."""


_ELEMENT_BYTES = {
    "double": 8,
    "long int": 8,
    "long": 8,
    "float": 4,
    "int": 4,
    "half": 2,
    "c10::half": 2,
    "bfloat16": 2,
    "c10::bfloat16": 2,
    "short": 2,
    "byte": 1,
    "unsigned char": 1,
    "signed char": 1,
    "char": 1,
    "bool": 1,
}
"""Element types as operators and as NCCL's kernels name them, in lower case."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """One complete event; times in seconds on the trace's own clock.

    Attributes:
        operand_bytes: sizes of the tensors that an operator works on, where shapes were recorded; of a collective
            kernel what goes in and what comes out.
        collective: what a collective kernel does, as the profiler names it.
        group: how the process group of a collective kernel is described.
    """

    name: str
    category: str
    thread: int | str
    start_s: float
    end_s: float
    sequence: int | None
    in_backward: bool
    correlation: int | None
    operand_bytes: tuple[float, ...] = ()
    collective: str = ""
    group: str = ""

    @property
    def duration_s(self) -> float:
        """Length of the span."""
        return self.end_s - self.start_s


def read_events(path: Path) -> list[dict[str, Any]]:
    """The raw events of a trace file (.json or .json.gz).

    Raises:
        InputError: the file is no Chrome trace.
    """
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8") as file:
            events = json.load(file)["traceEvents"]
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} is not a readable Chrome trace ({error})",
            expectation="expected what torch.profiler's export_chrome_trace writes",
        ) from error
    return list(events)


def spans_of(events: Iterable[dict[str, Any]]) -> list[Span]:
    """All complete events, ordered by start, enclosing spans before enclosed ones."""
    spans = [_span(event) for event in events if event.get("ph") == "X" and event.get("cat") != "Trace"]
    spans.sort(key=lambda span: (span.start_s, -span.end_s))
    return spans


def _span(event: dict[str, Any]) -> Span:
    args = event.get("args") or {}
    start_s = float(event["ts"]) * US
    return Span(
        name=str(event["name"]),
        category=str(event.get("cat", "")),
        thread=event["tid"],
        start_s=start_s,
        end_s=start_s + float(event.get("dur", 0.0)) * US,
        sequence=args.get("Sequence number"),
        in_backward=bool(args.get("Fwd thread id")),
        correlation=args.get("correlation"),
        operand_bytes=_operand_bytes(args),
        collective=str(args.get("Collective name", "")),
        group=str(args.get("Process Group Description", "")),
    )


def _operand_bytes(args: dict[str, Any]) -> tuple[float, ...]:
    if "In msg nelems" in args:
        each = _ELEMENT_BYTES.get(str(args.get("dtype", "")).lower(), 0)
        return (float(args["In msg nelems"]) * each, float(args.get("Out msg nelems", 0)) * each)
    sizes = []
    for kind, shape in zip(args.get("Input type") or (), args.get("Input Dims") or (), strict=False):
        if kind == "TensorList":  # which does not tell its type
            sizes.append(float(sum(math.prod(each) for each in shape)) * _ELEMENT_BYTES["float"])
        elif kind.lower() in _ELEMENT_BYTES:
            sizes.append(float(math.prod(shape)) * _ELEMENT_BYTES[kind.lower()])
    return tuple(sizes)


def allocated_bytes(events: Iterable[dict[str, Any]], *, device_type: int) -> list[tuple[float, float]]:
    """(seconds, bytes allocated since the profiler started) of one device type (0: CPU, 1: CUDA), in time order."""
    points = [
        (float(event["ts"]) * US, float(event["args"]["Total Allocated"]))
        for event in events
        if event.get("name") == "[memory]" and event["args"].get("Device Type") == device_type
    ]
    return sorted(points)


TRACE_LIMIT_BYTES = 50e6
"""The largest trace that is kept."""
_CUT = 0.9
"""Each further try keeps so much of the last one: events differ in size."""


def shorten(path: Path, *, window: str, limit_bytes: float = TRACE_LIMIT_BYTES) -> float:
    """Cut a trace file (.json.gz) down to the beginning of its window; one that is small enough stays as it is.

    Args:
        path: the file, replaced once the shorter one is complete.
        window: the annotation with which what is kept begins.
        limit_bytes: the largest size.

    Returns:
        The share of the window's events that is kept; 1 where nothing was cut.

    Raises:
        OSError: the shorter one could not be written.
    """
    size_bytes = path.stat().st_size
    if size_bytes <= limit_bytes:
        return 1.0
    content, timed = _content_from(path, window)
    everything = content["traceEvents"]
    keep = len(timed) * limit_bytes / size_bytes
    partial = path.with_name(".shorter-" + path.name)
    while size_bytes > limit_bytes and keep >= 1:
        keep *= _CUT
        content["traceEvents"] = everything + timed[: int(keep)]
        with gzip.open(partial, "wt", encoding="utf-8") as file:
            json.dump(content, file, separators=(",", ":"))
        size_bytes = partial.stat().st_size
    partial.replace(path)
    return int(keep) / max(len(timed), 1)


def _content_from(path: Path, window: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The file with its untimed events alone, and in order of time the others from where the window begins."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        content: dict[str, Any] = json.load(file)
    events = content["traceEvents"]
    start = min((float(event["ts"]) for event in events if event.get("name") == window), default=-math.inf)
    timed = [event for event in events if event.get("ph") != "M" and float(event.get("ts", 0.0)) >= start]
    content["traceEvents"] = [event for event in events if event.get("ph") == "M"]
    return content, sorted(timed, key=lambda event: float(event.get("ts", 0.0)))
