"""At which clock does a GPU run at present? Products are as fast as it, and under a power limit it falls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pynvml
import torch

from hwprof.measure.telemetry.readers import gpu_readers

SM_CLOCK = "gpu.sm_clock"


def clock_of(device: torch.device, *, nvml: Any = pynvml) -> Callable[[], float | None]:
    """Reads the clock of a GPU's multiprocessors in Hz; None of a CPU, and where the driver does not tell."""
    if device.type == "cpu":
        return lambda: None
    readers, _ = gpu_readers(nvml, device.index or 0, device.type)
    reader = next((one for one in readers if SM_CLOCK in one.quantities), None)
    if reader is None:
        return lambda: None

    def read() -> float | None:
        try:
            return reader.read()[reader.quantities.index(SM_CLOCK)]
        except Exception:  # noqa: BLE001 (a clock that is not told costs no probe)
            return None

    return read
