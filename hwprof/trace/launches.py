"""Does the host keep ahead of the device? Delays between launch and start, and how many kernels wait in each stream."""

from __future__ import annotations

import numpy as np

from hwprof.spans.columns import NS, Ints, Trace
from hwprof.spans.nesting import at
from hwprof.spans.pieces import Pieces
from hwprof.specs.record.trace import TraceLaunches, TraceQueue


def launches(trace: Trace, pieces: Pieces) -> TraceLaunches:
    """Calls, delays, and kernels that are shorter than the call that launched them."""
    launched = pieces.where(pieces.host >= 0)
    delay_median_ns, delay_p90_ns = _delays(trace, launched)
    call_ns = at(trace.host.end_ns, launched.host) - at(trace.host.start_ns, launched.host)
    kernels_of = np.bincount(launched.host).astype(np.int32)
    single = kernels_of[launched.host] == 1
    short = launched.end_ns - launched.start_ns < call_ns
    _, first = np.unique(launched.host, return_index=True)
    return TraceLaunches(
        kernels=len(pieces),
        launched=len(launched),
        calls=len(first),
        call_s=float(call_ns[first].sum()) * NS,
        delay_median_s=delay_median_ns * NS,
        delay_p90_s=delay_p90_ns * NS,
        short_kernels=int((single & short).sum()),
        graph_kernels=int(kernels_of[kernels_of > 1].sum()),
    )


def _delays(trace: Trace, launched: Pieces) -> tuple[float, float]:
    """Median and 90th percentile of the time from a call to its kernel."""
    if not len(launched):
        return 0.0, 0.0
    delay_ns = launched.start_ns - at(trace.host.start_ns, launched.host)
    return float(np.median(delay_ns)), float(np.quantile(delay_ns, 0.9))


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
    changes = np.repeat(np.array([-1, 1], dtype=np.int8), [len(started_ns), len(called_ns)])
    order = np.argsort(times, kind="stable")
    times, changes = times[order], changes[order]
    del order
    lasted_ns = np.diff(times)
    del times
    lengths = np.cumsum(changes, dtype=np.int32)
    span_ns = float(lasted_ns.sum())
    waiting = np.maximum(lengths[:-1], 0)
    return TraceQueue(
        stream=stream,
        longest=int(max(lengths.max(), 0)),
        mean=float((waiting * lasted_ns).sum()) / span_ns if span_ns else 0.0,
        empty_fraction=float(lasted_ns[waiting == 0].sum()) / span_ns if span_ns else 0.0,
    )
