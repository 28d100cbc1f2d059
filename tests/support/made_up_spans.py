"""Spans as torch.profiler writes them, made by hand, and the trace that they make."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from hwprof.measure.attribute.attribution import TraceSummary, attribute
from hwprof.spans.columns import Trace
from hwprof.spans.read.collect import Collector
from hwprof.spans.read.events import Args, Event


def made_up_span(
    name: str,
    start_s: float,
    end_s: float,
    *,
    category: str = "cpu_op",
    thread: int | str = 1,
    sequence: int = -1,
    in_backward: bool = False,
    correlation: int = -1,
    external: int = -1,
    collective: str = "",
    group: str = "",
    operand_bytes: Sequence[int] = (),
) -> Event:
    """An operator of a CPU's first thread, unless it is said to be something else.

    ``operand_bytes`` are the sizes of an operator's tensors, of a collective kernel what goes in and what comes out.
    """
    sizes = (*operand_bytes, 0, 0) if collective else (0, 0)
    shaped = operand_bytes and not collective
    args = Args(
        sequence=sequence,
        forward_thread=int(in_backward),
        correlation=correlation,
        external=external,
        collective=collective,
        dtype="Byte",
        elements=sizes[0],
        out_elements=sizes[1],
        description=group,
        dims=msgspec.Raw(msgspec.json.encode([[size] for size in operand_bytes] if shaped else [])),
        types=msgspec.Raw(msgspec.json.encode(["unsigned char"] * len(operand_bytes) if shaped else [])),
    )
    return Event(ph="X", cat=category, name=name, tid=thread, ts=start_s * 1e6, dur=(end_s - start_s) * 1e6, args=args)


def made_up_trace(spans: Iterable[Event]) -> Trace:
    """The trace that has these spans, in whatever order they stand."""
    collector = Collector(values_of=())
    collector.add(list(spans))
    return collector.trace("made up", {}, None)


def attributed(spans: Iterable[Event], **options: Any) -> TraceSummary | None:
    """What is said of the trace of these spans."""
    return attribute(made_up_trace(spans), **options)
