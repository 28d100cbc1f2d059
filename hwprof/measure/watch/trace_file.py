"""How is the trace file of a profiled window read and kept? Read whole; kept up to a limit."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path
from typing import Any

from hwprof.errors import InputError
from hwprof.spans.columns import Trace
from hwprof.spans.read.file import read_trace

TRACE_LIMIT_BYTES = 50e6
"""The largest trace that is kept."""
_CUT = 0.9
"""Each further try keeps so much of the last one: events differ in size."""


def read_whole(path: Path) -> Trace:
    """The events of a trace file (.json or .json.gz) that torch.profiler has just written.

    Raises:
        InputError: the file is no Chrome trace, or ends early.
    """
    trace = read_trace(path)
    if trace.broken is not None:
        raise InputError(
            f"{path} is not a readable Chrome trace ({trace.broken.reason})",
            expectation="expected what torch.profiler's export_chrome_trace writes",
        )
    return trace


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
