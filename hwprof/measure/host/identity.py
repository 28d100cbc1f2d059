"""Which device is this, and which catalogue entry does it match?"""

from __future__ import annotations

import torch

from hwprof.measure.host.environment import available_memory_bytes, device_name
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
    if device.type == "cpu" and sharing_memory > 1:
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
    if device.type != "cuda":
        return detect_device(name, kind="cpu")
    found = torch.cuda.get_device_properties(device)
    return detect_device(name, kind="cuda", units=found.multi_processor_count, capacity_bytes=float(found.total_memory))
