"""Claims about interval arithmetic on columns, against counting whole units one by one."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hwprof.spans.intervals import Intervals, intersect, join, subtract, union

_PAIRS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 8)).map(lambda p: (p[0], p[0] + p[1])))


def _cells(pairs):
    return {cell for start, end in pairs for cell in range(start, end)}


def _of(pairs) -> Intervals:
    return union(np.array([start for start, _ in pairs], dtype=int), np.array([end for _, end in pairs], dtype=int))


def _covered(found: Intervals):
    return _cells(zip(found.starts.tolist(), found.ends.tolist(), strict=True))


@given(_PAIRS)
def test_a_union_covers_the_same_cells_in_order_without_touching(pairs):
    found = _of(pairs)
    assert _covered(found) == _cells(pairs)
    assert found.length == len(_cells(pairs))
    assert (found.starts[1:] > found.ends[:-1]).all()


@given(_PAIRS, _PAIRS)
def test_set_arithmetic(left, right):
    first, second = _of(left), _of(right)
    assert _covered(subtract(first, second)) == _cells(left) - _cells(right)
    assert _covered(intersect(first, second)) == _cells(left) & _cells(right)
    assert _covered(join(first, second)) == _cells(left) | _cells(right)


@given(_PAIRS, _PAIRS)
def test_what_lies_within_windows(pairs, windows):
    found = _of(pairs).within([start for start, _ in windows], [end for _, end in windows])
    assert list(found) == [len(_cells(pairs) & set(range(start, end))) for start, end in windows]


@given(_PAIRS, st.lists(st.integers(-2, 40)))
def test_which_times_lie_inside(pairs, times):
    assert list(_of(pairs).holds(times)) == [time in _cells(pairs) for time in times]
