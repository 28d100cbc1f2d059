"""Which rows differ? Against Python's own sets."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hwprof.specs.distinct import distinct


@given(rows=st.lists(st.tuples(*[st.integers(-3, 2**40)] * 3), min_size=1, max_size=12))
@settings(max_examples=40)
def test_distinct_rows_are_those_of_a_set_in_order(rows):
    """Columns of so wide numbers that one key can't hold them all are included."""
    table = np.array(rows, dtype=np.int64)
    first, index = distinct(*table.T)
    assert [tuple(row) for row in table[first].tolist()] == sorted(set(rows))
    assert first.tolist() == [rows.index(row) for row in sorted(set(rows))]
    assert (table[first][index] == table).all()


def test_columns_may_be_narrow_and_of_different_types():
    first, index = distinct(np.array([1, -1, 1], dtype=np.int8), np.array([2**40, 5, 2**40]))
    assert (first.tolist(), index.tolist()) == ([1, 0], [1, 0, 1])


def test_no_rows_are_no_cases():
    first, index = distinct(np.array([], dtype=np.int64))
    assert (len(first), len(index)) == (0, 0)
