"""Which counters can be read beside a run? Tables for the host (psutil), NVIDIA's GPUs (NVML) and others (torch)."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import psutil
import torch

from hwprof.errors import first_line
from hwprof.measure.telemetry.gpm import open_gpm
from hwprof.specs.measurement import Skipped


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reader:
    """A counter, or several that are read together.

    Attributes:
        quantities: their names.
        unit: the unit of all of them; ``fraction`` is 0 to 1.
        read: one value for each name; an exception ends the reader, and its text is the reason.
        every: read at every n-th sample only.
    """

    quantities: tuple[str, ...]
    unit: str
    read: Callable[[], Sequence[float]]
    every: int = 1


class UnavailableError(Exception):
    """The operating system does not provide a counter."""


def host_readers() -> tuple[Reader, ...]:
    """Counters of the host and of this process; bytes of the disks are those of the whole machine since now."""
    cores = _cores()
    process = psutil.Process()
    return (
        Reader(
            quantities=("cpu.utilization", *(f"cpu.core{core}.utilization" for core in range(cores))),
            unit="fraction",
            read=_utilization,
        ),
        Reader(quantities=("cpu.frequency",), unit="hertz", read=_frequency),
        Reader(quantities=("process.rss",), unit="byte", read=lambda: (float(process.memory_info().rss),)),
        Reader(quantities=("host.memory_used",), unit="byte", read=lambda: (float(psutil.virtual_memory().used),)),
        Reader(quantities=("disk.read", "disk.write"), unit="byte", read=_since_first(_disk_bytes)),
    )


def _cores() -> int:
    """How many the operating system tells of; 0 where it tells nothing."""
    try:
        return len(psutil.cpu_percent(percpu=True))
    except Exception:  # noqa: BLE001 (the reader itself will say what is the matter)
        return 0


def gpu_readers(
    nvml: Any, device_index: int | None, kind: str = "cuda"
) -> tuple[tuple[Reader, ...], tuple[Skipped, ...]]:
    """Counters of a GPU, or why there are none.

    Args:
        nvml: the NVML binding.
        device_index: torch's index of the device; NVML's own differs where CUDA_VISIBLE_DEVICES is set, so the device
            is found by its UUID.
        kind: of the accelerator; NVML tells of NVIDIA's, torch of others.
    """
    if device_index is None:
        return (), (Skipped(name="gpu", reason="the run uses no GPU"),)
    if kind != "cuda" or torch.version.hip:
        return _readers_of_torch(kind, device_index)
    try:
        nvml.nvmlInit()
        handle, is_slice = _handle(nvml, device_index)
    except Exception as error:  # noqa: BLE001 (a driver's library fails in many ways; its text is the reason)
        remedy = "install the NVIDIA driver's libnvidia-ml, or give the container access to it (--gpus)"
        return (), (Skipped(name="gpu", reason=f"NVML: {first_line(error)}", remedy=remedy),)
    readers = [
        Reader(quantities=quantities, unit=unit, read=functools.partial(read, nvml, handle), every=every)
        for quantities, unit, read, every in _GPU_TABLE
    ]
    energy = Reader(
        quantities=("gpu.energy",),
        unit="joule",
        read=_since_first(lambda: (nvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3,)),
    )
    groups, missing = open_gpm(nvml, handle)
    missing = (*missing, *((_OF_THE_WHOLE,) if is_slice else ()))
    gpm = [Reader(quantities=group.quantities, unit=unit, read=group.read) for group, unit in groups]
    return (*readers, energy, *gpm), missing


def _readers_of_torch(kind: str, device_index: int) -> tuple[tuple[Reader, ...], tuple[Skipped, ...]]:
    """Counters that torch itself reads, of AMD's GPUs through amdsmi and of Intel's through Level Zero.

    Power comes in W from both, though torch's words on AMD's function say mW (amdsmi, ``average_socket_power``).
    """
    module: Any = getattr(torch, kind)
    readers = tuple(
        Reader(
            quantities=(quantity,),
            unit=unit,
            read=functools.partial(_value_of_torch, module, name, device_index, factor),
            every=_SLOW_EVERY if kind == "xpu" and name in _SLOW_OF_INTEL else 1,
        )
        for quantity, unit, name, factor in _OF_TORCH
        if hasattr(module, name)
    )
    none = Skipped(name="gpu", reason=f"torch.{kind} reads no counters, and no other library here does")
    return readers, () if readers else (none,)


def _value_of_torch(module: Any, name: str, device_index: int, factor: float) -> Sequence[float]:
    return (float(getattr(module, name)(device_index)) * factor,)


_OF_TORCH: tuple[tuple[str, str, str, float], ...] = (
    ("gpu.power", "watt", "power_draw", 1.0),
    ("gpu.sm_clock", "hertz", "clock_rate", 1e6),
    ("gpu.temperature", "celsius", "temperature", 1.0),
    ("gpu.utilization", "fraction", "utilization", 1e-2),
    ("gpu.memory_utilization", "fraction", "memory_usage", 1e-2),
    ("gpu.memory_used", "byte", "device_memory_used", 1.0),
)
"""Quantity, its unit, torch's function, and the factor from its unit."""
_SLOW_OF_INTEL = frozenset({"power_draw", "utilization", "memory_usage"})
"""They block for 100 ms (torch.xpu's documentation)."""
_SLOW_EVERY = 10

_OF_THE_WHOLE = Skipped(
    name="gpu.slice",
    reason="the process has a slice of a GPU (MIG); power, clocks, temperature and memory are those of the whole GPU",
)


def _handle(nvml: Any, device_index: int) -> tuple[Any, bool]:
    """NVML's handle of torch's device, of a slice (MIG) that of the whole GPU; and whether it is a slice.

    Before torch 2.5 there is no UUID, and the two count alike by default.

    Raises:
        AttributeError: CUDA_VISIBLE_DEVICES is set and torch has no UUID to find the device by.
    """
    properties = torch.cuda.get_device_properties(device_index)
    if not hasattr(properties, "uuid") and "CUDA_VISIBLE_DEVICES" not in os.environ:
        return nvml.nvmlDeviceGetHandleByIndex(device_index), False
    try:
        return nvml.nvmlDeviceGetHandleByUUID(f"GPU-{properties.uuid}"), False
    except nvml.NVMLError as error:
        try:
            own = nvml.nvmlDeviceGetHandleByUUID(f"MIG-{properties.uuid}")
            return nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(own), True
        except nvml.NVMLError:
            raise error from None


GpuRead = Callable[[Any, Any], Sequence[float]]

_PCIE_EVERY = 5
"""One PCIe counter blocks for about 20 ms (NVML documentation of nvmlDeviceGetPcieThroughput)."""

_THROTTLES = {
    "gpu.throttle.power_cap": "nvmlClocksThrottleReasonSwPowerCap",
    "gpu.throttle.power_brake": "nvmlClocksThrottleReasonHwPowerBrakeSlowdown",
    "gpu.throttle.thermal_software": "nvmlClocksThrottleReasonSwThermalSlowdown",
    "gpu.throttle.thermal_hardware": "nvmlClocksThrottleReasonHwThermalSlowdown",
    "gpu.throttle.hardware": "nvmlClocksThrottleReasonHwSlowdown",
}
"""Quantity -> NVML's bit; the value is 1 while the reason holds the clocks down, so its mean is a share of time."""


def _clocks(nvml: Any, handle: Any) -> Sequence[float]:
    return tuple(nvml.nvmlDeviceGetClockInfo(handle, kind) * 1e6 for kind in (nvml.NVML_CLOCK_SM, nvml.NVML_CLOCK_MEM))


def _gpu_utilization(nvml: Any, handle: Any) -> Sequence[float]:
    rates = nvml.nvmlDeviceGetUtilizationRates(handle)
    return rates.gpu / 100, rates.memory / 100


def _throttles(nvml: Any, handle: Any) -> Sequence[float]:
    mask = nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)
    return tuple(float(bool(mask & getattr(nvml, bit))) for bit in _THROTTLES.values())


def _pcie(nvml: Any, handle: Any) -> Sequence[float]:
    counters = (nvml.NVML_PCIE_UTIL_TX_BYTES, nvml.NVML_PCIE_UTIL_RX_BYTES)
    return tuple(nvml.nvmlDeviceGetPcieThroughput(handle, counter) * 1e3 for counter in counters)


_GPU_TABLE: tuple[tuple[tuple[str, ...], str, GpuRead, int], ...] = (
    (("gpu.power",), "watt", lambda nvml, handle: (nvml.nvmlDeviceGetPowerUsage(handle) / 1e3,), 1),
    (("gpu.sm_clock", "gpu.memory_clock"), "hertz", _clocks, 1),
    (
        ("gpu.temperature",),
        "celsius",
        lambda nvml, handle: (float(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)),),
        1,
    ),
    (("gpu.utilization", "gpu.memory_utilization"), "fraction", _gpu_utilization, 1),
    (tuple(_THROTTLES), "fraction", _throttles, 1),
    (("gpu.memory_used",), "byte", lambda nvml, handle: (float(nvml.nvmlDeviceGetMemoryInfo(handle).used),), 1),
    (("gpu.pcie_tx", "gpu.pcie_rx"), "byte_per_s", _pcie, _PCIE_EVERY),
)
"""Quantities, unit, how to read them (NVML gives mW, MHz, percent, kB/s and mJ), and at every n-th sample."""


def _utilization() -> Sequence[float]:
    cores = [percent / 100 for percent in psutil.cpu_percent(percpu=True)]
    return sum(cores) / len(cores), *cores


def _frequency() -> Sequence[float]:
    frequency = psutil.cpu_freq()
    if frequency is None:
        raise UnavailableError("the operating system reports no CPU frequency")
    return (frequency.current * 1e6,)


def _disk_bytes() -> Sequence[float]:
    counters = psutil.disk_io_counters()
    if counters is None:
        raise UnavailableError("the operating system reports no disk counters")
    return float(counters.read_bytes), float(counters.write_bytes)


def _since_first(read: Callable[[], Sequence[float]]) -> Callable[[], Sequence[float]]:
    """Running totals, counted from the first reading."""
    first: list[Sequence[float]] = []

    def since() -> Sequence[float]:
        values = read()
        if not first:
            first.append(values)
        return tuple(value - start for value, start in zip(values, first[0], strict=True))

    return since
