"""How does an emulated step look in a trace viewer? Chrome's trace format, a track a stream and a track a group."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from hwprof.emulate.answer import Emulation
from hwprof.emulate.order import Spans

STREAMS, GROUPS = 1, 2
"""Numbers of the two processes that a viewer shows: kernels by stream, collectives by group."""


def chrome_trace(found: Emulation) -> str:
    """The step of the rank that was asked for as JSON text, an event a line; microseconds from its beginning."""
    recording, played = found.recording, found.played
    begin_s = min([*played.kernels.starts, *played.messages.starts], default=0.0)
    title = f"rank {recording.rank} of {recording.devices} x {found.hardware}"
    events = [_named(STREAMS, f"{title}, emulated"), _named(GROUPS, "collectives and messages")]
    for start_s, end_s, kind, stream in _each(played.kernels):
        call = recording.calls[kind]
        told = {"line": call.line, "flop": call.flop, "spared_bytes": call.spared_bytes}
        events.append(_slice(call.name, STREAMS, stream, start_s - begin_s, end_s - start_s, told))
    for start_s, end_s, kind, _ in _each(played.messages):
        one = recording.collectives[kind]
        told = {"ranks": list(one.ranks), "bytes": one.size_bytes}
        events.append(_slice(one.op, GROUPS, one.group, start_s - begin_s, end_s - start_s, told))
    lines = ",\n".join(json.dumps(event) for event in events)
    return f'{{"displayTimeUnit": "ms", "traceEvents": [\n{lines}\n]}}\n'


def _each(spans: Spans) -> Iterator[tuple[float, float, int, int]]:
    return zip(spans.starts, spans.ends, spans.kinds, spans.streams, strict=True)


def _named(pid: int, name: str) -> dict[str, Any]:
    return {"name": "process_name", "ph": "M", "pid": pid, "tid": 0, "args": {"name": name}}


def _slice(  # noqa: PLR0917 (the six things that a slice is)
    name: str, pid: int, tid: int, start_s: float, duration_s: float, told: dict[str, Any]
) -> dict[str, Any]:
    times = {"ts": round(start_s * 1e6, 3), "dur": round(duration_s * 1e6, 3)}
    return {"name": name, "ph": "X", "pid": pid, "tid": tid, **times, "args": told}
