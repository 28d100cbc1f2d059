"""Does the host keep ahead of the device? Delays between launch and start, and how many kernels wait in each stream."""

from __future__ import annotations

import numpy as np

from hwprof.specs.trace import TraceLaunches, TraceQueue
from hwprof.trace.breakdown import NS
from hwprof.trace.columns import Ints, Trace
from hwprof.trace.pieces import Pieces


def launches(trace: Trace, pieces: Pieces) -> TraceLaunches:
    """Calls, delays, and kernels that are shorter than the call that launched them."""
    launched = pieces.where(pieces.host >= 0)
    calls, kernels_of = np.unique(launched.host, return_counts=True)
    call_ns = trace.host.end_ns[calls] - trace.host.start_ns[calls]
    alone = calls[kernels_of == 1]
    single = np.isin(launched.host, alone)
    own_ns = (launched.end_ns - launched.start_ns)[single]
    own_call_ns = (trace.host.end_ns - trace.host.start_ns)[launched.host[single]]
    delay_ns = launched.start_ns - trace.host.start_ns[launched.host] if len(launched) else np.zeros(1)
    return TraceLaunches(
        kernels=len(pieces),
        launched=len(launched),
        calls=len(calls),
        call_s=float(call_ns.sum()) * NS,
        delay_median_s=float(np.median(delay_ns)) * NS,
        delay_p90_s=float(np.quantile(delay_ns, 0.9)) * NS,
        short_kernels=int((own_ns < own_call_ns).sum()),
        graph_kernels=int(kernels_of[kernels_of > 1].sum()),
    )


def queues(trace: Trace, pieces: Pieces) -> tuple[TraceQueue, ...]:
    """Each stream's kernels between the start of their launch call and their own start."""
    launched = pieces.where(pieces.host >= 0)
    return tuple(
        _queue(int(stream), trace.host.start_ns[launched.host[mine]], launched.start_ns[mine])
        for stream in np.unique(launched.stream)
        for mine in [launched.stream == stream]
    )


def _queue(stream: int, called_ns: Ints, started_ns: Ints) -> TraceQueue:
    """Where a kernel starts as another is launched, it has left the queue."""
    times = np.concatenate([started_ns, called_ns])
    changes = np.repeat([-1, 1], [len(started_ns), len(called_ns)])
    order = np.argsort(times, kind="stable")
    lengths = np.cumsum(changes[order])
    lasted_ns = np.diff(times[order])
    span_ns = float(lasted_ns.sum())
    waiting = np.maximum(lengths[:-1], 0)
    return TraceQueue(
        stream=stream,
        longest=int(max(lengths.max(), 0)),
        mean=float((waiting * lasted_ns).sum()) / span_ns if span_ns else 0.0,
        empty_fraction=float(lasted_ns[waiting == 0].sum()) / span_ns if span_ns else 0.0,
    )
