"""Who is near whom: the largest part of a group that fits a node, and links of meshes and tori."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwprof.predict.collectives.placement import links_used, ranks_inside


@given(
    pairs=st.lists(st.tuples(st.integers(1, 96), st.floats(0.1, 80, allow_nan=False)), min_size=1, max_size=8),
)
@settings(max_examples=40)
def test_ranks_inside_is_the_largest_divisor_that_fits(pairs):
    ranks, room = np.array(pairs, dtype=float).T
    for found, number, limit in zip(ranks_inside(ranks, room), ranks, room, strict=True):
        fitting = [size for size in range(1, int(number) + 1) if number % size == 0 and size <= max(limit, 1)]
        assert found == max(fitting)


def test_every_fourth_of_eight_neighbours_is_near_one_other():
    """A node of 8 holds 2 of a group of 16 whose ranks stand 4 apart; a group 8 apart has one rank in each node."""
    assert ranks_inside(np.array([16.0, 16.0, 16.0]), np.array([8.0, 2.0, 1.0])).tolist() == [8, 2, 1]


@pytest.mark.parametrize(
    ("ranks", "kinds", "share"),
    [
        (8, {}, 1.0),
        (8, {"mesh": 1.0}, 1.0),
        (2, {"mesh": 1.0}, 1 / 7),
        (4, {"torus_axes": 3.0, "wrapped": 1.0, "domain": 64.0}, 1 / 3),
        (4, {"torus_axes": 3.0, "domain": 64.0}, 1 / 6),
    ],
)
def test_a_group_uses_the_links_between_its_own_ranks(ranks, kinds, share):
    values = {"domain": 8.0, "mesh": 0.0, "torus_axes": 0.0, "wrapped": 0.0} | kinds
    arrays = {name: np.array([value]) for name, value in values.items()}
    assert links_used(np.array([float(ranks)]), np.array([1.0]), **arrays) == pytest.approx(share)
