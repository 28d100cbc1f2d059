"""Lattices: exact at their knots, geometric between them, proportional beyond, and rising where they must."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwprof.predict.curves.lattice import Axis, Curve, rising, settled


def curve_of(seconds, first=1.0, step=2.0):
    """Of one axis: times at the sizes first, first x step, ..."""
    knots = np.stack([np.log(seconds), np.full(len(seconds), 0.1)], axis=1)
    return Curve(np.array([np.log(first)]), np.array([np.log(step)]), (len(seconds),), knots)


@pytest.mark.parametrize(
    ("size", "seconds"),
    [(1, 1.0), (2, 4.0), (4, 6.0), (2**0.5, 2.0), (0.25, 1.0), (8, 12.0), (64, 96.0)],
)
def test_a_curve_is_exact_at_knots_geometric_between_and_proportional_beyond(size, seconds):
    found, half_width = curve_of([1.0, 4.0, 6.0]).at(np.array([[float(size)]]))
    assert found == pytest.approx([seconds])
    assert half_width == pytest.approx([0.1])


def test_two_axes_multiply():
    """t = m x n at the knots 1, 2, 4 of both: a power law is exact everywhere."""
    sizes = np.array([1.0, 2.0, 4.0])
    knots = np.stack([np.log(np.outer(sizes, sizes)).ravel(), np.zeros(9)], axis=1)
    curve = Curve(np.zeros(2), np.full(2, np.log(2)), (3, 3), knots)
    assert curve.at(np.array([[3.0, 1.5], [3.0, 16.0]]))[0] == pytest.approx([4.5, 48.0])


def test_knots_span_their_sizes():
    knots = Axis(name="m", lowest=1, highest=1024, knots_per_octave=2).knots()
    assert (len(knots), np.exp(knots[-1])) == (21, pytest.approx(1024))


def test_what_rises_already_is_settled():
    values = np.array([[1.0, 2.0], [1.0, 3.0]])
    assert np.array_equal(settled(values, np.ones((2, 2)), (0, 1)), values)


def test_neighbours_that_fall_meet_at_their_weighted_mean():
    assert settled(np.array([1.0, 4.0, 2.0]), np.array([1.0, 1.0, 3.0]), (0,)) == pytest.approx([1.0, 2.5, 2.5])


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.floats(-3, 3, allow_subnormal=False), min_size=24, max_size=24),
    st.lists(st.floats(0.1, 9), min_size=24, max_size=24),
)
def test_settled_then_rising_values_rise_along_both_axes(values, weights):
    shape = (4, 6)
    found = settled(np.array(values).reshape(shape), np.array(weights).reshape(shape), (0, 1))
    for axis in (0, 1):
        found = rising(found, axis)
    assert (np.diff(found, axis=0) >= 0).all()
    assert (np.diff(found, axis=1) >= 0).all()
    assert found.min() >= min(values) - 1e-9
    assert found.max() <= max(values) + 1e-9
