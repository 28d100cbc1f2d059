"""What does torch offer for an accelerator, whichever it is? Waiting, memory; of a CPU nothing, as it is the host."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceMemory:
    """Memory of a device, in bytes; None where torch does not tell.

    Attributes:
        allocated: the largest sum of live tensors.
        reserved: the most that torch's allocator had from the driver; the rest of it is fragmented, or kept.
        outside: what is used beside it now: context and libraries of this process, and other processes.
    """

    allocated: float | None = None
    reserved: float | None = None
    outside: float | None = None


def synchronize(device: torch.device) -> None:
    """Wait until an accelerator has done all that it was asked for; returns at once on a CPU."""
    if device.type != "cpu":
        _module(device).synchronize(*_named(device))


def empty_cache(device: torch.device) -> None:
    """Give memory that no tensor holds back to the driver."""
    if device.type != "cpu":
        _module(device).empty_cache()


def begin_peaks(device: torch.device) -> None:
    """Forget the largest sums so far, where there are any."""
    reset = getattr(_module(device), "reset_peak_memory_stats", None) if device.type != "cpu" else None
    if reset is not None:
        reset(device)


def peaks(device: torch.device) -> DeviceMemory:
    """The largest sums since ``begin_peaks``."""
    module: Any = _module(device)
    if device.type == "cpu" or not hasattr(module, "max_memory_allocated"):
        return DeviceMemory()
    reserved = getattr(module, "max_memory_reserved", None)
    return DeviceMemory(
        allocated=float(module.max_memory_allocated(device)),
        reserved=None if reserved is None else float(reserved(device)),
        outside=_outside(module, device),
    )


def _outside(module: Any, device: torch.device) -> float | None:
    if not hasattr(module, "mem_get_info") or not hasattr(module, "memory_reserved"):
        return None
    free, total = module.mem_get_info(device)
    return max(float(total - free) - float(module.memory_reserved(device)), 0.0)


def _module(device: torch.device) -> Any:
    return torch.get_device_module(device)


def _named(device: torch.device) -> tuple[torch.device, ...]:
    """Apple's GPU is the only one of its kind, and its functions take no device."""
    return () if device.type == "mps" else (device,)
