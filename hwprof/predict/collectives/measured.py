"""What did others measure of collectives on a device or its sibling, and what follows for other sizes and ranks?

The measured times of one operation on one machine, over sizes and ranks, become a curve over the form's time
(:mod:`hwprof.predict.curves.process`). A device without measured collectives takes the curve of one that has links of
the same kind, as what it is over the form on links of its own.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hwprof.predict.collectives.form import Operation, form_s, least_s
from hwprof.predict.collectives.ways import Ways, ways_of
from hwprof.predict.curves.kernel_time import Basis, KernelTime
from hwprof.predict.curves.lattice import Axis, Curve
from hwprof.predict.curves.process import Points, Prior, curve
from hwprof.predict.machine import UNSTATED_FACTOR, Machine, machine_of
from hwprof.specs.catalogue.kernel_points import KernelPoints, KernelTable, kernel_table
from hwprof.specs.catalogue.lookup import load_cluster

Floats = NDArray[np.float64]

SCALE_UP = "scale-up"
"""The word of the table for the usual links of one node."""

SIZES = Axis(name="bytes", lowest=512.0, highest=2.0**34, length=2.0)
"""Beyond 16 GiB every collective is as long as its bytes. Corrections reach 3 octaves: libraries change their protocol
with the size."""

RANKS_LENGTH = 3.0
PRIOR = Prior(sd=0.45, noise_sd=0.12)
FEWEST = 4
"""Points below which there is no curve."""

NEW_SIZE = 1.1
"""Intervals of sizes that were held back, over those that leaving out one point at a time shows."""

SAME_LINK, OTHER_LINK = 0.05, 0.5
"""Half width, natural, that a sibling's curve adds: where its link is the same, as of devices left out whole; where
not, as of the A100 with the numbers of NVLink 4."""

FORM = 0.5
"""Half width, natural, of the form alone, for links and nodes that nobody measured: an assumption, twice the ninth
decile of its errors between nodes that it was chosen on. The others by benchmarks/collective_accuracy.py."""


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """A curve over sizes and ranks, and whose points it goes through."""

    curve: Curve
    basis: Basis
    widening: float = 0.0

    def at(self, size_bytes: Floats, ranks: Floats) -> tuple[Floats, Floats]:
        """Seconds and the natural half width of the interval."""
        seconds, half_width = self.curve.at(np.stack([size_bytes, ranks], axis=1))
        return seconds, np.hypot(NEW_SIZE * half_width, self.widening)


@functools.lru_cache(maxsize=256)
def usual_node(device_id: str) -> Machine:
    """One usual node of a device, or its whole scale-up domain where that is larger."""
    node = load_cluster(f"1x{device_id}").device.node
    return machine_of(load_cluster(f"{max(node.devices, node.scale_up_domain)}x{device_id}"))


def domain_of(machine: Machine) -> Machine:
    """One domain of a machine: whatever lies beyond it does not count between neighbours."""
    devices = max(machine.domain, min(machine.node, machine.devices))
    return replace(
        machine,
        devices=devices,
        between_byte_per_s=machine.inside_byte_per_s,
        network=machine.inside,
        network_stated=True,
        assumed_links=(),
    )


@functools.lru_cache(maxsize=512)
def curve_of(op: Operation, machine: Machine, table: KernelTable) -> Measured | None:
    """The curve of an operation between neighbours of a machine: its device's own, else a sibling's; None without."""
    device_id = machine.device.id
    own = _points(table, device_id, op)
    if own is not None:
        basis = Basis("measured", f"{len(own)} sizes and ranks")
        return Measured(through(op, own, ways_of([machine]), ways_of([machine])), basis)
    for lender in _siblings(machine, op, table):
        points = _points(table, lender.device.id, op)
        if points is not None:
            basis = Basis("sibling", f"points of {lender.device.id}, over {machine.inside.id} of its own")
            widening = SAME_LINK if lender.inside.id == machine.inside.id else OTHER_LINK
            return Measured(through(op, points, ways_of([lender]), ways_of([machine])), basis, widening)
    return None


def _points(table: KernelTable, device_id: str, op: Operation) -> KernelPoints | None:
    points = table.of(device_id)
    if points is None:
        return None
    own = points.where((points.words["link"] == SCALE_UP) & (points.words["op"] == op))
    return own if len(own) >= FEWEST else None


def _siblings(machine: Machine, op: Operation, table: KernelTable) -> list[Machine]:
    """Devices with points of ``op`` whose neighbours meet over links of the same kind and topology, the same first."""
    names = [name for name in table.devices() if name != machine.device.id and _points(table, name, op)]
    alike = [other for other in map(usual_node, names) if _meeting(other) == _meeting(machine)]
    return sorted(alike, key=lambda other: (other.inside.id != machine.inside.id, _apart(other, machine)))


def _meeting(machine: Machine) -> tuple[str, str, bool]:
    link = machine.device.link
    return machine.inside.kind, link.topology if link else "host", machine.bridged


def _apart(one: Machine, other: Machine) -> tuple[float, str]:
    return abs(np.log(one.inside_byte_per_s / other.inside_byte_per_s)), one.device.id


def through(op: Operation, points: KernelPoints, theirs: Ways, own: Ways, *, rises: bool = True) -> Curve:
    """The curve of ``own`` ways through points measured on ``theirs``; points faster than their line rate are left out.

    ``rises``: whether more ranks never take less time, as between neighbours.
    """

    def base_s(sizes: Floats, ways: Ways) -> Floats:
        ranks, one = np.rint(sizes[:, 1]), np.ones(len(sizes))  # knots come from logarithms
        return form_s(op, sizes[:, 0], ranks, one, ways.at(np.zeros(len(sizes), dtype=np.int64)))

    sizes = points.sizes("bytes", "ranks")
    possible = points.seconds >= least_s(op, sizes[:, 0], sizes[:, 1], theirs)
    sizes, seconds = sizes[possible], points.seconds[possible]
    fewest, most = sizes[:, 1].min(), max(sizes[:, 1].max(), float(own.domain[0]))
    octaves = max(np.ceil(np.log2(most / fewest)), 1.0)
    theirs, own = (replace(ways, domain=np.full(1, fewest * 2**octaves)) for ways in (theirs, own))
    axis = Axis(
        name="ranks", lowest=fewest, highest=fewest * 2**octaves, knots_per_octave=1, length=RANKS_LENGTH, rises=rises
    )
    return curve((SIZES, axis), Points(sizes, seconds, base_s(sizes, theirs)), lambda at: base_s(at, own), PRIOR)


def inside_time(
    op: Operation, machine: Machine, size_bytes: Floats, ranks: Floats, table: KernelTable | None = None
) -> KernelTime:
    """Times between neighbours of a machine, never faster than their bytes at the line rate.

    Args:
        op: operation.
        machine: the devices and their links.
        size_bytes: of the whole vectors.
        ranks: of each group.
        table: what was measured; None: what hwprof ships and HWPROF_PATH adds.
    """
    machine = domain_of(machine)
    ways = ways_of([machine]).at(np.zeros(len(size_bytes), dtype=np.int64))
    found = curve_of(op, machine, table or kernel_table("collectives"))
    if found is None:
        basis = Basis("assumed", f"share and times of {machine.inside.id}")
        seconds = form_s(op, size_bytes, ranks, np.ones_like(ranks), ways)
        half_width = np.full_like(seconds, FORM)
    else:
        basis = found.basis
        seconds, half_width = found.at(size_bytes, ranks)
    return KernelTime.around(np.maximum(seconds, least_s(op, size_bytes, ranks, ways)), half_width, basis)


def across_time(op: Operation, machine: Machine, size_bytes: Floats, ranks: Floats) -> KernelTime:
    """Times of a machine's first ``ranks`` devices, over several nodes: the form, as no curve is of its network."""
    ways = ways_of([machine]).at(np.zeros(len(size_bytes), dtype=np.int64))
    one = np.ones_like(ranks)
    seconds = form_s(op, size_bytes, ranks, ways.domain if op == "send_recv" else one, ways)
    basis = Basis("assumed", f"between nodes, share and times of {machine.network.id}")
    unstated = 0.0 if machine.network_stated else float(np.log(UNSTATED_FACTOR))
    return KernelTime.around(seconds, np.full_like(seconds, np.hypot(FORM, unstated)), basis)
