"""What does torch offer for an accelerator, whichever it is? Waiting, streams, memory; a CPU is the host itself."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch

from hwprof.specs.job.settings import DeviceKind

PLATFORMS: dict[str, str] = {"cuda": "CUDA", "xpu": "Intel GPU (xpu)", "mps": "Apple GPU (mps)", "npu": "Ascend (npu)"}
"""Kind of accelerator -> how a person calls it."""


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


def kind_of(device: torch.device) -> DeviceKind:
    """As records name it."""
    return cast("DeviceKind", device.type if device.type in PLATFORMS else "cpu")


def platform_of(device: torch.device) -> str:
    """How a person calls a kind of device; torch calls AMD's GPUs ``cuda``, too."""
    return "ROCm" if device.type == "cuda" and torch.version.hip else PLATFORMS.get(device.type, "CPU")


def table_of(device: torch.device) -> Literal["cpu", "cuda"]:
    """Which of the tables of sizes and formats is a device's: the CPU's, or the accelerators'."""
    return "cpu" if device.type == "cpu" else "cuda"


def module_of(device: torch.device) -> Any:
    """Torch's module for a kind of device: ``torch.cuda``, ``torch.xpu``, ..."""
    return torch.get_device_module(device)


def make_current(device: torch.device) -> None:
    """Work that names no device goes to this one from now on."""
    choose = getattr(module_of(device), "set_device", None)
    if choose is not None:
        choose(device)


def current(device: torch.device) -> AbstractContextManager[object]:
    """The device is the current one meanwhile."""
    choose = getattr(module_of(device), "device", None) if device.type != "cpu" else None
    found: AbstractContextManager[object] = nullcontext() if choose is None else choose(device)
    return found


def synchronize(device: torch.device) -> None:
    """Wait until an accelerator has done all that it was asked for; returns at once on a CPU."""
    if device.type != "cpu":
        module_of(device).synchronize(*_named(device))


def empty_cache(device: torch.device) -> None:
    """Give memory that no tensor holds back to the driver."""
    if device.type != "cpu":
        module_of(device).empty_cache()


def begin_peaks(device: torch.device) -> None:
    """Forget the largest sums so far, where there are any."""
    reset = getattr(module_of(device), "reset_peak_memory_stats", None) if device.type != "cpu" else None
    if reset is not None:
        reset(device)


def peaks(device: torch.device) -> DeviceMemory:
    """The largest sums since ``begin_peaks``."""
    module: Any = module_of(device)
    if device.type == "cpu" or not hasattr(module, "max_memory_allocated"):
        return DeviceMemory()
    return DeviceMemory(
        allocated=_told(lambda: module.max_memory_allocated(device)),
        reserved=_told(lambda: module.max_memory_reserved(device)),
        outside=_told(lambda: _outside(module, device)),
    )


def _told(read: Callable[[], float]) -> float | None:
    """A number of bytes; None where this torch has no such function, or the driver gives no answer."""
    try:
        return float(read())
    except (AttributeError, NotImplementedError, RuntimeError):
        return None


def _outside(module: Any, device: torch.device) -> float:
    free, total = module.mem_get_info(device)
    return max(float(total - free) - float(module.memory_reserved(device)), 0.0)


def _named(device: torch.device) -> tuple[torch.device, ...]:
    """Apple's GPU is the only one of its kind, and its functions take no device."""
    return () if device.type == "mps" else (device,)
