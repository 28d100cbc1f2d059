"""What does a cluster offer to a training step? Rates, sizes and links of one device, and who is near whom."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from hwprof.errors import InputError, SpecError
from hwprof.specs.catalogue.lookup import load_link
from hwprof.specs.hardware.spec import ArchitectureFamily, ClusterSpec, DeviceSpec, LinkSpec, MatmulDtype
from hwprof.units import format_byte_per_s, format_seconds

_FALLBACK: dict[MatmulDtype, tuple[MatmulDtype, ...]] = {
    "fp4": ("fp4", "fp8", "bf16", "fp16"),
    "fp8": ("fp8", "bf16", "fp16"),
    "bf16": ("bf16", "fp32"),
    "fp16": ("fp16", "fp32"),
    "tf32": ("tf32", "fp32"),
    "fp32": ("fp32",),
    "fp64": ("fp64",),
}
"""A format that a device has no path for runs in the next wider one that it has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """One device of a cluster and its surroundings. Rates of links are one direction, per device.

    Attributes:
        device: the device; of a package that frameworks see as several devices, one of them.
        scale: how many such devices count as one here (2 for a TPU7x chip), otherwise 1.
        devices: how many there are.
        domain: neighbours that reach each other over the scale-up links.
        inside_byte_per_s: scale-up links.
        between_byte_per_s: network between domains.
        mesh: whether every two neighbours have scale-up links of their own.
        torus_axes: axes of the torus that the scale-up links form; 0 where they form none, or how many is not known.
        adds_in_switch: whether the switch between neighbours adds up what it passes on.
        node: devices that share a host.
        inside, network: the links of neighbours and between domains, with what collectives reach on them.
        network_stated: whether a file or the user says how fast the network is.
        assumed_links: in words, which of these numbers no file has.
        power_cap_watt: that a device may take, below its rating; None = as rated.
    """

    device: DeviceSpec
    scale: int
    devices: int
    domain: int
    inside_byte_per_s: float
    between_byte_per_s: float
    mesh: bool
    torus_axes: int
    adds_in_switch: bool
    node: int
    inside: LinkSpec = field(compare=False)
    network: LinkSpec = field(compare=False)
    network_stated: bool
    assumed_links: tuple[str, ...]
    power_cap_watt: float | None = None

    def assumptions(self, dtype: MatmulDtype) -> tuple[str, ...]:
        """In words, what is not from a datasheet, and where another format's peak stands in for ``dtype``."""
        format_used = self.format_used(dtype)
        replaced = () if format_used == dtype else (f"{self.device.id} has no {dtype} peak: that of {format_used}",)
        return (*self.assumed_links, *replaced)

    @property
    def capacity_bytes(self) -> float:
        """Memory that a program finds.

        Raises:
            SpecError: it is not known.
        """
        if self.device.memory.capacity_bytes is None:
            raise _unknown(self.device, "memory capacity")
        return self.scale * self.device.memory.capacity_bytes

    @property
    def memory_byte_per_s(self) -> float:
        """Memory bandwidth of the datasheet."""
        return self.scale * self.device.memory.bandwidth_byte_per_s

    @property
    def units(self) -> int:
        """Compute units that share the tiles of a product; 0 where it is not known."""
        return self.scale * (self.device.compute.units or 0)

    @property
    def host_byte_per_s(self) -> float:
        """Link to host memory, one direction; that of PCIe 4.0 x16 where the device's is not known."""
        link = self.device.host_link
        return self.scale * link.bandwidth_byte_per_s if link else USUAL_HOST_BYTE_PER_S

    @property
    def wrapped(self) -> bool:
        """Whether the torus closes: cubes of 4 x 4 x 4 (Jouppi et al. 2023, section 2), or whole pods of 16 x 16."""
        return self.torus_axes > 0 and self.domain >= (SMALLEST_CLOSED_3D if self.torus_axes > 2 else CLOSED_2D)

    @property
    def protocols(self) -> bool:
        """Whether small messages have faster protocols between neighbours."""
        return self.inside.protocols

    @property
    def bridged(self) -> bool:
        """Whether the scale-up links are bridges between a few cards, and all others of a node are met over PCIe."""
        link = self.device.link
        return link is not None and link.topology == "bridge" and self.domain > 1 and self.device.host_link is not None

    @property
    def architecture(self) -> ArchitectureFamily:
        """The family of devices that it belongs to, for parameters."""
        return self.device.architecture_family

    def peak_flop_per_s(self, dtype: MatmulDtype) -> float:
        """The dense matrix-multiply peak for ``dtype``, or for the next wider format that the device has.

        Raises:
            SpecError: none is known.
        """
        rate = self.device.matmul_flop_per_s(self.format_used(dtype))
        assert rate is not None
        return self.scale * rate

    def format_used(self, dtype: MatmulDtype) -> MatmulDtype:
        """``dtype``, or the next wider format that the device has a path for.

        Raises:
            SpecError: it has none.
        """
        for each in _FALLBACK[dtype]:
            if self.device.matmul_flop_per_s(each) is not None:
                return each
        raise _unknown(self.device, f"dense {dtype} peak")


def machine_of(cluster: ClusterSpec, *, scale: int = 1) -> Machine:
    """The machine that a cluster is.

    Args:
        cluster: devices, nodes and network; its rates are per device of its device file.
        scale: devices of a package that count as one.

    Raises:
        SpecError: the way between its devices is not known.
    """
    device = cluster.device
    inside_byte_per_s, domain = _inside(cluster)
    stated = cluster.inter_node_byte_per_s or device.node.inter_node_byte_per_s
    network = load_link(cluster.network or device.node.network or UNSTATED_NETWORK)
    between = stated or load_link(UNSTATED_NETWORK).bandwidth_byte_per_s / cluster.devices_per_node
    over_host = cluster.nodes == 1 and cluster.devices > domain and device.host_link is not None
    if over_host and device.host_link is not None:
        between, network = device.host_link.bandwidth_byte_per_s, load_link(device.host_link.link or UNSTATED_LINK)
    link = device.link.link if _linked(cluster) and device.link else device.host_link.link if device.host_link else ""
    inside = load_link(link or UNSTATED_LINK)
    return Machine(
        device=device,
        scale=scale,
        devices=cluster.devices,
        domain=domain,
        inside_byte_per_s=scale * inside_byte_per_s,
        between_byte_per_s=scale * between,
        mesh=device.link is not None and device.link.topology == "mesh",
        torus_axes=_torus_axes(device),
        adds_in_switch=_adds_in_switch(device, inside) and domain > 2,
        node=cluster.devices_per_node,
        inside=inside,
        network=network,
        network_stated=bool(stated) or over_host,
        assumed_links=tuple(_assumed_links(cluster, inside, network, domain=domain, stated=bool(stated) or over_host)),
    )


def with_power_cap(machine: Machine, cap_watt: float | None) -> Machine:
    """The machine with devices that may take so much; at or above their rating nothing changes.

    Raises:
        InputError: it is no GPU whose rating is known, or the cap is below what keeps one awake.
    """
    if cap_watt is None:
        return machine
    device, rated_watt = machine.device, machine.device.compute.tdp_watt
    if device.kind != "gpu" or rated_watt is None:
        raise InputError(
            f"what a power cap does to {device.id} is not known",
            expectation="expected a GPU whose rated power its file says",
            remedy="leave --power-cap out",
        )
    if cap_watt < LEAST_CAP * rated_watt:
        raise InputError(
            f"a cap of {cap_watt:g} W is too low for {device.id}, which is rated at {rated_watt:g} W",
            expectation=f"expected {LEAST_CAP * rated_watt:g} W or more",
            remedy="raise the cap, or take fewer devices",
        )
    return replace(machine, power_cap_watt=cap_watt) if cap_watt < rated_watt else machine


LEAST_CAP = 0.28
"""Lowest cap that drivers take over the rating: 100 W of 350 on an RTX 3090, 200 W of 700 on an H100 (nvidia-smi)."""

SMALLEST_CLOSED_3D, CLOSED_2D = 64, 256


def _torus_axes(device: DeviceSpec) -> int:
    """Two links of a package for each axis."""
    if device.link is None or device.link.topology != "torus" or not device.link.links:
        return 0
    return device.link.links * device.devices_per_package // 2


def _adds_in_switch(device: DeviceSpec, inside: LinkSpec) -> bool:
    """NVSwitch from its third generation on (Hopper; NVLink SHARP), as the link's file says."""
    return device.link is not None and device.link.topology == "switch" and inside.adds_in_switch is True


def _assumed_links(
    cluster: ClusterSpec, inside: LinkSpec, network: LinkSpec, *, domain: int, stated: bool
) -> Iterator[str]:
    """What a prediction rests on without a file that says it."""
    link = cluster.device.link
    if cluster.devices > 1 and inside.id == UNSTATED_LINK:
        yield f"latency inside a node: {format_seconds(inside.latency_s)} (assumed, the link has no file)"
    if link is not None and link.topology == "bridge" and cluster.devices > 1 and _linked(cluster):
        yield f"{link.link} bridges join every {domain} cards, others talk over PCIe (assumed: not all boxes have them)"
    if cluster.devices > domain and network.id == UNSTATED_NETWORK:
        yield f"latency between nodes: {format_seconds(network.latency_s)} (assumed, the network has no file)"
    if cluster.devices > domain and not stated:
        shared = load_link(UNSTATED_NETWORK).bandwidth_byte_per_s
        yield (
            f"network between nodes: {shared * 8e-9:.0f} Gb/s for all {cluster.devices_per_node} devices of a node "
            f"(assumed, no rate is known: from 1/{UNSTATED_FACTOR:.0f} to {UNSTATED_FACTOR:.0f} times as much)"
        )
    if cluster.device.host_link is None:
        usual = format_byte_per_s(USUAL_HOST_BYTE_PER_S)
        yield f"link to the host: {usual}, PCIe 4.0 x16 (assumed; matters for offload)"


USUAL_HOST_BYTE_PER_S = 31.5e9
"""PCIe 4.0 x16, one direction: 16 GT/s x 16 lanes x 128/130 / 8 bit."""

UNSTATED_LINK, UNSTATED_NETWORK = "unstated-link", "unstated-network"
"""Links of the catalogue that stand for one that no file names; what they say is assumed, and said to be."""

UNSTATED_FACTOR = 4.0
"""How far a network that nobody states may be from the assumed one: 25 Gb/s of a cheap node to 400 Gb/s."""


def _linked(cluster: ClusterSpec) -> bool:
    """Whether devices meet over scale-up links: a box without bridges has none."""
    link = cluster.device.link
    return link is not None and (cluster.scale_up_domain > 1 or cluster.devices == 1)


def _inside(cluster: ClusterSpec) -> tuple[float, int]:
    """Rate between neighbours and how many they are: the scale-up links, else the host links of one node."""
    device = cluster.device
    if device.link is not None and _linked(cluster):
        return device.link.per_device_byte_per_s, cluster.scale_up_domain
    if device.host_link is not None:
        return device.host_link.bandwidth_byte_per_s, cluster.devices_per_node
    if cluster.devices == 1:
        return device.memory.bandwidth_byte_per_s, 1
    if cluster.inter_node_byte_per_s is None:
        raise _unknown(device, "link between devices")
    return cluster.inter_node_byte_per_s, 1


def _unknown(device: DeviceSpec, what: str) -> SpecError:
    return SpecError(
        f"the {what} of {device.id} is not known",
        expectation="a step can't be predicted without it",
        remedy="give the device file that number, or name another device",
    )
