"""Collectives of many jobs at once against the closed forms of one, and their laws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwprof.predict.collectives.group_time import Links, all_reduce_s, all_to_all_s, pass_s, ring_s, send_s

RATE, LATENCY = 450e9, 3e-6


def arrays(*values):
    return [np.array([value], dtype=float) for value in values]


def links(domain=8.0, inside=RATE, between=50e9, inside_latency=0.0, between_latency=0.0, **kind):
    names = ("domain", "inside_byte_per_s", "between_byte_per_s", "inside_latency_s", "between_latency_s")
    values = dict(zip(names, (domain, inside, between, inside_latency, between_latency), strict=True))
    kinds = dict.fromkeys(("mesh", "torus_axes", "wrapped", "adds_in_switch", "protocols"), 0.0)
    return Links(**{name: np.array([value], dtype=float) for name, value in (values | kinds | kind).items()})


def ring(size, ranks, stride=1, **kinds):
    return float(ring_s(*arrays(size, ranks, stride), links(**kinds))[0])


@pytest.mark.parametrize("ranks", [2, 3, 4, 8])
def test_on_one_level_rings_are_the_textbook_ones(ranks):
    """Reduce-scatter or gather (n - 1)/n; an all-reduce is two, 2(n - 1)/n (Thakur et al. 2005)."""
    steps_s = sum(LATENCY + 1e9 / ranks / RATE for _ in range(ranks - 1))
    assert ring(1e9, ranks, inside_latency=LATENCY) == pytest.approx(steps_s, rel=1e-12)
    assert 2 * ring(1e9, ranks) == pytest.approx(2 * (ranks - 1) / ranks * 1e9 / RATE)


@pytest.mark.parametrize(
    ("kinds", "size", "expected_s"), [({"inside": 10e9}, 1e9, 0.0875), ({"inside_latency": 1e-6}, 0.0, 7e-6)]
)
def test_terms_of_eight_ranks(kinds, size, expected_s):
    """7/8 of 1 GB over 10 GB/s; 7 messages of 1 us."""
    assert ring(size, 8, **kinds) == pytest.approx(expected_s)


@pytest.mark.parametrize("ranks", [2, 4, 8])
def test_on_one_level_all_to_all_moves_the_same_bytes(ranks):
    """Messages travel at once, so there is one latency instead of n - 1."""
    found = all_to_all_s(*arrays(1e9, ranks, 1), links())
    assert float(found[0]) == pytest.approx((ranks - 1) / ranks * 1e9 / RATE, rel=1e-12)


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


def test_a_ring_that_leaves_its_node_passes_over_one_network_link():
    assert float(pass_s(*arrays(1e9, 8, 1), links())[0]) == pytest.approx(1e9 / RATE)
    assert float(pass_s(*arrays(1e9, 8, 2), links())[0]) == pytest.approx(1e9 / 50e9)


def test_nothing_is_to_do_for_one_rank():
    kinds = {"inside_latency": 1.0, "between_latency": 1.0}
    assert ring(1e9, 1, **kinds) == 0
    assert float(all_to_all_s(*arrays(1e9, 1, 1), links(**kinds))[0]) == 0


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


def summed(size, ranks, stride=1, **kinds):
    return float(all_reduce_s(*arrays(size, ranks, stride), links(**kinds))[0])


def test_large_vectors_are_summed_on_a_ring_and_small_ones_over_many_nodes_on_a_tree():
    """512 nodes of one rank each: 2 x 511 steps of a ring, 2 x 9 of a tree; the tree carries n/(n - 1) of the bytes."""
    kinds = {"domain": 1.0, "between_latency": 10e-6}
    assert summed(8.0, 512, **kinds) == pytest.approx(2 * 9 * 10e-6, rel=1e-3)
    assert summed(1e12, 512, **kinds) == pytest.approx(2 * 511 / 512 * 1e12 / 50e9 + 2 * 511 * 10e-6)


def test_a_switch_that_adds_moves_the_vector_once():
    """(n + 1)/n instead of 2 (n - 1)/n: 1.125 for 1.75 of the vector on 8 ranks."""
    assert summed(1e9, 8, adds_in_switch=1.0) / summed(1e9, 8) == pytest.approx(1.125 / 1.75)
    assert summed(1e9, 16, adds_in_switch=1.0) == summed(1e9, 16)


def test_small_messages_take_the_protocol_with_flags_and_large_ones_the_plain_one():
    kinds = {"inside_latency": 4e-6}
    assert ring(0.0, 8, protocols=1.0, **kinds) == pytest.approx(0.25 * ring(0.0, 8, **kinds))
    assert ring(1e12, 8, protocols=1.0, **kinds) == pytest.approx(ring(1e12, 8, **kinds), rel=1e-12)


@pytest.mark.parametrize("ranks", [2, 4, 8])
def test_ranks_of_a_mesh_have_their_own_links_only(ranks):
    """MI300X: 448 GB/s over 7 links, one to each other device."""
    shared = ring(1e9, ranks, mesh=1.0) / ring(1e9, ranks)
    assert shared == pytest.approx(7 / (ranks - 1))


@pytest.mark.parametrize(
    ("ranks", "stride", "share"),
    [(64, 1, 1.0), (16, 1, 2 / 3), (4, 1, 1 / 3), (2, 1, 1 / 6), (4, 16, 1 / 3), (16, 4, 2 / 3)],
)
def test_a_group_in_a_torus_has_the_axes_that_it_spans(ranks, stride, share):
    """4 x 4 x 4 devices; two neighbours make no ring, so they have one of the two links of an axis."""
    kinds = {"domain": 64.0, "torus_axes": 3.0}
    closed = ring(1e9, ranks, stride, wrapped=1.0, **kinds)
    assert ring(1e9, ranks, stride, domain=64.0) / closed == pytest.approx(share)
    if ranks >= 4:
        assert ring(1e9, ranks, stride, **kinds) == pytest.approx(2 * closed)


@given(ranks=st.sampled_from([2, 4, 8, 64]), size=st.floats(1, 1e11), faster=st.floats(1.01, 10))
@settings(max_examples=50)
def test_whatever_is_chosen_faster_links_are_never_slower(ranks, size, faster):
    for kinds in ({}, {"protocols": 1.0, "adds_in_switch": 1.0}, {"mesh": 1.0}, {"torus_axes": 2.0}):
        before = summed(size, ranks, inside_latency=3e-6, between_latency=1e-5, **kinds)
        assert before <= 2 * ring(size, ranks, inside_latency=3e-6, between_latency=1e-5, **kinds) * (1 + 1e-12)
        quicker = {"inside": RATE * faster, "between": 50e9 * faster, "inside_latency": 3e-6 / faster}
        assert summed(size, ranks, between_latency=1e-5 / faster, **quicker, **kinds) <= before
