"""What is in a Kineto trace? Spans by category, read from the Chrome trace that torch.profiler writes."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hwprof.errors import InputError

US = 1e-6
"""Seconds in the unit of a Chrome trace's time stamps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """One complete event; times in seconds on the trace's own clock."""

    name: str
    category: str
    thread: int | str
    start_s: float
    end_s: float
    sequence: int | None
    in_backward: bool
    correlation: int | None

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
    )


def allocated_bytes(events: Iterable[dict[str, Any]], *, device_type: int) -> list[tuple[float, float]]:
    """(seconds, bytes allocated since the profiler started) of one device type (0: CPU, 1: CUDA), in time order."""
    points = [
        (float(event["ts"]) * US, float(event["args"]["Total Allocated"]))
        for event in events
        if event.get("name") == "[memory]" and event["args"].get("Device Type") == device_type
    ]
    return sorted(points)
