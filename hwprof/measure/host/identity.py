"""Which device is this, and which catalogue entry does it match?"""

from __future__ import annotations

import torch

from hwprof.measure.host.accelerator import module_of
from hwprof.measure.host.environment import device_name
from hwprof.measure.host.memory import available_memory_bytes
from hwprof.specs.catalogue.detect import detect_device
from hwprof.specs.hardware.spec import DeviceSpec
from hwprof.specs.record.run import DeviceIdentity


def identify(device: torch.device, *, sharing_memory: int = 1) -> tuple[DeviceIdentity, DeviceSpec | None]:
    """A device as a run records it, and its spec if the catalogue has one.

    Args:
        device: the device.
        sharing_memory: how many ranks live in a CPU's memory; each has its share.
    """
    name = device_name(device)
    spec = _spec(name, device)
    memory_bytes, source = available_memory_bytes(device)
    if device.type == "cpu" and sharing_memory > 1 and memory_bytes is not None:
        memory_bytes, source = memory_bytes / sharing_memory, f"a share of 1 / {sharing_memory} of what is {source}"
    identity = DeviceIdentity(
        name=name,
        catalogue_id=spec.id if spec else None,
        note=f"catalogue entry {spec.id}" if spec else "not in the catalogue: measured ceilings only",
        memory_bytes=memory_bytes,
        memory_source=source,
    )
    return identity, spec


def _spec(name: str, device: torch.device) -> DeviceSpec | None:
    if device.type == "cpu":
        return detect_device(name, kind="cpu")
    told = getattr(module_of(device), "get_device_properties", None)
    found = None if told is None else told(device)
    units, capacity = (getattr(found, field, None) for field in ("multi_processor_count", "total_memory"))
    return detect_device(name, kind="cuda", units=units, capacity_bytes=None if capacity is None else float(capacity))
