"""The form of a collective by hand, its bounds, and its laws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwprof.predict.collectives.form import OPERATIONS, form_s, least_s, pass_s
from hwprof.predict.collectives.ways import Ways

PLAIN = {
    "domain": 8, "line_byte_per_s": 450e9, "op_s": 0, "step_s": 0, "share": 0.8, "pair_share": 0.8,
    "exchange_share": 0.8, "ramp": 1, "switch_op_s": 0, "switch_share": 0, "mesh": 0, "torus_axes": 0, "wrapped": 0,
    "bridged": 1, "bridge_line_byte_per_s": 0, "bridge_byte_per_s": 0, "between_byte_per_s": 50e9, "between_share": 0.9,
    "between_exchange_share": 0.8, "between_ramp": 1, "hop_s": 0, "tree_hop_s": 0, "quick_hop_s": np.inf, "peer_s": 0,
}  # fmt: skip
"""Nodes of 8 at 450 GB/s with 50 GB/s of network each, without latency."""


def ways(**changes):
    return Ways(**{name: np.array([value], dtype=float) for name, value in (PLAIN | changes).items()})


def seconds(op, size, ranks, stride=1, **changes):
    return float(form_s(op, *(np.array([value], dtype=float) for value in (size, ranks, stride)), ways(**changes))[0])


@pytest.mark.parametrize(
    ("op", "expected_s"),
    [
        ("all_gather", 0.875 / 360),
        ("reduce_scatter", 0.875 / 360),
        ("all_reduce", 1.75 / 360),
        ("alltoall", 0.875 / 360),
        ("broadcast", 1 / 360),
        ("send_recv", 1 / 360),
    ],
)
def test_a_gigabyte_between_eight_neighbours(op, expected_s):
    """360 GB/s of 450: (n - 1)/n of the vector, twice for a sum."""
    assert seconds(op, 1e9, 8) == pytest.approx(expected_s)


def test_two_ranks_reach_their_own_share_and_more_come_near_that_of_many():
    """0.5 of the line rate between 2, 0.9 between many: 0.7 between 4, 0.8 between 8."""
    shares = {ranks: (ranks - 1) / ranks * 1e9 / 450e9 / seconds("all_gather", 1e9, ranks, share=0.9, pair_share=0.5)
              for ranks in (2, 4, 8)}  # fmt: skip
    assert shares == pytest.approx({2: 0.5, 4: 0.7, 8: 0.8})


@pytest.mark.parametrize(
    ("op", "ranks", "expected_s"),
    [("all_gather", 8, 17e-6), ("all_reduce", 8, 31e-6), ("alltoall", 8, 7e-6), ("broadcast", 2, 5e-6)],
)
def test_an_empty_vector_takes_an_operation_and_its_steps(op, ranks, expected_s):
    """3 us and 2 us a step: 7 of a ring of 8, 14 of a sum, 1 + log2(8) of an exchange... 3 us and 1 of a pair."""
    steps = {"op_s": 3e-6, "step_s": 2e-6} if op != "alltoall" else {"op_s": 3e-6, "step_s": 1e-6}
    assert seconds(op, 0, ranks, **steps) == pytest.approx(expected_s)


def test_steps_and_traffic_of_a_ramp_of_one_half_are_pieces_of_the_best_size():
    """(sqrt(4) + sqrt(9))^2 = 25."""
    assert seconds("broadcast", 9 * 360e9, 2, op_s=4, ramp=0.5) == pytest.approx(25)


def test_a_switch_that_adds_takes_the_vector_once_where_that_is_faster():
    """(n + 1)/n over 270 GB/s against 2 (n - 1)/n over 360: faster between 8, slower between 2."""
    adding = {"switch_share": 0.6, "switch_op_s": 1e-6}
    assert seconds("all_reduce", 1e9, 8, **adding) == pytest.approx(1.125 / 270 + 1e-6)
    assert seconds("all_reduce", 1e9, 2, **adding) == pytest.approx(1 / 360)


def test_a_ring_across_nodes_has_the_network_links_of_all_its_ranks_in_one():
    """16 ranks on 2 nodes of 8: 8 x 45 GB/s, no faster than 360 inside; of a rank in each node: 45."""
    assert seconds("all_gather", 1e9, 16, between_byte_per_s=25e9) == pytest.approx(15 / 16 / 180)
    assert seconds("all_gather", 1e9, 16, stride=8) == pytest.approx(15 / 16 / 45)
    assert seconds("all_gather", 0, 16, step_s=1e-6, hop_s=10e-6) == pytest.approx(14e-6 + 10e-6)


def test_trees_carry_twice_the_vector_and_between_two_nodes_that_add_in_their_switches_once():
    """200 GB/s of network in a node of 8 x 25: 180.7 were measured between two nodes of H100 (GPUDirect-TCPXO)."""
    slow = {"between_byte_per_s": 25e9, "switch_share": 0.68, "hop_s": 1e-3}
    assert 1e9 / seconds("all_reduce", 1e9, 16, **slow) == pytest.approx(180e9)
    assert 1e9 / seconds("all_reduce", 1e9, 32, **slow) == pytest.approx(90e9)
    assert 1e9 / seconds("all_reduce", 1e9, 16, **slow | {"switch_share": 0}) == pytest.approx(90e9)


def test_quick_trees_serve_small_sums():
    """2 x 4 levels between 16 nodes: 5 us each with flags, at a quarter of the bandwidth, 50 us without."""
    hops = {"hop_s": 1e-4, "tree_hop_s": 50e-6, "quick_hop_s": 5e-6}
    assert seconds("all_reduce", 0, 128, **hops) == pytest.approx(40e-6)
    assert seconds("all_reduce", 9e6, 128, **hops) == pytest.approx(240e-6)
    assert seconds("all_reduce", 3.6e9, 128, **hops) == pytest.approx(20.4e-3)


def test_an_exchange_of_every_fourth_device_crosses_nodes():
    """8 ranks 4 apart: 6 of 8 parts leave the node over one network link at 40 GB/s; 8 neighbours have 360."""
    assert seconds("alltoall", 8e9, 8, stride=4) == pytest.approx(6e9 / 40e9)
    assert seconds("alltoall", 8e9, 8) == pytest.approx(7e9 / 360e9)
    assert seconds("alltoall", 0, 16, hop_s=20e-6, peer_s=1e-6) == pytest.approx(28e-6)


def test_bridges_serve_a_pair_and_halve_the_flows_of_larger_rings():
    """NVLink between two cards; four share PCIe as two would without bridges; every second card has none."""
    pcie = {
        "line_byte_per_s": 60e9, "share": 0.3, "pair_share": 0.5,
        "bridged": 2, "bridge_line_byte_per_s": 300e9, "bridge_byte_per_s": 200e9,
    }  # fmt: skip
    assert 0.5e9 / seconds("all_gather", 1e9, 2, **pcie) == pytest.approx(200e9)
    assert 0.75e9 / seconds("all_gather", 1e9, 4, **pcie) == pytest.approx(30e9)
    assert 0.5e9 / seconds("all_gather", 1e9, 2, stride=2, **pcie) == pytest.approx(30e9)


def test_one_of_a_mesh_meets_another_over_the_links_between_them():
    """MI300X: 448 GB/s over 7 links."""
    mesh = {"line_byte_per_s": 448e9, "share": 0.75, "pair_share": 0.75, "mesh": 1}
    assert 1e9 / seconds("send_recv", 1e9, 2, **mesh) == pytest.approx(48e9)
    assert 0.875e9 / seconds("all_gather", 1e9, 8, **mesh) == pytest.approx(336e9)


def test_messages_round_a_ring_cross_over_one_network_link():
    far = pass_s(np.array([1e9]), np.array([8.0]), np.array([2.0]), ways())
    near = pass_s(np.array([1e9]), np.array([8.0]), np.array([1.0]), ways())
    assert (float(far[0]), float(near[0])) == (pytest.approx(1 / 45), pytest.approx(1 / 360))


@pytest.mark.parametrize("op", OPERATIONS)
def test_one_rank_alone_has_nothing_to_do(op):
    assert seconds(op, 1e9, 1, op_s=1) == 0


KINDS = st.fixed_dictionaries({
    "share": st.floats(0.1, 1), "pair_share": st.floats(0.1, 1), "exchange_share": st.floats(0.1, 1),
    "switch_share": st.sampled_from([0, 0.5, 1]), "ramp": st.floats(0.5, 1), "mesh": st.sampled_from([0, 1]),
    "bridged": st.sampled_from([1, 2]), "op_s": st.floats(0, 1e-5), "step_s": st.floats(0, 1e-5),
})  # fmt: skip
SIZES = st.floats(1, 1e11)


@given(op=st.sampled_from(OPERATIONS), size=SIZES, ranks=st.sampled_from([2, 4, 8]), kinds=KINDS)
@settings(max_examples=150)
def test_no_port_passes_bytes_faster_than_its_line_rate(op, size, ranks, kinds):
    """The traffic of a ring, of an exchange, of a message; of a sum (n + 1)/n where the switch adds."""
    kinds |= {"bridge_line_byte_per_s": 300e9, "bridge_byte_per_s": 200e9} if kinds["bridged"] == 2 else {}
    least = float(least_s(op, np.array([size]), np.array([float(ranks)]), ways(**kinds))[0])
    assert seconds(op, size, ranks, **kinds) >= least * (1 - 1e-9)
    part = (ranks - 1) / ranks
    adds = kinds["switch_share"] > 0
    passed = {"all_reduce": min(2 * part, 1 + 1 / ranks) if adds else 2 * part, "broadcast": 1, "send_recv": 1}
    assert least == pytest.approx(passed.get(op, part) * size / 450e9)


@given(
    op=st.sampled_from(OPERATIONS), size=SIZES, ranks=st.sampled_from([2, 4, 8, 16, 64]),
    stride=st.sampled_from([1, 2, 8]), more=st.floats(1, 10), kinds=KINDS,
)  # fmt: skip
@settings(max_examples=150)
def test_more_bytes_and_slower_links_never_take_less_time(op, size, ranks, stride, more, kinds):
    kinds |= {"hop_s": 1e-5, "tree_hop_s": 5e-5, "quick_hop_s": 5e-6, "peer_s": 1e-6, "bridge_byte_per_s": 200e9}
    before = seconds(op, size, ranks, stride, **kinds)
    assert seconds(op, size * more, ranks, stride, **kinds) >= before * (1 - 1e-9)
    slower = {"line_byte_per_s": 450e9 / more, "between_byte_per_s": 50e9 / more, "hop_s": 1e-5 * more}
    assert seconds(op, size, ranks, stride, **kinds | slower) >= before * (1 - 1e-9)
