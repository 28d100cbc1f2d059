"""How does a timeline look in a trace viewer? Chrome's trace format, which chrome://tracing and Perfetto open.

One track a stage with its passes, sends, reduction and update, and one counter a stage with its memory. Times are in
microseconds, to the nanosecond; the format is described in "Trace Event Format" (Google, 2016).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from hwprof.simulate.pipeline.passes import Item
from hwprof.simulate.pipeline.timeline import Span, Timeline

Event = dict[str, Any]

_STAGES_PID, _MEMORY_PID = 1, 2

_COLOURS = {
    "forward": "thread_state_iowait",
    "backward": "rail_response",
    "backward input": "rail_animation",
    "backward weight": "thread_state_running",
    "together": "rail_load",
    "communication": "terrible",
    "send": "bad",
    "before": "grey",
    "reduce gradients": "bad",
    "optimizer": "good",
}
"""Names of the viewer's palette. Perfetto colours by the text of a name instead: a colour for each kind there too."""


def chrome_trace(timeline: Timeline) -> Event:
    """The trace as plain data; ``json.dump`` makes a file of it."""
    stages = range(len(timeline.work.stages))
    events = [
        _named("process_name", _STAGES_PID, 0, f"pipeline, {timeline.work.schedule}"),
        _named("process_name", _MEMORY_PID, 0, "memory"),
    ]
    for stage in stages:
        events.append(_named("thread_name", _STAGES_PID, stage, f"stage {stage}"))
        events.append(_event("thread_sort_index", "M", _STAGES_PID, stage, args={"sort_index": stage}))
    for stage in stages:
        events += _stage_events(timeline, stage)
        events += _memory_events(timeline, stage)
    return {"displayTimeUnit": "ms", "traceEvents": events}


def chrome_trace_json(timeline: Timeline) -> str:
    """The trace as JSON text, an event a line."""
    trace = chrome_trace(timeline)
    lines = ",\n".join(json.dumps(event) for event in trace["traceEvents"])
    return f'{{"displayTimeUnit": "ms", "traceEvents": [\n{lines}\n]}}\n'


def _stage_events(timeline: Timeline, stage: int) -> Iterator[Event]:
    work = timeline.work.stages[stage]
    if work.before_s:
        yield _slice("before", stage, 0.0, work.before_s)
    for span in timeline.spans(stage):
        yield from _span_events(span, stage)
    reduced_s, update_s = float(timeline.reduced_s[stage]), float(timeline.update_s[stage])
    if work.reduce_s:
        yield _slice("reduce gradients", stage, reduced_s - work.reduce_s, reduced_s)
    if work.optimizer_s:
        yield _slice("optimizer", stage, update_s, update_s + work.optimizer_s)


def _span_events(span: Span, stage: int) -> Iterator[Event]:
    """The item; inside it, at its end, what is communication (when it takes place is not simulated); then the send."""
    kind = "together" if len(span.item) > 1 else span.item[0].kind.replace("_", " ")
    passes = [one._asdict() for one in span.item]
    yield _slice(kind, stage, span.start_s, span.end_s, name=_title(span.item), args={"passes": passes})
    if span.communication_s:
        yield _slice("communication", stage, span.end_s - span.communication_s, span.end_s)
    if span.hold_s:
        yield _slice("send", stage, span.end_s, span.end_s + span.hold_s)


def _title(item: Item) -> str:
    """Kind and micro-batch; the chunk is among the event's arguments."""
    return " + ".join(f"{one.kind.replace('_', ' ')} {one.micro_batch}" for one in item)


def _memory_events(timeline: Timeline, stage: int) -> Iterator[Event]:
    times_s, levels_bytes = timeline.memory_curve(stage)
    shown = None
    for time_s, level_bytes in zip(times_s.tolist(), levels_bytes.tolist(), strict=True):
        if level_bytes == shown:
            continue
        shown = level_bytes
        yield _event(
            f"stage {stage}", "C", _MEMORY_PID, stage, ts=round(time_s * 1e6, 3), args={"bytes": round(level_bytes)}
        )


def _slice(kind: str, stage: int, start_s: float, end_s: float, *, name: str = "", **more: Any) -> Event:
    start_us, end_us = round(start_s * 1e6, 3), round(end_s * 1e6, 3)
    duration_us = round(end_us - start_us, 3)
    colour = _COLOURS[kind]
    return _event(name or kind, "X", _STAGES_PID, stage, ts=start_us, dur=duration_us, cat=kind, cname=colour, **more)


def _named(what: str, pid: int, tid: int, name: str) -> Event:
    return _event(what, "M", pid, tid, args={"name": name})


def _event(name: str, phase: str, pid: int, tid: int, **more: Any) -> Event:
    return {"name": name, "ph": phase, "pid": pid, "tid": tid, **more}
