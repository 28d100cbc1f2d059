"""How long does a collective take by the links alone? Steps and bytes, arrays of one for each group.

``size_bytes`` is the whole vector, as nccl-tests has it (doc/PERFORMANCE.md there): the result of an all-gather, the
input of a reduce-scatter, what a rank sends in an all-to-all.

A ring of n ranks passes (n - 1)/n of the vector in n - 1 steps (Thakur et al. 2005). Each step's message travels in
pieces; with pieces of the best size it takes (sqrt(latency) + sqrt(transfer))^2 (Sanders et al. 2009, section 2), so
the whole takes (steps^r + traffic^r)^(1/r) with r = 1/2. Where messages follow each other without a gap r is 1; that of
a library with a protocol for each size is in between, and measured. A group that crosses nodes goes at the pace of its
slowest link; the ranks of a node use their network links side by side, each its own (its rail).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from hwprof.predict.collectives.placement import links_used, ranks_inside
from hwprof.predict.collectives.ways import Ways

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

Operation = Literal["all_gather", "reduce_scatter", "all_reduce", "alltoall", "broadcast", "send_recv"]
OPERATIONS: tuple[Operation, ...] = get_args(Operation)


def form_s(op: Operation, size_bytes: Floats, ranks: Floats, stride: Floats, ways: Ways) -> Floats:
    """Seconds of ``op`` over every ``stride``-th device, ``ranks`` of them; a message goes ``stride`` devices on."""
    seconds: Floats = np.where(ranks > 1, FORMS[op](size_bytes, ranks, stride, ways), 0.0)
    return seconds


def ring_s(size_bytes: Floats, ranks: Floats, stride: Floats, ways: Ways) -> Floats:
    """All-gather or reduce-scatter."""
    inside = _inside(ranks, stride, ways)
    steps_s = _ring_steps_s(ranks, inside, ways)
    traffic_s = (ranks - 1) / ranks * size_bytes / _ring_byte_per_s(ranks, inside, stride, ways)
    return _ramped_s(ways.op_s + steps_s, traffic_s, _ramp(ranks, inside, ways))


def broadcast_s(size_bytes: Floats, ranks: Floats, stride: Floats, ways: Ways) -> Floats:
    """The vector passes round a ring once."""
    inside = _inside(ranks, stride, ways)
    traffic_s = size_bytes / _ring_byte_per_s(ranks, inside, stride, ways)
    return _ramped_s(ways.op_s + _ring_steps_s(ranks, inside, ways), traffic_s, _ramp(ranks, inside, ways))


def all_reduce_s(size_bytes: Floats, ranks: Floats, stride: Floats, ways: Ways) -> Floats:
    """The fastest of a ring twice round, trees between nodes, and addition in the switch.

    The switch takes the vector of each rank once and gives back the sum once, the rank's own part of 1/n twice (Klenk
    et al. 2020; NVLink SHARP). Trees are NCCL's (Sanders et al. 2009).
    """
    inside = _inside(ranks, stride, ways)
    ramp = _ramp(ranks, inside, ways)
    ring_byte_per_s = _ring_byte_per_s(ranks, inside, stride, ways)
    twice_round_s = 2 * (ranks - 1) / ranks * size_bytes / ring_byte_per_s
    fastest_s = _ramped_s(ways.op_s + 2 * _ring_steps_s(ranks, inside, ways), twice_round_s, ramp)
    adds = ways.switch_share > 0
    switch_byte_per_s = np.where(adds, ways.line_byte_per_s * ways.switch_share, 1.0)
    added_s = (1 + 1 / np.maximum(inside, 1)) * size_bytes / switch_byte_per_s
    in_switch_s = _ramped_s(ways.switch_op_s, added_s, ways.ramp)
    fastest_s = np.where(adds & (inside == ranks), np.minimum(fastest_s, in_switch_s), fastest_s)
    crossing = inside < ranks
    if not crossing.any():
        return fastest_s
    within_s = 2 * (inside - 1) / inside * size_bytes / _inside_byte_per_s(inside, stride, ways)
    within_s = np.where(adds, np.minimum(within_s, added_s), within_s)
    return np.where(crossing, np.minimum(fastest_s, _trees_s(size_bytes, ranks, within_s, inside, ways)), fastest_s)


def _trees_s(size_bytes: Floats, ranks: Floats, within_s: Floats, inside: Floats, ways: Ways) -> Floats:
    """Two trees between nodes that share the vector, each node inner in one and a leaf in the other.

    Its links carry 2 of the vector, between two nodes 1 where the switch adds meanwhile (NCCL's NVLSTree; without, the
    devices are too busy). ``within_s``: adding and spreading the vector inside each node.
    """
    nodes = ranks / inside
    passes = np.where((nodes > 2) | (ways.switch_share == 0), 2.0, 1.0)
    carried_s = passes * size_bytes / (ways.between_byte_per_s * ways.between_share * inside)
    traffic_s = np.maximum(carried_s, within_s)
    near_s, levels = (inside - 1) * ways.step_s, np.ceil(np.log2(nodes))
    plain_s = _ramped_s(ways.op_s + 2 * (near_s + levels * ways.tree_hop_s), traffic_s, ways.between_ramp)
    quick_s = ways.op_s + 2 * (near_s + levels * np.where(levels > 0, ways.quick_hop_s, 0.0))
    return np.minimum(plain_s, _ramped_s(quick_s, traffic_s / QUICK_SHARE, ways.between_ramp))


QUICK_SHARE = 0.25
"""Bandwidth of NCCL's LL protocol over that of Simple between nodes (src/graph/tuning.cc)."""


def all_to_all_s(size_bytes: Floats, ranks: Floats, stride: Floats, ways: Ways) -> Floats:
    """Every rank sends ``size_bytes`` in equal parts; messages inside and between nodes travel side by side.

    All peers are served at once, so steps grow with the logarithm of the neighbours; each rank in another node adds a
    time of its own, as its messages have a queue of their own.
    """
    inside = _inside(ranks, stride, ways)
    crossing = inside < ranks
    near_byte_per_s = _inside_byte_per_s(inside, stride, ways, share=ways.exchange_share)
    near_s = (inside - 1) / ranks * size_bytes / near_byte_per_s
    far_s = (ranks - inside) / ranks * size_bytes / (ways.between_byte_per_s * ways.between_exchange_share)
    steps_s = ways.op_s + ways.step_s * (1 + np.log2(np.maximum(inside, 1)))
    steps_s = steps_s + np.where(crossing, ways.hop_s + (ranks - inside) * ways.peer_s, 0.0)
    return _ramped_s(steps_s, np.maximum(near_s, far_s), _ramp(ranks, inside, ways))


def send_s(size_bytes: Floats, _ranks: Floats, stride: Floats, ways: Ways) -> Floats:
    """One message to the device ``stride`` further on."""
    two = np.full_like(ways.domain, 2.0)
    return _message_s(size_bytes, two, stride, stride < ways.domain, ways)


def pass_s(size_bytes: Floats, ranks: Floats, stride: Floats, ways: Ways) -> Floats:
    """A message of each rank of a group to the next, in one ring: where it leaves its node, over one network link."""
    return _message_s(size_bytes, ranks, stride, ranks * stride <= ways.domain, ways)


def _message_s(size_bytes: Floats, ranks: Floats, stride: Floats, near: Flags, ways: Ways) -> Floats:
    near_byte_per_s = _inside_byte_per_s(ranks, stride, ways, lone=True)
    byte_per_s = np.where(near, near_byte_per_s, ways.between_byte_per_s * ways.between_share)
    steps_s = ways.op_s + np.where(near, ways.step_s, ways.hop_s)
    return _ramped_s(steps_s, size_bytes / byte_per_s, np.where(near, ways.ramp, ways.between_ramp))


FORMS: dict[Operation, Callable[[Floats, Floats, Floats, Ways], Floats]] = {
    "all_gather": ring_s,
    "reduce_scatter": ring_s,
    "all_reduce": all_reduce_s,
    "alltoall": all_to_all_s,
    "broadcast": broadcast_s,
    "send_recv": send_s,
}


def least_s(op: Operation, size_bytes: Floats, ranks: Floats, ways: Ways) -> Floats:
    """What no collective inside one domain can beat: its bytes through a port at the line rate."""
    part = (ranks - 1) / ranks
    twice = np.where(ways.switch_share > 0, np.minimum(1 + 1 / ranks, 2 * part), 2 * part)
    whole = np.ones_like(part)
    passed = {"all_reduce": twice, "broadcast": whole, "send_recv": whole}.get(op, part)
    widest_byte_per_s = np.maximum(ways.line_byte_per_s, ways.bridge_line_byte_per_s)
    seconds: Floats = passed * size_bytes / widest_byte_per_s
    return seconds


def _inside(ranks: Floats, stride: Floats, ways: Ways) -> Floats:
    return ranks_inside(ranks, ways.domain / stride)


def _ramped_s(steps_s: Floats, traffic_s: Floats, ramp: Floats) -> Floats:
    """(steps^r + traffic^r)^(1/r); by logarithms, which numpy has faster than powers."""
    steps, traffic = (np.exp(ramp * np.log(np.maximum(one, NOTHING_S))) for one in (steps_s, traffic_s))
    seconds: Floats = np.exp(np.log(steps + traffic) / ramp)
    return seconds


NOTHING_S = 1e-30


def _ramp(ranks: Floats, inside: Floats, ways: Ways) -> Floats:
    return np.where(inside < ranks, ways.between_ramp, ways.ramp)


def _ring_steps_s(ranks: Floats, inside: Floats, ways: Ways) -> Floats:
    """N - 1 steps, one of each node over the network but for the last."""
    nodes = ranks / inside
    seconds: Floats = (ranks - nodes) * ways.step_s + (nodes - 1) * ways.hop_s
    return seconds


def _ring_byte_per_s(ranks: Floats, inside: Floats, stride: Floats, ways: Ways) -> Floats:
    """Pace of a ring: its slowest link; between nodes it has the network links of all its ranks inside one."""
    near_byte_per_s = _inside_byte_per_s(inside, stride, ways)
    many_byte_per_s = ways.line_byte_per_s * ways.share
    far_byte_per_s = ways.between_byte_per_s * ways.between_share * inside
    crossing_byte_per_s = np.minimum(np.where(inside > 1, many_byte_per_s, np.inf), far_byte_per_s)
    byte_per_s: Floats = np.where(inside < ranks, crossing_byte_per_s, near_byte_per_s)
    return byte_per_s


def _inside_byte_per_s(
    inside: Floats, stride: Floats, ways: Ways, *, share: Floats | None = None, lone: bool = False
) -> Floats:
    """What ``inside`` neighbours reach among themselves.

    The share of the line rate goes from that of a pair to that of many ranks with 2/n. Bridged neighbours reach each
    other over their bridge; a larger ring crosses the links between bridges only, so fewer ranks share those. ``lone``:
    one message, which has all channels.
    """
    used = links_used(
        inside, stride, domain=ways.domain, mesh=ways.mesh, torus_axes=ways.torus_axes, wrapped=ways.wrapped
    )
    many = ways.share if share is None else share
    flows = np.where((ways.bridged > 1) & (stride == 1), inside / ways.bridged, inside)
    reached = many if lone else many + (ways.pair_share - many) * 2 / np.maximum(flows, 2.0)
    byte_per_s = ways.line_byte_per_s * used * reached
    bridged = (ways.bridged > 1) & (stride * inside <= ways.bridged)
    return np.where(bridged, ways.bridge_byte_per_s, byte_per_s)
