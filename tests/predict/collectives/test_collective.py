"""Collective times against closed forms worked out by hand, and the laws that rings obey."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwprof.errors import InputError
from hwprof.predict.collectives.collective import (
    Group,
    Link,
    all_gather_s,
    all_reduce_s,
    all_to_all_s,
    group_of,
    pairwise_all_to_all_s,
    point_to_point_s,
    reduce_scatter_s,
    ring_all_gather_s,
    ring_all_reduce_s,
    ring_reduce_scatter_s,
)

TEN_GB_PER_S = Link(bandwidth_byte_per_s=10e9, latency_s=0.0)
ONE_GB_PER_S = Link(bandwidth_byte_per_s=1e9, latency_s=0.0)
ONLY_LATENCY = Link(bandwidth_byte_per_s=1e30, latency_s=1e-6)

RINGS = (ring_all_reduce_s, ring_all_gather_s, ring_reduce_scatter_s, pairwise_all_to_all_s)
TWO_LEVEL = (all_reduce_s, all_gather_s, reduce_scatter_s, all_to_all_s)

sizes = st.floats(min_value=1, max_value=1e12)
ranks_ = st.integers(min_value=2, max_value=512)
links = st.builds(Link, bandwidth_byte_per_s=st.floats(1e6, 1e13), latency_s=st.floats(0, 1e-3))


def _two_nodes(inside_link: Link = TEN_GB_PER_S, between_link: Link = ONE_GB_PER_S) -> Group:
    return Group(inside=4, nodes=2, inside_link=inside_link, between_link=between_link)


@pytest.mark.parametrize(
    ("ring", "expected_s"),
    [
        (ring_all_reduce_s, 0.175),  # 2 * 7/8 * 1 GB / 10 GB/s
        (ring_all_gather_s, 0.0875),  # 7/8 * 1 GB / 10 GB/s
        (ring_reduce_scatter_s, 0.0875),
        (pairwise_all_to_all_s, 0.0875),
    ],
)
def test_bandwidth_terms_of_eight_ranks(ring, expected_s):
    assert ring(1e9, ranks=8, link=TEN_GB_PER_S) == pytest.approx(expected_s)


@pytest.mark.parametrize(
    ("ring", "expected_s"),
    [
        (ring_all_reduce_s, 14e-6),  # 2 * 7 messages of 1 us
        (ring_all_gather_s, 7e-6),
        (ring_reduce_scatter_s, 7e-6),
        (pairwise_all_to_all_s, 7e-6),
    ],
)
def test_latency_terms_of_eight_ranks(ring, expected_s):
    assert ring(1.0, ranks=8, link=ONLY_LATENCY) == pytest.approx(expected_s)


def test_point_to_point_is_latency_plus_size_over_bandwidth():
    assert point_to_point_s(2e9, link=Link(bandwidth_byte_per_s=4e9, latency_s=0.25)) == pytest.approx(0.75)


@pytest.mark.parametrize("ring", RINGS)
def test_one_rank_alone_takes_no_time(ring):
    assert ring(1e9, ranks=1, link=ONLY_LATENCY) == 0


@pytest.mark.parametrize("collective", TWO_LEVEL)
def test_a_group_of_one_takes_no_time(collective):
    group = Group(inside=1, nodes=1, inside_link=ONLY_LATENCY, between_link=ONLY_LATENCY)
    assert collective(1e9, group) == 0


def test_two_level_all_reduce_of_two_nodes_of_four():
    # inside: 2 * 3/4 * 1 GB / 10 GB/s = 0.15 s; between: 2 * 1/2 * 0.25 GB / 1 GB/s = 0.25 s
    assert all_reduce_s(1e9, _two_nodes()) == pytest.approx(0.40)


@pytest.mark.parametrize("collective", [all_gather_s, reduce_scatter_s])
def test_two_level_gather_and_scatter_of_two_nodes_of_four(collective):
    # inside: 3/4 * 1 GB / 10 GB/s = 0.075 s; between: 1/2 * 0.25 GB / 1 GB/s = 0.125 s
    assert collective(1e9, _two_nodes()) == pytest.approx(0.20)


def test_two_level_all_to_all_waits_for_the_slower_network():
    # 4 of 8 messages of 1/8 GB leave the node at 1 GB/s: 0.5 s; the 3 inside take 0.0375 s beside them
    assert all_to_all_s(1e9, _two_nodes()) == pytest.approx(0.5)
    assert all_to_all_s(1e9, _two_nodes(ONE_GB_PER_S, TEN_GB_PER_S)) == pytest.approx(0.375)


@pytest.mark.parametrize("collective", [all_reduce_s, all_gather_s, reduce_scatter_s])
@given(size_bytes=sizes)
def test_two_levels_of_one_bandwidth_move_what_one_ring_moves(collective, size_bytes):
    flat = Group(inside=8, nodes=1, inside_link=TEN_GB_PER_S, between_link=TEN_GB_PER_S)
    assert collective(size_bytes, _two_nodes(TEN_GB_PER_S, TEN_GB_PER_S)) == pytest.approx(collective(size_bytes, flat))


@pytest.mark.parametrize("ring", RINGS)
@given(size_bytes=sizes, ranks=ranks_, link=links, factor=st.floats(1.0, 100.0))
def test_more_bandwidth_is_never_slower(ring, size_bytes, ranks, link, factor):
    faster = Link(bandwidth_byte_per_s=link.bandwidth_byte_per_s * factor, latency_s=link.latency_s)
    assert ring(size_bytes, ranks=ranks, link=faster) <= ring(size_bytes, ranks=ranks, link=link) * (1 + 1e-12)


@pytest.mark.parametrize("ring", RINGS)
@given(size_bytes=sizes, ranks=ranks_)
def test_a_larger_group_moves_its_n_minus_1_over_n(ring, size_bytes, ranks):
    pair_s, group_s = (ring(size_bytes, ranks=n, link=TEN_GB_PER_S) for n in (2, ranks))
    assert group_s / pair_s == pytest.approx(2 * (ranks - 1) / ranks)


@given(size_bytes=sizes, ranks=ranks_, link=links)
def test_all_reduce_is_a_reduce_scatter_and_an_all_gather(size_bytes, ranks, link):
    halves_s = sum(ring(size_bytes, ranks=ranks, link=link) for ring in (ring_reduce_scatter_s, ring_all_gather_s))
    assert ring_all_reduce_s(size_bytes, ranks=ranks, link=link) == pytest.approx(halves_s)


@pytest.mark.parametrize(
    ("ranks", "stride", "inside", "nodes"),
    [
        (8, 1, 8, 1),  # tensor parallel 8 fills a node
        (4, 1, 4, 1),
        (16, 8, 1, 16),  # data parallel across nodes of tensor parallel 8
        (16, 2, 4, 4),  # four replicas of two devices in each node
        (2, 64, 1, 2),  # pipeline stages far apart
        (6, 1, 2, 3),  # 6 does not divide 8: equal shares of 2
    ],
)
def test_a_group_is_split_over_nodes_of_eight(ranks, stride, inside, nodes):
    group = group_of(ranks=ranks, stride=stride, domain=8, inside_link=TEN_GB_PER_S, between_link=ONE_GB_PER_S)
    assert (group.inside, group.nodes, group.ranks) == (inside, nodes, ranks)


@given(ranks=ranks_, stride=st.integers(1, 512), domain=st.integers(1, 72))
def test_no_rank_of_a_group_is_lost(ranks, stride, domain):
    group = group_of(ranks=ranks, stride=stride, domain=domain, inside_link=ONE_GB_PER_S, between_link=ONE_GB_PER_S)
    assert group.ranks == ranks
    assert group.inside <= max(1, domain // stride)


@pytest.mark.parametrize(("bandwidth", "latency"), [(0.0, 0.0), (-1.0, 0.0), (math.nan, 0.0), (1e9, -1e-6)])
def test_an_impossible_link_is_refused_with_a_remedy(bandwidth, latency):
    with pytest.raises(InputError, match="correct the link"):
        Link(bandwidth_byte_per_s=bandwidth, latency_s=latency)
