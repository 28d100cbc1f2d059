"""What does a cluster offer to a layout? Rates and sizes per device, and the groups that its ranks form."""

from __future__ import annotations

from dataclasses import dataclass

from hwprof.errors import SpecError
from hwprof.predict.collective import Group, Link, group_of
from hwprof.specs.hardware import ClusterSpec, DeviceSpec
from hwprof.specs.run import Dtype


@dataclass(frozen=True, slots=True, kw_only=True)
class Latencies:
    """Time of an empty message inside a scale-up domain and between domains, in seconds."""

    inside_s: float
    between_s: float


ASSUMED_LATENCIES = Latencies(inside_s=3e-6, between_s=10e-6)
"""Orders of magnitude of one NCCL ring step over NVLink and over a RDMA network; an assumption, printed as one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """One device of a cluster and its surroundings, for one dtype.

    Attributes:
        domain: devices that reach each other over ``inside``; all others are reached over ``between``.
        peak_flop_per_s: dense matrix-multiply peak of the datasheet.
    """

    name: str
    devices: int
    domain: int
    capacity_bytes: float
    peak_flop_per_s: float
    memory_byte_per_s: float
    inside: Link
    between: Link

    def group(self, *, ranks: int, stride: int) -> Group:
        """The group of every ``stride``-th device, ``ranks`` of them."""
        return group_of(
            ranks=ranks, stride=stride, domain=self.domain, inside_link=self.inside, between_link=self.between
        )


def machine_of(cluster: ClusterSpec, dtype: Dtype, latencies: Latencies = ASSUMED_LATENCIES) -> Machine:
    """The machine that a cluster is for matrix multiplications in ``dtype``.

    Raises:
        SpecError: the device's peak for ``dtype``, its memory size, or the way between its devices is not known.
    """
    device = cluster.device
    inside_byte_per_s, domain = _inside(cluster)
    between_byte_per_s = _between(cluster, domain) or inside_byte_per_s
    return Machine(
        name=cluster.id,
        devices=cluster.devices,
        domain=domain,
        capacity_bytes=_known(device.memory.capacity_bytes, device, "memory capacity"),
        peak_flop_per_s=_known(device.matmul_flop_per_s(dtype), device, f"dense {dtype} peak"),
        memory_byte_per_s=device.memory.bandwidth_byte_per_s,
        inside=Link(bandwidth_byte_per_s=inside_byte_per_s, latency_s=latencies.inside_s),
        between=Link(bandwidth_byte_per_s=between_byte_per_s, latency_s=latencies.between_s),
    )


def _known(value: float | None, device: DeviceSpec, what: str) -> float:
    if value is None:
        raise SpecError(
            f"the {what} of {device.id} is not known",
            expectation="layouts can't be estimated without it",
            remedy="name another --cluster or --dtype, or give the device file that number",
        )
    return value


def _inside(cluster: ClusterSpec) -> tuple[float, int]:
    """Rate between neighbours and how many they are: the scale-up links, else the host links of one node."""
    device = cluster.device
    if device.link is not None and cluster.scale_up_domain > 1:
        return device.link.per_device_byte_per_s, cluster.scale_up_domain
    if device.host_link is not None:
        return device.host_link.bandwidth_byte_per_s, cluster.devices_per_node
    if cluster.devices == 1:
        return device.memory.bandwidth_byte_per_s, 1
    return _known(cluster.inter_node_byte_per_s, device, "link between devices"), 1


def _between(cluster: ClusterSpec, domain: int) -> float | None:
    """Rate beyond the domain: the network, or inside one node the host links; None where nothing is beyond."""
    if cluster.devices <= domain:
        return None
    if cluster.nodes == 1 and cluster.device.host_link is not None:
        return cluster.device.host_link.bandwidth_byte_per_s
    return _known(cluster.inter_node_byte_per_s, cluster.device, "network between nodes")
