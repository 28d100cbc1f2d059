"""Which counters did CUPTI read for each kernel? ``cuda_profiler_range`` events of a Chrome trace, read by themselves.

Kineto writes them when it is told to count (``CUPTI_PROFILER_METRICS``): one event a kernel, named after it, with a
counter's name and value for each argument.
"""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import msgspec

from hwprof.spans.columns import RangeCounters

CATEGORY = "cuda_profiler_range"


class _Range(msgspec.Struct, gc=False, frozen=True):
    cat: str = ""
    name: str = ""
    ts: float = 0.0
    args: dict[str, Any] | None = None


class _File(msgspec.Struct, gc=False, frozen=True, rename={"events": "traceEvents"}):
    events: list[_Range]


def counted_ranges(path: Path) -> tuple[RangeCounters, ...]:
    """The kernels that were counted, in their order; none where the file is damaged."""
    content = path.read_bytes()
    try:
        text = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
        events = msgspec.json.decode(text, type=_File).events
    except (msgspec.DecodeError, OSError, EOFError):
        return ()
    ranges = sorted((event for event in events if event.cat == CATEGORY), key=lambda event: event.ts)
    return tuple(RangeCounters(name=event.name, values=_numbers(event.args or {})) for event in ranges)


def _numbers(args: dict[str, Any]) -> tuple[tuple[str, float], ...]:
    """Counters are what has a number and the name of a metric, with its unit of hardware (``smsp__...``)."""
    return tuple(
        (name, float(value)) for name, value in args.items() if "__" in name and isinstance(value, int | float)
    )
