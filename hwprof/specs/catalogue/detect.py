"""Which catalogue entry is the device that this machine shows?"""

from __future__ import annotations

import re
from typing import Literal

from hwprof.errors import SpecError
from hwprof.specs.catalogue.lookup import list_devices
from hwprof.specs.hardware.spec import DeviceSpec

Kind = Literal["cuda", "cpu"]
SAME_CAPACITY = 0.15
"""Drivers hold back up to a tenth of a small board's memory; boards that share a name differ by a fifth and more."""


def detect_device(
    name: str, *, kind: Kind, units: int | None = None, capacity_bytes: float | None = None
) -> DeviceSpec | None:
    """The device whose spec claims ``name``; None when none does, never a near one.

    Some boards share a name (two sizes of an RTX 4060 Ti, MI250 and MI250X): their units and memory tell them apart.

    Args:
        name: for ``cuda`` exactly what ``torch.cuda.get_device_name`` or NVML print; for ``cpu`` the whole
            "model name" of /proc/cpuinfo. A CPU's spec is one whole socket, of which a virtual machine may see a part.
        kind: what the name belongs to.
        units: multiprocessors or compute units that the driver reports; looked at only where a name is shared.
        capacity_bytes: memory that the driver reports; looked at only where a name is shared.

    Raises:
        SpecError: two specs that units and memory do not tell apart claim the name.
    """
    devices = claimants(name, kind=kind)
    for index, device in enumerate(devices):
        if any(alike(device, other) for other in devices[:index]):
            raise SpecError(
                f"device name {name!r} is claimed by {' and by '.join(each.id for each in devices)}",
                expectation="expected one spec a name, or specs that differ in units or memory",
                remedy="remove the name from all but one; `hwprof specs check` lists such clashes",
            )
    if len(devices) > 1:
        devices = tuple(each for each in devices if _fits(each, units, capacity_bytes))
    return devices[0] if len(devices) == 1 else None


def claimants(name: str, *, kind: Kind) -> tuple[DeviceSpec, ...]:
    """Every device whose spec claims ``name``, as ``detect_device`` reads it."""
    said = "cpu_models" if kind == "cpu" else name.strip()
    return tuple(device for device in list_devices(saying=said) if _claims(device, name, kind))


def alike(first: DeviceSpec, second: DeviceSpec) -> bool:
    """Whether neither units nor memory tell two devices of one name apart."""
    one, two = first.memory.capacity_bytes, second.memory.capacity_bytes
    return _same_units(first.compute.units, second.compute.units) and _same_capacity(one, two)


def _fits(device: DeviceSpec, units: int | None, capacity_bytes: float | None) -> bool:
    return _same_units(device.compute.units, units) and _same_capacity(device.memory.capacity_bytes, capacity_bytes)


def _same_units(one: int | None, two: int | None) -> bool:
    return one is None or two is None or one == two


def _same_capacity(one: float | None, two: float | None) -> bool:
    return one is None or two is None or abs(one - two) <= SAME_CAPACITY * max(one, two)


def _claims(device: DeviceSpec, name: str, kind: Kind) -> bool:
    if kind == "cpu":
        return any(re.fullmatch(pattern, name.strip()) for pattern in device.cpu_models)
    return name.strip() in device.names
