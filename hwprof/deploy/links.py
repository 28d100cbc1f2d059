"""How long do the ranks of a server take to add up and to exchange what they computed?

Serving engines have kernels of their own for small sums: each rank reads its neighbours' vectors (one shot), or a part
of each and then the others' sums (two shots). Large ones, and those between nodes, go through the collectives library.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hwprof.deploy.kernels import Floats, Sums
from hwprof.errors import HwprofError
from hwprof.predict.collectives.form import Operation
from hwprof.predict.collectives.measured import across_time, inside_time, usual_node
from hwprof.predict.machine import Machine, machine_of
from hwprof.specs.catalogue.lookup import load_cluster

WIRE_SHARE = 0.7
"""Share of the links' rate that kernels reach which read their neighbours' memory: nearly what the collectives library
reaches of NVLink on large vectors."""

SECOND_SHOT_S = 3e-6
"""A second barrier between the ranks, over a system's links."""


@dataclass(frozen=True, slots=True)
class Links:
    """The links of devices that serve: of one scale-up domain, and of several."""

    near: Machine
    far: Machine | None

    @property
    def most_devices(self) -> int:
        """Devices of the largest server without a network."""
        return max(self.near.devices, self._domain)

    def reduce(self, sums: Sums, size_bytes: Floats, ranks: Floats, times: float) -> None:
        """Sums of a vector over ranks, so many times."""
        many = ranks > 1
        rate, library_s = self._byte_per_s(ranks), self._library_s("all_reduce", size_bytes, ranks)
        one_shot_s: Floats = (ranks - 1) * size_bytes / rate
        two_shots_s: Floats = 2 * (ranks - 1) / ranks * size_bytes / rate + SECOND_SHOT_S
        sums.add("reduces", np.where(many, times, 0.0))
        own_s: Floats = np.where(many, np.minimum(one_shot_s, two_shots_s), 0.0)
        wire_s: Floats = np.where(ranks > self._domain, library_s, own_s)
        sums.add("wire_s", times * wire_s)
        sums.add("library_s", times * library_s)

    def exchange(self, sums: Sums, sent_bytes: Floats, copies: Floats, ranks: Floats, times: float) -> None:
        """Each rank's rows go where they are needed and come back: copies of them, or all rows to all ranks.

        A row crosses the network once for each other node that needs it and is handed on there (DeepEP); which nodes
        those are is as good as random.
        """
        many = ranks > 1
        moved = np.minimum(copies, ranks - 1) * sent_bytes
        nodes = np.maximum(ranks / self._domain, 1.0)
        met = (nodes - 1) * (1 - (1 - 1 / nodes) ** np.minimum(copies, ranks - 1))
        near_s = moved / (WIRE_SHARE * self.near.inside_byte_per_s)
        far_s = met * sent_bytes / self._byte_per_s(ranks)
        seconds: Floats = np.where(many, np.where(nodes > 1, np.maximum(near_s, far_s), near_s), 0.0)
        sums.add("reduces", np.where(many, 2.0 * times, 0.0))
        sums.add("wire_s", times * seconds)
        sums.add("library_s", times * self._library_s("alltoall", moved, ranks))

    def hand_on(self, sums: Sums, size_bytes: Floats, stages: Floats) -> None:
        """From stage to stage."""
        sums.add("reduces", stages - 1)
        seconds = (stages - 1) * size_bytes / self._byte_per_s(stages)
        sums.add("wire_s", seconds)
        sums.add("library_s", seconds)

    def _byte_per_s(self, ranks: Floats) -> Floats:
        near = self.near.inside_byte_per_s
        far = self.far.between_byte_per_s if self.far else near
        rate: Floats = WIRE_SHARE * np.where(ranks <= self._domain, near, far)
        return rate

    @property
    def _domain(self) -> int:
        return max(self.near.domain, 1) if self.near.device.link is not None else self.near.node

    def _library_s(self, op: Operation, size_bytes: Floats, ranks: Floats) -> Floats:
        seconds = np.zeros(len(ranks))
        near = (ranks > 1) & (ranks <= self._domain) & (size_bytes > 0)
        if near.any():
            seconds[near] = inside_time(op, self.near, size_bytes[near], ranks[near]).seconds
        far = (ranks > self._domain) & (size_bytes > 0)
        if far.any():
            seconds[far] = across_time(op, self.far or self.near, size_bytes[far], ranks[far]).seconds
        return seconds


FAR_NODES = 16
"""Nodes of a cluster that stands for all: rates between nodes do not depend on how many there are."""


def links_of(device_id: str) -> Links:
    """The usual links of a device; of one without a known way to others it is the only one."""
    try:
        near = usual_node(device_id)
    except HwprofError:
        return Links(machine_of(load_cluster(f"1x{device_id}")), None)
    node = near.device.node
    several = max(node.devices, 1) * FAR_NODES
    far = machine_of(load_cluster(f"{several}x{device_id}")) if node.inter_node_byte_per_s else None
    return Links(near, far)
