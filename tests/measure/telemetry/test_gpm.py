"""Do GPM's counters come in base units, as means since the last reading, and say why where they don't come?"""

import ctypes
import gc
import itertools
import sys
from types import SimpleNamespace

import pynvml
import pytest

from hwprof.measure.telemetry import gpm
from hwprof.measure.telemetry.gpm import FRACTIONS, RATES, Gpm, open_gpm
from hwprof.measure.telemetry.readers import gpu_readers

PERCENT = {"gpu.dram_bandwidth": 62.5, "gpu.tensor_active": 40.0, "gpu.sm_occupancy": 25.0}


def _address(sample):
    return ctypes.cast(sample, ctypes.c_void_p).value


class Hopper:
    """A GPM that counts: the n-th interval between samples shows n times the values of ``PERCENT``.

    The binding's own structures, constants and errors are the real ones.
    """

    NVMLError = pynvml.NVMLError
    NVML_SUCCESS = pynvml.NVML_SUCCESS
    NVML_GPM_METRICS_GET_VERSION = pynvml.NVML_GPM_METRICS_GET_VERSION
    c_nvmlGpmMetricsGet_t = pynvml.c_nvmlGpmMetricsGet_t  # noqa: N815 (the binding's name)

    def __init__(self, *, supported=True, refused=None, without=()):
        self.supported, self.refused, self.without = supported, refused, without
        self.taken = itertools.count()
        self.addresses = itertools.count(0x1000, 0x1000)
        self.when = {}
        self.freed = []

    def __getattr__(self, name):
        if name.startswith("NVML_GPM_METRIC_"):
            return getattr(pynvml, name)
        raise AttributeError(name)

    def nvmlGpmQueryDeviceSupport(self, _handle):  # noqa: N802
        return SimpleNamespace(isSupportedDevice=int(self.supported))

    def nvmlGpmSampleAlloc(self):  # noqa: N802
        return ctypes.cast(next(self.addresses), pynvml.c_nvmlGpmSample_t)

    def nvmlGpmSampleFree(self, sample):  # noqa: N802
        self.freed.append(sample)

    def nvmlGpmSampleGet(self, _handle, sample):  # noqa: N802
        if self.refused:
            raise pynvml.NVMLError(self.refused)
        self.when[_address(sample)] = next(self.taken)

    def nvmlGpmMetricsGet(self, asked):  # noqa: N802
        assert asked.version == 1
        before, intervals = self.when[_address(asked.sample1)], self.when[_address(asked.sample2)]
        assert before < intervals == max(self.when.values())
        names = {getattr(pynvml, metric): quantity for quantity, metric in (FRACTIONS | RATES).items()}
        for place in range(asked.numMetrics):
            quantity = names[asked.metrics[place].metricId]
            lacking = quantity in self.without
            asked.metrics[place].nvmlReturn = pynvml.NVML_ERROR_NOT_SUPPORTED if lacking else pynvml.NVML_SUCCESS
            asked.metrics[place].value = PERCENT.get(quantity, 2.0) * intervals / 2


@pytest.fixture(autouse=True)
def _no_wait(monkeypatch):
    monkeypatch.setattr(gpm, "_FIRST_INTERVAL_S", 0.0)


def test_percent_become_fractions_and_each_reading_is_a_new_interval():
    read = Gpm(Hopper(), object(), FRACTIONS, factor=1e-2)
    first = dict(zip(read.quantities, read.read(), strict=True))
    assert first["gpu.dram_bandwidth"] == pytest.approx(0.625)
    assert first["gpu.tensor_active"] == pytest.approx(0.4)
    assert read.read()[0] == pytest.approx(0.625 * 1.5)


def test_traffic_comes_in_bytes_a_second():
    ((fractions, unit), (rates, rate_unit)), missing = open_gpm(Hopper(), object())
    assert (unit, rate_unit, missing) == ("fraction", "byte_per_s", ())
    assert len(fractions.quantities) == 7
    assert dict(zip(rates.quantities, rates.read(), strict=True))["gpu.nvlink_tx"] == 4 * 2**20  # at the fifth sample


def test_a_gpu_without_nvlink_says_so_and_gives_the_rest():
    groups, missing = open_gpm(Hopper(without=("gpu.nvlink_tx", "gpu.nvlink_rx")), object())
    assert {skip.name: skip.reason for skip in missing} == {
        "gpu.nvlink_tx": "NVML GPM: Not Supported",
        "gpu.nvlink_rx": "NVML GPM: Not Supported",
    }
    assert groups[1][0].quantities == ("gpu.gpm_pcie_tx", "gpu.gpm_pcie_rx")
    assert len(groups[1][0].read()) == 2


@pytest.mark.parametrize(
    ("nvml", "reason"),
    [
        (Hopper(supported=False), "Hopper (H100) and newer"),
        (Hopper(refused=pynvml.NVML_ERROR_NO_PERMISSION), "NVML GPM: Insufficient Permissions"),
    ],
)
def test_a_gpu_that_gives_none_says_why(nvml, reason):
    groups, (skip,) = open_gpm(nvml, object())
    assert groups == ()
    assert skip.name == "gpu.gpm"
    assert reason in skip.reason


def test_a_metric_that_stops_on_the_way_ends_its_reader_with_nvml_s_word():
    nvml = Hopper()
    read = Gpm(nvml, object(), FRACTIONS, factor=1e-2)
    nvml.without = ("gpu.sm_active",)
    with pytest.raises(pynvml.NVMLError, match="Not Supported"):
        read.read()


def test_samples_are_freed():
    nvml = Hopper()
    read = Gpm(nvml, object(), RATES, factor=1.0)
    del read
    gc.collect()
    assert len(nvml.freed) == 2


def test_samples_of_a_gpu_that_is_gone_are_let_go_in_silence(monkeypatch):
    class Gone(Hopper):
        def nvmlGpmSampleFree(self, _sample):  # noqa: N802
            raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)

    unheard = []
    monkeypatch.setattr(sys, "unraisablehook", unheard.append)
    read = Gpm(Gone(), object(), RATES, factor=1.0)
    del read
    gc.collect()
    assert unheard == []


def test_the_binding_has_every_metric():
    assert all(isinstance(getattr(pynvml, name), int) for name in (*FRACTIONS.values(), *RATES.values()))


def test_a_driver_before_gpm_costs_no_other_counter(monkeypatch):
    class Old(Hopper):
        def nvmlInit(self):  # noqa: N802
            pass

        def nvmlDeviceGetHandleByUUID(self, _uuid):  # noqa: N802
            return object()

        def nvmlGpmQueryDeviceSupport(self, _handle):  # noqa: N802
            raise pynvml.NVMLError(pynvml.NVML_ERROR_FUNCTION_NOT_FOUND)

    monkeypatch.setattr("torch.cuda.get_device_properties", lambda _index: SimpleNamespace(uuid="1"))
    readers, (skip,) = gpu_readers(Old(), 0)
    assert ("gpu.power",) in [reader.quantities for reader in readers]
    assert skip.reason == "NVML GPM: Function Not Found"
