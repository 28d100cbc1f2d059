"""What does the model say of the rows of a table of measured collectives?"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from hwprof.predict.collectives.form import OPERATIONS, Operation
from hwprof.predict.collectives.measured import FEWEST, NEW_SIZE, SCALE_UP, across_time, inside_time, through
from hwprof.predict.collectives.ways import ways_of
from hwprof.predict.curves.kernel_time import Basis, KernelTime
from hwprof.predict.curves.rows import RowTimes
from hwprof.predict.machine import Machine, machine_of
from hwprof.specs.catalogue.kernel_points import KernelPoints, KernelTable
from hwprof.specs.hardware.spec import ClusterSpec, DeviceSpec

Floats = NDArray[np.float64]

COLLECTIVE_COLUMNS = ("link", "op", "ranks", "devices_per_node", "bytes")
"""Columns that a row needs beside its device."""

LARGE_BYTES, SMALL_BYTES = 2**20, 2**18


def collective_rows(device: DeviceSpec, rows: KernelPoints, table: KernelTable) -> RowTimes:
    """Predictions of rows of one device, whose ``seconds`` are not read.

    ``link`` is ``scale-up``, or names a machine whose measured rows are in the table.
    """
    found = RowTimes.empty(len(rows))
    ranks, per_node = rows.numbers["ranks"], rows.numbers["devices_per_node"]
    for row, size in enumerate(rows.numbers["bytes"]):
        found.group[row] = f"collectives {_range(size)}"
    kinds = {*zip(rows.words["link"], rows.words["op"], ranks, per_node, strict=True)}
    for link, op, group, near in sorted(kinds):
        chosen = (rows.words["link"] == link) & (rows.words["op"] == op) & (ranks == group) & (per_node == near)
        index = np.flatnonzero(chosen)
        refusal = _refusal(str(op), float(group), float(near))
        if refusal:
            found.refuse(index, refusal)
            continue
        times = _times(device, (str(link), op, float(group), float(near)), rows.numbers["bytes"][index], table)
        if times is None:
            found.refuse(index, f"link '{link}' is not {SCALE_UP}, and no measured {op} of such a machine is known")
        else:
            found.put(index, times, name=f"{device.id} {link} {op}")
    return found


def _range(size_bytes: float) -> str:
    return "over 1 MB" if size_bytes >= LARGE_BYTES else "under 256 kB" if size_bytes < SMALL_BYTES else "between"


def _refusal(op: str, ranks: float, per_node: float) -> str:
    if op not in OPERATIONS:
        return f"op {op!r} is none of {', '.join(OPERATIONS)}"
    if ranks < 2 or per_node < 1 or ranks != round(ranks) or per_node != round(per_node):
        return f"{ranks:g} ranks, {per_node:g} in a node: expected at least 2, in nodes of 1 or more"
    return ""


def _times(
    device: DeviceSpec, kind: tuple[str, Operation, float, float], size_bytes: Floats, table: KernelTable
) -> KernelTime | None:
    link, op, ranks, per_node = kind
    machine = machine_for(device, int(ranks), int(per_node))
    wide = np.full_like(size_bytes, ranks)
    if link != SCALE_UP:
        return _site_time(machine, kind, size_bytes, table)
    if ranks <= ways_of([machine]).domain[0]:
        return inside_time(op, machine, size_bytes, wide, table)
    return across_time(op, machine, size_bytes, wide)


@functools.lru_cache(maxsize=1024)
def machine_for(device: DeviceSpec, ranks: int, per_node: int) -> Machine:
    """So many devices, ``per_node`` of them in each node, on the usual network of the device."""
    usual = device.node
    near = min(ranks, per_node)
    domain = usual.scale_up_domain if usual.scale_up_domain > usual.devices else near
    if device.link is None or device.link.topology == "bridge":
        domain = min(usual.scale_up_domain, near)
    cluster = ClusterSpec.model_construct(
        id=f"{ranks}x{device.id}",
        device=device,
        devices=ranks,
        devices_per_node=near,
        scale_up_domain=min(domain, ranks),
        inter_node_byte_per_s=usual.inter_node_byte_per_s,
        network=usual.network,
        notes="",
        source={},
    )
    return machine_of(cluster)


def _site_time(
    machine: Machine, kind: tuple[str, Operation, float, float], size_bytes: Floats, table: KernelTable
) -> KernelTime | None:
    """Times on a machine that is known by its own measured rows alone: its links may be others than the device's."""
    link, op, ranks, per_node = kind
    known = table.of(machine.device.id)
    if known is None:
        return None
    alike = (known.words["link"] == link) & (known.words["op"] == op)
    alone = known.numbers["ranks"] <= known.numbers["devices_per_node"]
    same = (known.numbers["ranks"] == ranks) & (known.numbers["devices_per_node"] == per_node)
    points = known.where(alike & (alone if ranks <= per_node else same))
    if len(points) < FEWEST:
        return None
    ways = ways_of([machine])
    curve = through(op, points, ways, ways, rises=ranks <= per_node)
    seconds, half_width = curve.at(np.stack([size_bytes, np.full_like(size_bytes, ranks)], axis=1))
    basis = Basis("measured", f"{len(points)} sizes and ranks")
    return KernelTime.around(seconds, NEW_SIZE * half_width, basis)
