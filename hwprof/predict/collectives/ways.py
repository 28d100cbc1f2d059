"""Which ways does traffic between devices take, and what do collectives reach on them?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from hwprof.predict.machine import UNSTATED_LINK, Machine
from hwprof.specs.catalogue.lookup import load_link

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ways:
    """What one device finds around it, one direction, arrays of one for each group or job.

    Attributes:
        domain: neighbours that reach each other without the network: over scale-up links, else over PCIe.
        line_byte_per_s: all inside links of a device together.
        op_s, step_s, share, pair_share, exchange_share, ramp: of the inside links, as in ``CollectiveTraits``.
        switch_op_s, switch_share: of a switch that adds; the share is 0 where none does.
        mesh, torus_axes, wrapped: as in ``placement.links_used``.
        bridged: neighbours that a bridge joins inside the domain; 1 where there are none.
        bridge_line_byte_per_s, bridge_byte_per_s: line rate of the bridge, and what collectives reach of it.
        between_byte_per_s: line rate of the network for one device.
        between_share, between_exchange_share, between_ramp: as in ``CollectiveTraits``.
        hop_s, tree_hop_s, quick_hop_s, peer_s: steps of the network, as in ``CollectiveTraits``; quick ones are endless
            where there are none.
    """

    domain: Floats
    line_byte_per_s: Floats
    op_s: Floats
    step_s: Floats
    share: Floats
    pair_share: Floats
    exchange_share: Floats
    ramp: Floats
    switch_op_s: Floats
    switch_share: Floats
    mesh: Floats
    torus_axes: Floats
    wrapped: Floats
    bridged: Floats
    bridge_line_byte_per_s: Floats
    bridge_byte_per_s: Floats
    between_byte_per_s: Floats
    between_share: Floats
    between_exchange_share: Floats
    between_ramp: Floats
    hop_s: Floats
    tree_hop_s: Floats
    quick_hop_s: Floats
    peer_s: Floats

    def at(self, index: NDArray[np.int64] | NDArray[np.bool_]) -> Ways:
        """Those of some groups."""
        return Ways(**{each.name: getattr(self, each.name)[index] for each in fields(self)})


def ways_of(machines: Sequence[Machine]) -> Ways:
    """The ways of each machine."""
    columns = [_ways(machine) for machine in machines]
    return Ways(**{each.name: np.array([one[each.name] for one in columns], dtype=float) for each in fields(Ways)})


def _ways(machine: Machine) -> dict[str, float]:
    """A bridge's cards meet others of their node over PCIe, so the node is their domain and the bridge inside it."""
    host = machine.device.host_link
    bridge = machine.inside.collectives if machine.bridged else None
    near = load_link(host.link or UNSTATED_LINK).collectives if bridge and host else machine.inside.collectives
    far = machine.network.collectives
    return {
        "domain": min(machine.node, machine.devices) if bridge else machine.domain,
        "line_byte_per_s": machine.host_byte_per_s if bridge else machine.inside_byte_per_s,
        "op_s": near.op_s or 0.0,
        "step_s": near.step_s,
        "share": near.share,
        "pair_share": near.pair_share or near.share,
        "exchange_share": near.exchange_share or near.share,
        "ramp": near.ramp,
        "switch_op_s": near.switch_op_s or 0.0,
        "switch_share": (near.switch_share or 0.0) if machine.adds_in_switch else 0.0,
        "mesh": machine.mesh,
        "torus_axes": machine.torus_axes,
        "wrapped": machine.wrapped,
        "bridged": machine.domain if bridge else 1,
        "bridge_line_byte_per_s": machine.inside_byte_per_s if bridge else 0.0,
        "bridge_byte_per_s": machine.inside_byte_per_s * (bridge.pair_share or bridge.share) if bridge else 0.0,
        "between_byte_per_s": machine.between_byte_per_s,
        "between_share": far.share,
        "between_exchange_share": far.exchange_share or far.share,
        "between_ramp": far.ramp,
        "hop_s": far.step_s,
        "tree_hop_s": far.tree_step_s or far.step_s,
        "quick_hop_s": far.quick_step_s or np.inf,
        "peer_s": far.peer_s or 0.0,
    }
