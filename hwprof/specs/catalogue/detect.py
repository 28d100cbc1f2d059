"""Which catalogue entry is the device that this machine shows?"""

from __future__ import annotations

import re
from typing import Literal

from hwprof.errors import SpecError
from hwprof.specs.catalogue.lookup import list_devices
from hwprof.specs.hardware.spec import DeviceSpec


def detect_device(name: str, *, kind: Literal["cuda", "cpu"]) -> DeviceSpec | None:
    """The device whose spec claims ``name``; None when none does, never a near one.

    Args:
        name: for ``cuda`` exactly what ``torch.cuda.get_device_name`` or NVML print; for ``cpu`` the whole
            "model name" of /proc/cpuinfo. A CPU's spec is one whole socket, of which a virtual machine may see a part.
        kind: what the name belongs to.

    Raises:
        SpecError: two specs claim the name.
    """
    devices = [device for device in list_devices() if _claims(device, name, kind)]
    if len(devices) > 1:
        raise SpecError(
            f"device name {name!r} is claimed by {' and by '.join(device.id for device in devices)}",
            expectation="expected one spec a name",
            remedy="remove the name from all but one; `hwprof specs check` lists such clashes",
        )
    return devices[0] if devices else None


def _claims(device: DeviceSpec, name: str, kind: Literal["cuda", "cpu"]) -> bool:
    if kind == "cpu":
        return any(re.fullmatch(pattern, name.strip()) for pattern in device.cpu_models)
    return name.strip() in device.names
