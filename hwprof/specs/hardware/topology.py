"""How are the devices of a machine wired? Links, PCIe and NUMA, as the driver tells."""

from __future__ import annotations

from typing import Literal

from hwprof.specs.frozen import Record

Path = Literal["nvlink", "board", "one switch", "switches", "host bridge", "numa node", "system", "unknown"]
"""The way between two devices, nearest first: NVLink; on one board; over one PCIe switch; over several; over the host's
PCIe bridge; inside one NUMA node; over the link between sockets."""


class DevicePlace(Record):
    """Where one device sits.

    Attributes:
        index: as the driver counts.
        bus_id: PCIe domain, bus and device.
        numa_node: whose memory is nearest; None where the driver does not say.
        cpus: processors near it, as Linux writes a list (``0-31,64-95``).
        nvlinks: active NVLinks.
        pcie_generation: of the link as it could be; None where unknown.
        pcie_lanes: lanes of the link as it could be.
    """

    index: int
    name: str
    uuid: str
    bus_id: str
    numa_node: int | None = None
    cpus: str = ""
    nvlinks: int = 0
    pcie_generation: int | None = None
    pcie_lanes: int | None = None


class DevicePair(Record):
    """The way between two devices; ``nvlinks`` are the direct ones, or each device's own where a switch joins all."""

    first: int
    second: int
    path: Path
    nvlinks: int = 0
    through_switch: bool = False


class Topology(Record):
    """The devices of one machine and the ways between them."""

    host: str
    devices: tuple[DevicePlace, ...]
    pairs: tuple[DevicePair, ...]
    notes: tuple[str, ...] = ()
