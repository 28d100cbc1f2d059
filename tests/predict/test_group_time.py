"""Collectives of many jobs at once against the closed forms of one, and their laws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwprof.predict.collective import Link, pairwise_all_to_all_s, ring_all_gather_s, ring_all_reduce_s
from hwprof.predict.distinct import distinct
from hwprof.predict.group_time import Links, all_to_all_s, ranks_inside, ring_s, send_s

RATE, LATENCY = 450e9, 3e-6


def arrays(*values):
    return [np.array([value], dtype=float) for value in values]


def links(domain=8.0, inside=RATE, between=50e9, inside_latency=0.0, between_latency=0.0):
    names = ("domain", "inside_byte_per_s", "between_byte_per_s", "inside_latency_s", "between_latency_s")
    values = (domain, inside, between, inside_latency, between_latency)
    return Links(**dict(zip(names, arrays(*values), strict=True)))


def ring(size, ranks, stride=1, **kinds):
    return float(ring_s(*arrays(size, ranks, stride), links(**kinds))[0])


@pytest.mark.parametrize("ranks", [2, 3, 4, 8])
def test_on_one_level_rings_are_the_textbook_ones(ranks):
    """Reduce-scatter or gather (n - 1)/n; an all-reduce is two, 2(n - 1)/n (Thakur et al. 2005)."""
    link = Link(bandwidth_byte_per_s=RATE, latency_s=LATENCY)
    one = ring(1e9, ranks, inside_latency=LATENCY)
    assert one == pytest.approx(ring_all_gather_s(1e9, ranks=ranks, link=link), rel=1e-12)
    assert 2 * one == pytest.approx(ring_all_reduce_s(1e9, ranks=ranks, link=link), rel=1e-12)
    assert 2 * ring(1e9, ranks) == pytest.approx(2 * (ranks - 1) / ranks * 1e9 / RATE)


@pytest.mark.parametrize("ranks", [2, 4, 8])
def test_on_one_level_all_to_all_moves_the_same_bytes(ranks):
    """Messages travel at once, so there is one latency instead of n - 1."""
    link = Link(bandwidth_byte_per_s=RATE, latency_s=0.0)
    found = all_to_all_s(*arrays(1e9, ranks, 1), links())
    assert float(found[0]) == pytest.approx(pairwise_all_to_all_s(1e9, ranks=ranks, link=link), rel=1e-12)


def test_a_ring_across_nodes_runs_at_the_slowest_link_by_hand():
    """16 ranks on 2 nodes of 8: all 8 network links together, 400 GB/s, are slower than 450 GB/s inside."""
    assert ring(1e9, 16) == pytest.approx(15 / 16 * 1e9 / 400e9)
    assert ring(1e9, 2, stride=8) == pytest.approx(1 / 2 * 1e9 / 50e9)
    steps = ring(0.0, 16, inside_latency=1e-6, between_latency=5e-6)
    assert steps == pytest.approx(7 * 1e-6 + 1 * 5e-6)


def test_all_to_all_across_nodes_by_hand():
    """Of 16 ranks 8 are on the other node: half of the vector over 50 GB/s."""
    assert float(all_to_all_s(*arrays(1e9, 16, 1), links())[0]) == pytest.approx(0.5 * 1e9 / 50e9)


def test_a_send_goes_over_the_link_that_is_there():
    assert float(send_s(*arrays(1e9, 4), links())[0]) == pytest.approx(1e9 / RATE)
    assert float(send_s(*arrays(1e9, 8), links())[0]) == pytest.approx(1e9 / 50e9)


def test_nothing_is_to_do_for_one_rank():
    kinds = {"inside_latency": 1.0, "between_latency": 1.0}
    assert ring(1e9, 1, **kinds) == 0
    assert float(all_to_all_s(*arrays(1e9, 1, 1), links(**kinds))[0]) == 0


@given(
    pairs=st.lists(st.tuples(st.integers(1, 96), st.floats(0.1, 80, allow_nan=False)), min_size=1, max_size=8),
)
@settings(max_examples=40)
def test_ranks_inside_is_the_largest_divisor_that_fits(pairs):
    ranks, room = np.array(pairs, dtype=float).T
    for found, number, limit in zip(ranks_inside(ranks, room), ranks, room, strict=True):
        fitting = [size for size in range(1, int(number) + 1) if number % size == 0 and size <= max(limit, 1)]
        assert found == max(fitting)


@given(
    size=st.floats(0, 1e11),
    ranks=st.sampled_from([1, 2, 4, 8, 16, 64]),
    stride=st.sampled_from([1, 2, 8]),
    faster=st.floats(1, 100),
)
@settings(max_examples=40)
def test_faster_links_and_less_data_are_never_slower(size, ranks, stride, faster):
    slow = ring(size, ranks, stride)
    assert ring(size, ranks, stride, inside=RATE * faster) <= slow * (1 + 1e-12)
    assert ring(size, ranks, stride, between=50e9 * faster) <= slow * (1 + 1e-12)
    assert ring(size / faster, ranks, stride) <= slow * (1 + 1e-12)


@given(rows=st.lists(st.tuples(*[st.integers(-3, 2**40)] * 3), min_size=1, max_size=12))
@settings(max_examples=40)
def test_distinct_rows_are_those_of_a_set(rows):
    """Columns of so wide numbers that one key can't hold them all are included."""
    table = np.array(rows, dtype=np.int64)
    first, index = distinct(*table.T)
    assert len(first) == len(set(rows))
    assert (table[first][index] == table).all()
