"""What would NVML say? The library itself is played, so that its Python binding does all that it does on a GPU.

Faults: "nodriver", "mig" (a slice of a GPU), "ampere" (no GPM counters), "denied" (GPM is another user's), "lost"
(falls off the bus after some readings), "throttled" (by its power cap, at 1.2 GHz).
"""

from __future__ import annotations

import ctypes
import functools
import itertools
from typing import Any

import pynvml

from played.device import H200

NOT_SUPPORTED, DENIED, NOT_FOUND, NO_DRIVER, LOST = 3, 4, 6, 9, 15
SM_CLOCK_MHZ, THROTTLED_MHZ = 1755, 1200
_READINGS_UNTIL_LOST = 6
_TEXTS = {3: b"Not Supported", 4: b"Insufficient Permissions", 6: b"Not Found", 9: b"Driver Not Loaded",
          15: b"GPU is lost"}  # fmt: skip
_DEVICE, _PARENT = 1, 2


class Library:
    """Functions of ``libnvidia-ml.so`` by name; each takes what the binding gives it and answers with NVML's code."""

    def __init__(self, *faults: str, uuid: str = H200["uuid"], count: int = 1) -> None:
        self.faults, self.uuid, self.count = frozenset(faults), uuid, count
        self.asked: list[str] = []
        self._energy_mj, self._readings = itertools.count(5_000_000, 140_000), itertools.count()

    def __getattr__(self, name: str) -> Any:
        answer = getattr(type(self), f"_{name}", None)
        if answer is None:
            raise AttributeError(name)
        return functools.partial(self._call, name, answer)

    def _call(self, name: str, answer: Any, *given: Any) -> Any:
        self.asked.append(name)
        if "nodriver" in self.faults and name != "nvmlErrorString":
            return NO_DRIVER
        whole = "mig" not in self.faults or not given or _address(given[0]) == _PARENT
        return answer(self, *given) if whole or name in _OF_A_SLICE else NOT_SUPPORTED

    def _nvmlInitWithFlags(self, _flags):
        return 0

    def _nvmlShutdown(self):
        return 0

    def _nvmlErrorString(self, code):
        return _TEXTS.get(code, b"Unknown Error")

    def _nvmlSystemGetDriverVersion(self, text, _size):
        text.value = b"580.95.05"
        return 0

    def _nvmlDeviceGetCount_v2(self, count):
        count._obj.value = self.count
        return 0

    def _nvmlDeviceGetHandleByIndex_v2(self, _index, handle):
        _point(handle, _DEVICE)
        return 0

    def _nvmlDeviceGetHandleByUUID(self, text, handle):
        prefix = "MIG" if "mig" in self.faults else "GPU"
        if text.value != f"{prefix}-{self.uuid}".encode():
            return NOT_FOUND
        _point(handle, _DEVICE)
        return 0

    def _nvmlDeviceGetDeviceHandleFromMigDeviceHandle(self, _slice, handle):
        _point(handle, _PARENT)
        return 0

    def _nvmlDeviceGetName(self, _device, text, _size):
        text.value = b"NVIDIA H200"
        return 0

    def _nvmlDeviceGetUUID(self, _device, text, _size):
        text.value = f"GPU-{self.uuid}".encode()
        return 0

    def _nvmlDeviceGetPciInfo_v3(self, _device, info):
        info._obj.busId = b"00000000:1B:00.0"
        return 0

    def _nvmlDeviceGetNvLinkState(self, _device, _link, active):
        active._obj.value = 0
        return 0

    def _nvmlDeviceGetTopologyCommonAncestor(self, _one, _other, level):
        level._obj.value = 50
        return 0

    def _nvmlDeviceGetMaxPcieLinkGeneration(self, _device, found):
        found._obj.value = 5
        return 0

    def _nvmlDeviceGetMaxPcieLinkWidth(self, _device, found):
        found._obj.value = 16
        return 0

    def _nvmlDeviceGetPowerUsage(self, _device, milliwatt):
        if "lost" in self.faults and next(self._readings) >= _READINGS_UNTIL_LOST:
            return LOST
        milliwatt._obj.value = 698_500
        return 0

    def _nvmlDeviceGetClockInfo(self, _device, kind, megahertz):
        sm = THROTTLED_MHZ if "throttled" in self.faults else SM_CLOCK_MHZ
        megahertz._obj.value = sm if kind.value == pynvml.NVML_CLOCK_SM else 3201
        return 0

    def _nvmlDeviceGetMaxClockInfo(self, _device, _kind, megahertz):
        megahertz._obj.value = 1980
        return 0

    def _nvmlDeviceGetTemperature(self, _device, _sensor, celsius):
        celsius._obj.value = 61
        return 0

    def _nvmlDeviceGetUtilizationRates(self, _device, rates):
        rates._obj.gpu, rates._obj.memory = 97, 43
        return 0

    def _nvmlDeviceGetCurrentClocksThrottleReasons(self, _device, mask):
        mask._obj.value = 0x4 if "throttled" in self.faults else 0
        return 0

    def _nvmlDeviceGetMemoryInfo(self, _device, info):
        info._obj.total, info._obj.used = H200["total_memory"], 65_000_000_000
        info._obj.free = info._obj.total - info._obj.used
        return 0

    def _nvmlDeviceGetPcieThroughput(self, _device, counter, kilobyte):
        kilobyte._obj.value = 3400 if counter.value else 1200
        return 0

    def _nvmlDeviceGetTotalEnergyConsumption(self, _device, millijoule):
        millijoule._obj.value = next(self._energy_mj)
        return 0

    def _nvmlGpmQueryDeviceSupport(self, _device, support):
        support._obj.isSupportedDevice = int("ampere" not in self.faults)
        return 0

    def _nvmlGpmSampleAlloc(self, sample):
        _point(sample, 1)
        return 0

    def _nvmlGpmSampleFree(self, _sample):
        return 0

    def _nvmlGpmSampleGet(self, _device, _sample):
        return DENIED if "denied" in self.faults else 0

    def _nvmlGpmMetricsGet(self, asked):
        for metric in asked._obj.metrics[: asked._obj.numMetrics]:
            metric.nvmlReturn, metric.value = 0, 42.0
        return 0


_OF_A_SLICE = frozenset({
    "nvmlDeviceGetDeviceHandleFromMigDeviceHandle", "nvmlDeviceGetMemoryInfo", "nvmlDeviceGetName",
    "nvmlDeviceGetUUID", "nvmlErrorString", "nvmlInitWithFlags", "nvmlDeviceGetHandleByUUID", "nvmlDeviceGetCount_v2",
    "nvmlSystemGetDriverVersion", "nvmlDeviceGetHandleByIndex_v2",
})  # fmt: skip
"""What a slice answers itself; for all else NVML wants the GPU that it is a part of."""


def _point(reference: Any, address: int) -> None:
    """Handles of NVML are pointers; the played ones lead nowhere."""
    held = type(reference._obj)
    ctypes.memmove(ctypes.byref(reference._obj), ctypes.byref(ctypes.c_void_p(address)), ctypes.sizeof(held))


def _address(handle: Any) -> int | None:
    try:
        return ctypes.cast(handle, ctypes.c_void_p).value
    except ctypes.ArgumentError:  # no handle
        return None


def played_nvml(monkeypatch: Any, *faults: str, **options: Any) -> Library:
    """The binding speaks to a played library from here on."""
    library = Library(*faults, **options)
    monkeypatch.setattr(pynvml, "nvmlLib", library)
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
    return library
