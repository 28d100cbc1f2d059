"""Spans as torch.profiler writes them, made by hand."""

from __future__ import annotations

from typing import Any

from hwprof.measure.attribute.trace import Span


def made_up_span(name: str, start_s: float, end_s: float, **changes: Any) -> Span:
    """An operator of a CPU's first thread, with changes."""
    plain = {"category": "cpu_op", "thread": 1, "sequence": None, "in_backward": False, "correlation": None}
    return Span(name=name, start_s=start_s, end_s=end_s, **plain | changes)
