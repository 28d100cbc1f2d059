"""Claims about why a GPU is idle, by hand."""

from hypothesis import given
from hypothesis import strategies as st

from hwprof.measure.attribute.idle import causes
from hwprof.specs.intervals import of_pairs


def pairs(found):
    return list(zip(found.starts.tolist(), found.ends.tolist(), strict=True))


def causes_of(idle, starts):
    found = causes(of_pairs(idle), starts)
    return pairs(found.host), pairs(found.dependency), pairs(found.other)


def test_gap_is_the_hosts_until_the_call_and_the_launch_from_then_on():
    assert causes_of([(0, 10)], [(10, 7)]) == ([(0, 7)], [], [(7, 10)])


def test_kernel_called_for_before_the_gap_waited_for_something_else():
    assert causes_of([(5, 10)], [(10, 1)]) == ([], [(5, 10)], [])


def test_gap_that_no_kernel_ends_is_the_hosts():
    assert causes_of([(5, 10)], [(2, 1)]) == ([(5, 10)], [], [])


def test_kernel_without_a_call_in_the_trace_tells_no_cause():
    assert causes_of([(5, 10)], [(10, None)]) == ([], [], [(5, 10)])


@given(
    cuts=st.lists(st.integers(0, 100), min_size=2, max_size=12, unique=True),
    calls=st.lists(st.integers(-20, 100), min_size=12, max_size=12),
)
def test_causes_are_disjoint_and_make_up_all_idle_time(cuts, calls):
    ordered = sorted(cuts)
    idle = list(zip(ordered[::2], ordered[1::2], strict=False))
    parts = causes_of(idle, [(end, min(call, end)) for (_, end), call in zip(idle, calls, strict=False)])
    whole = of_pairs(pair for part in parts for pair in part)
    assert sum(of_pairs(part).length for part in parts) == of_pairs(idle).length
    assert pairs(whole) == pairs(of_pairs(idle))
