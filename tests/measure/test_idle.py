"""Claims about why a GPU is idle, by hand."""

from hypothesis import given
from hypothesis import strategies as st

from hwprof.measure import intervals
from hwprof.measure.idle import causes


def test_gap_is_the_hosts_until_the_call_and_the_launch_from_then_on():
    found = causes([(0, 10)], [(10, 7)])
    assert (found.host, found.dependency, found.other) == ([(0, 7)], [], [(7, 10)])


def test_kernel_called_for_before_the_gap_waited_for_something_else():
    found = causes([(5, 10)], [(10, 1)])
    assert (found.host, found.dependency, found.other) == ([], [(5, 10)], [])


def test_gap_that_no_kernel_ends_is_the_hosts():
    assert causes([(5, 10)], [(2, 1)]).host == [(5, 10)]


def test_kernel_without_a_call_in_the_trace_tells_no_cause():
    assert causes([(5, 10)], [(10, None)]).other == [(5, 10)]


@given(
    cuts=st.lists(st.integers(0, 100), min_size=2, max_size=12, unique=True),
    calls=st.lists(st.integers(-20, 100), min_size=12, max_size=12),
)
def test_causes_are_disjoint_and_make_up_all_idle_time(cuts, calls):
    ordered = sorted(cuts)
    idle = list(zip(ordered[::2], ordered[1::2], strict=False))
    found = causes(idle, [(end, min(call, end)) for (_, end), call in zip(idle, calls, strict=False)])
    parts = [found.host, found.dependency, found.other]
    assert sum(intervals.length_s(part) for part in parts) == intervals.length_s(idle)
    assert intervals.union(pair for part in parts for pair in part) == intervals.union(idle)
