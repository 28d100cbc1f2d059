"""Claims about interval arithmetic, against counting whole units one by one."""

from hypothesis import given
from hypothesis import strategies as st

from hwprof.measure import intervals

_PAIRS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 8)).map(lambda p: (float(p[0]), float(p[0] + p[1]))))


def _cells(pairs):
    return {cell for start, end in pairs for cell in range(int(start), int(end))}


@given(_PAIRS)
def test_union_covers_exactly_the_same_cells(pairs):
    assert _cells(pairs) == _cells(intervals.union(pairs))
    assert len(_cells(pairs)) == intervals.length_s(intervals.union(pairs))


@given(_PAIRS, _PAIRS)
def test_subtract_and_intersect_equal_set_arithmetic(left, right):
    whole, part = intervals.union(left), intervals.union(right)
    assert _cells(left) - _cells(right) == _cells(intervals.subtract(whole, part))
    assert _cells(left) & _cells(right) == _cells(intervals.intersect(whole, part))


def test_clip_cuts_to_the_window():
    assert intervals.clip([(0.0, 2.0), (5.0, 9.0), (11.0, 12.0)], (1.0, 6.0)) == [(1.0, 2.0), (5.0, 6.0)]
