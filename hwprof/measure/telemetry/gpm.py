"""How busy are the parts of a GPU? NVML's GPM counters of Hopper and newer, which need no profiler and no rights.

A value is the mean between two samples (nvml.h, "GPM Functions"); percentages become fractions, MiB/s bytes a second.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from hwprof.errors import first_line
from hwprof.specs.measurement import Skipped

FRACTIONS = {
    "gpu.dram_bandwidth": "NVML_GPM_METRIC_DRAM_BW_UTIL",
    "gpu.tensor_active": "NVML_GPM_METRIC_ANY_TENSOR_UTIL",
    "gpu.sm_active": "NVML_GPM_METRIC_SM_UTIL",
    "gpu.sm_occupancy": "NVML_GPM_METRIC_SM_OCCUPANCY",
    "gpu.fp16_active": "NVML_GPM_METRIC_FP16_UTIL",
    "gpu.fp32_active": "NVML_GPM_METRIC_FP32_UTIL",
    "gpu.fp64_active": "NVML_GPM_METRIC_FP64_UTIL",
}
"""Quantity -> NVML's metric: of the peak bandwidth, of time (fp16 to fp64 without the tensor cores), of warps."""

RATES = {
    "gpu.nvlink_tx": "NVML_GPM_METRIC_NVLINK_TOTAL_TX_PER_SEC",
    "gpu.nvlink_rx": "NVML_GPM_METRIC_NVLINK_TOTAL_RX_PER_SEC",
    "gpu.gpm_pcie_tx": "NVML_GPM_METRIC_PCIE_TX_PER_SEC",
    "gpu.gpm_pcie_rx": "NVML_GPM_METRIC_PCIE_RX_PER_SEC",
}
"""Quantity -> NVML's metric, in MiB/s; what leaves the GPU is ``tx``."""

NAME = "gpu.gpm"
_PERCENT, _MEBIBYTE = 1e-2, float(2**20)
_FIRST_INTERVAL_S = 0.1
"""Between the two samples that tell which metrics the GPU has."""


class Gpm:
    """Reads some metrics of one GPU, each as the mean since the last reading.

    Args:
        nvml: the NVML binding.
        handle: NVML's handle of the device.
        metrics: quantity -> name of NVML's metric.
        factor: from NVML's unit to the base unit.

    Attributes:
        quantities: those that the GPU has.
        missing: the others, and why.

    Raises:
        NVMLError: the GPU takes no samples for this user.
    """

    def __init__(self, nvml: Any, handle: Any, metrics: dict[str, str], *, factor: float) -> None:
        self._nvml, self._handle, self._factor = nvml, handle, factor
        self._metrics = {quantity: int(getattr(nvml, name)) for quantity, name in metrics.items()}
        self._samples = [nvml.nvmlGpmSampleAlloc(), nvml.nvmlGpmSampleAlloc()]
        weakref.finalize(self, _free, nvml, tuple(self._samples))
        nvml.nvmlGpmSampleGet(handle, self._samples[0])
        time.sleep(_FIRST_INTERVAL_S)
        found = self._next()
        self.quantities = tuple(quantity for quantity, (code, _) in found.items() if code == nvml.NVML_SUCCESS)
        self.missing = tuple(
            Skipped(name=quantity, reason=f"NVML GPM: {nvml.NVMLError(code)}")
            for quantity, (code, _) in found.items()
            if code != nvml.NVML_SUCCESS
        )

    def read(self) -> Sequence[float]:
        """One value for each of ``quantities``.

        Raises:
            NVMLError: the GPU gives none any more.
        """
        found = self._next()
        for quantity in self.quantities:
            if found[quantity][0] != self._nvml.NVML_SUCCESS:
                raise self._nvml.NVMLError(found[quantity][0])
        return tuple(found[quantity][1] for quantity in self.quantities)

    def _next(self) -> dict[str, tuple[int, float]]:
        """NVML's code and the value of each metric between the last sample and one taken now."""
        nvml = self._nvml
        before, now = self._samples
        nvml.nvmlGpmSampleGet(self._handle, now)
        asked = nvml.c_nvmlGpmMetricsGet_t()
        asked.version = nvml.NVML_GPM_METRICS_GET_VERSION
        asked.numMetrics = len(self._metrics)
        asked.sample1, asked.sample2 = before, now
        for place, metric in enumerate(self._metrics.values()):
            asked.metrics[place].metricId = metric
        nvml.nvmlGpmMetricsGet(asked)
        self._samples.reverse()
        return {
            quantity: (int(asked.metrics[place].nvmlReturn), asked.metrics[place].value * self._factor)
            for place, quantity in enumerate(self._metrics)
        }


def open_gpm(nvml: Any, handle: Any) -> tuple[tuple[tuple[Gpm, str], ...], tuple[Skipped, ...]]:
    """GPM's counters with the unit of each group, and what this GPU does not give, and why."""
    try:
        if not nvml.nvmlGpmQueryDeviceSupport(handle).isSupportedDevice:
            return (), (Skipped(name=NAME, reason="the GPU has no GPM counters; Hopper (H100) and newer do"),)
        groups = (
            (Gpm(nvml, handle, FRACTIONS, factor=_PERCENT), "fraction"),
            (Gpm(nvml, handle, RATES, factor=_MEBIBYTE), "byte_per_s"),
        )
    except Exception as error:  # noqa: BLE001 (an old binding lacks names, a driver calls; the text is the reason)
        remedy = "hwprof doctor says who may read a GPU's counters; with MIG they belong to an instance"
        return (), (Skipped(name=NAME, reason=f"NVML GPM: {first_line(error)}", remedy=remedy),)
    missing = tuple(skip for gpm, _ in groups for skip in gpm.missing)
    return tuple((gpm, unit) for gpm, unit in groups if gpm.quantities), missing


def _free(nvml: Any, samples: Sequence[Any]) -> None:
    with suppress(nvml.NVMLError):  # a GPU that fell off the bus, or a driver that was unloaded meanwhile
        for sample in samples:
            nvml.nvmlGpmSampleFree(sample)
