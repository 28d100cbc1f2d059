"""What is read of a trace, whoever wrote it? Its events in Kineto's words, in batches, and what stands around."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from hwprof.spans.read.events import Args, Event

BATCH = 1 << 14
US_PER_NS = 1e-3


@dataclass(frozen=True, slots=True)
class Source:
    """The events of one file.

    Attributes:
        batches: events as Kineto names them; times in microseconds.
        metadata: as the top-level fields of a Chrome trace: ``deviceProperties``, ``distributedInfo``.
    """

    batches: Iterable[list[Event]]
    metadata: Mapping[str, Any]


def batched(events: Iterator[Event]) -> Iterator[list[Event]]:
    """The events in lists of some size."""
    while batch := list(islice(events, BATCH)):
        yield batch


def span(
    category: str, name: str, start_ns: float, end_ns: float, *, process: int | str = 0, thread: int | str = 0,
    args: Args | None = None,
) -> Event:  # fmt: skip
    """A complete event from times in nanoseconds."""
    return Event(
        ph="X", cat=category, name=name, pid=process, tid=thread, ts=start_ns * US_PER_NS,
        dur=max(end_ns - start_ns, 0) * US_PER_NS, args=args,
    )  # fmt: skip
