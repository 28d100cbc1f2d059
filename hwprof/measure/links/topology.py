"""How are this machine's GPUs wired, to each other and to the host? NVLink, PCIe and NUMA, as NVML and Linux tell."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

import pynvml
import torch

from hwprof.errors import first_line
from hwprof.measure.host.accelerator import platform_of
from hwprof.specs.hardware.topology import DevicePair, DevicePlace, Path, Topology
from hwprof.specs.measurement import Skipped

_PCI_DEVICES = FilePath("/sys/bus/pci/devices")
_TO_GPU, _TO_SWITCH = 0, 2
"""nvmlIntNvLinkDeviceType_t: what is at the other end of an NVLink."""
_PATHS: dict[int, Path] = {
    0: "board",
    10: "one switch",
    20: "switches",
    30: "host bridge",
    40: "numa node",
    50: "system",
}
"""nvmlGpuTopologyLevel_t: the nearest common ancestor of two devices on PCIe."""


_Indices = tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Link:
    """One active NVLink of a device: what it leads to."""

    kind: int
    remote_bus_id: str


def topology(
    device: torch.device, host: str, *, nvml: Any = pynvml, pci_devices: FilePath = _PCI_DEVICES
) -> tuple[Topology | None, Skipped | None]:
    """The wiring of all GPUs of this machine, or why it can't be told.

    Args:
        device: what the run uses; a CPU run has no GPUs to look at.
        host: this machine's name.
        nvml: the NVML binding.
        pci_devices: where Linux lists its PCIe devices.
    """
    if device.type == "cpu":
        return None, Skipped(name="topology", reason="the ranks run on CPUs; NVML tells about NVIDIA GPUs alone")
    if device.type != "cuda" or torch.version.hip:
        return None, Skipped(name="topology", reason=f"NVML tells about NVIDIA GPUs alone, not {platform_of(device)}'s")
    try:
        nvml.nvmlInit()
        handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
        links = [_links(nvml, handle) for handle in handles]
        places = [
            _place(nvml, index, handle, len(own), pci_devices)
            for index, (handle, own) in enumerate(zip(handles, links, strict=True))
        ]
        pairs = tuple(
            _pair(nvml, handles, places, links, pair) for pair in itertools.combinations(range(len(handles)), 2)
        )
    except Exception as error:  # noqa: BLE001 (a driver's library fails in many ways; its text is the reason)
        remedy = "install the NVIDIA driver's libnvidia-ml, or give the container access to it (--gpus)"
        return None, Skipped(name="topology", reason=f"NVML: {first_line(error)}", remedy=remedy)
    return Topology(host=host, devices=tuple(places), pairs=pairs), None


def _links(nvml: Any, handle: Any) -> list[_Link]:
    """The active NVLinks; a device without any answers with an error."""
    found = []
    for number in range(nvml.NVML_NVLINK_MAX_LINKS):
        try:
            if not nvml.nvmlDeviceGetNvLinkState(handle, number):
                continue
            kind = nvml.nvmlDeviceGetNvLinkRemoteDeviceType(handle, number)
            remote = _text(nvml.nvmlDeviceGetNvLinkRemotePciInfo(handle, number).busId)
        except nvml.NVMLError:
            break  # no such link, and none after it
        found.append(_Link(kind, remote.lower()))
    return found


def _place(nvml: Any, index: int, handle: Any, nvlinks: int, pci_devices: FilePath) -> DevicePlace:
    bus_id = _text(nvml.nvmlDeviceGetPciInfo(handle).busId).lower()
    folder = pci_devices / bus_id[-12:]  # NVML writes the domain with eight digits, Linux with four
    node = _line(folder / "numa_node")
    return DevicePlace(
        index=index,
        name=_text(nvml.nvmlDeviceGetName(handle)),
        uuid=_text(nvml.nvmlDeviceGetUUID(handle)),
        bus_id=bus_id,
        numa_node=int(node) if node and int(node) >= 0 else None,
        cpus=_line(folder / "local_cpulist"),
        nvlinks=nvlinks,
        pcie_generation=_asked(nvml, nvml.nvmlDeviceGetMaxPcieLinkGeneration, handle),
        pcie_lanes=_asked(nvml, nvml.nvmlDeviceGetMaxPcieLinkWidth, handle),
    )


def _pair(
    nvml: Any, handles: Sequence[Any], places: Sequence[DevicePlace], links: Sequence[Sequence[_Link]], pair: _Indices
) -> DevicePair:
    first, second = pair
    direct = sum(link.kind == _TO_GPU and link.remote_bus_id == places[second].bus_id for link in links[first])
    switched = [sum(link.kind == _TO_SWITCH for link in links[one]) for one in (first, second)]
    if direct:
        return DevicePair(first=first, second=second, path="nvlink", nvlinks=direct)
    if min(switched):
        return DevicePair(first=first, second=second, path="nvlink", nvlinks=min(switched), through_switch=True)
    level = _asked(nvml, nvml.nvmlDeviceGetTopologyCommonAncestor, handles[first], handles[second])
    return DevicePair(first=first, second=second, path=_PATHS.get(-1 if level is None else level, "unknown"))


def _asked(nvml: Any, question: Any, *handles: Any) -> int | None:
    """An answer of NVML, or None where this device or driver has none."""
    try:
        return int(question(*handles))
    except nvml.NVMLError:
        return None


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _line(path: FilePath) -> str:
    return path.read_text(encoding="ascii").strip() if path.is_file() else ""
