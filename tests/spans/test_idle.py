"""Claims about why a device is idle, by hand."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from made_up_spans import made_up_span, made_up_trace

from hwprof.spans.idle import gaps_of
from hwprof.spans.intervals import union
from hwprof.spans.nesting import parents
from hwprof.spans.pieces import gpu_pieces

SOME = 1000
"""Seconds before everything, so that no call is earlier than the trace."""


def causes_of(idle, starts):
    """Seconds that each gap waited for the host, in a queue, for the launch, and for what is not known.

    Args:
        idle: (begin, end) of gaps.
        starts: (start, when the host called; None where the trace has no call) of kernels.
    """
    spans = [made_up_span("origin", 0, 1)]
    for number, (start, called) in enumerate(starts, start=1):
        spans.append(made_up_span("gemm", SOME + start, SOME + start + 1, category="kernel", correlation=number))
        if called is not None:
            call = made_up_span(
                "cudaLaunchKernel", SOME + called, SOME + called, category="cuda_runtime", correlation=number
            )
            spans.append(call)
    trace = made_up_trace(spans)
    begins, ends = (np.array([SOME + each for each in column]) * 10**9 for column in zip(*idle, strict=True))
    gaps = gaps_of(trace, gpu_pieces(trace, parents(trace), trace.device), union(begins, ends))
    return [(part / 1e9).tolist() for part in (gaps.waited_ns, gaps.queued_ns, gaps.launch_ns, gaps.unknown_ns)]


def test_gap_is_the_hosts_until_the_call_and_the_launch_from_then_on():
    assert causes_of([(0, 10)], [(10, 7)]) == [[7], [0], [3], [0]]


def test_kernel_called_for_before_the_gap_waited_for_something_else():
    assert causes_of([(5, 10)], [(10, 1)]) == [[0], [5], [0], [0]]


def test_gap_that_no_kernel_ends_is_the_hosts():
    assert causes_of([(5, 10)], [(2, 1)]) == [[5], [0], [0], [0]]


def test_kernel_without_a_call_in_the_trace_tells_no_cause():
    assert causes_of([(5, 10)], [(10, None)]) == [[0], [0], [0], [5]]


@given(
    cuts=st.lists(st.integers(0, 100), min_size=2, max_size=12, unique=True),
    calls=st.lists(st.none() | st.integers(-20, 100), min_size=12, max_size=12),
)
def test_causes_make_up_each_gap(cuts, calls):
    ordered = sorted(cuts)
    idle = list(zip(ordered[::2], ordered[1::2], strict=False))
    ends = [end for _, end in idle]
    starts = [(end, None if call is None else min(call, end)) for end, call in zip(ends, calls, strict=False)]
    parts = causes_of(idle, starts)
    assert np.sum(parts, axis=0).tolist() == [end - begin for begin, end in idle]
