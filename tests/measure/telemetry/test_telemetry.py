import itertools
import threading
import time
from types import SimpleNamespace

import psutil
import pytest
import torch

from hwprof.measure.telemetry import readers
from hwprof.measure.telemetry import sampler as telemetry
from hwprof.measure.telemetry.readers import Reader, gpu_readers, host_readers
from hwprof.measure.telemetry.sampler import Telemetry
from hwprof.specs.measurement import Skipped


class NvmlError(Exception):
    """Stands for pynvml.NVMLError."""


REASONS = {
    "nvmlClocksThrottleReasonSwPowerCap": 0x4,
    "nvmlClocksThrottleReasonHwSlowdown": 0x8,
    "nvmlClocksThrottleReasonSwThermalSlowdown": 0x20,
    "nvmlClocksThrottleReasonHwThermalSlowdown": 0x40,
    "nvmlClocksThrottleReasonHwPowerBrakeSlowdown": 0x80,
}
"""As nvml.h defines them."""


class FakeNvml:
    """An NVML that answers as one H100 under load would; functions named in ``failures`` raise."""

    NVMLError = NvmlError
    NVML_CLOCK_SM, NVML_CLOCK_MEM = 1, 2
    NVML_TEMPERATURE_GPU = 0
    NVML_PCIE_UTIL_TX_BYTES, NVML_PCIE_UTIL_RX_BYTES = 0, 1
    gpm = False  # an A100; tests/measure/telemetry/test_gpm.py has a GPU with these counters

    def __init__(self, **failures):
        self.failures = failures
        self.energy_mj = itertools.count(5_000_000, 140_000)
        self.asked = []

    def __getattr__(self, name):
        if not name.startswith("nvml"):
            raise AttributeError(name)
        if name in REASONS:
            return REASONS[name]

        def call(*args):
            self.asked.append((name, *args))
            if name in self.failures:
                raise self.failures[name]
            return self.answer(name, args)

        return call

    def answer(self, name, args):
        return {
            "nvmlInit": lambda: None,
            "nvmlDeviceGetHandleByUUID": lambda: args,
            "nvmlDeviceGetPowerUsage": lambda: 698_500,
            "nvmlDeviceGetClockInfo": lambda: {1: 1755, 2: 2619}[args[-1]],
            "nvmlDeviceGetTemperature": lambda: 61,
            "nvmlDeviceGetUtilizationRates": lambda: SimpleNamespace(gpu=97, memory=43),
            "nvmlDeviceGetCurrentClocksThrottleReasons": lambda: 0x4,
            "nvmlDeviceGetMemoryInfo": lambda: SimpleNamespace(used=65_000_000_000),
            "nvmlDeviceGetPcieThroughput": lambda: {0: 1200, 1: 3400}[args[-1]],
            "nvmlGpmQueryDeviceSupport": lambda: SimpleNamespace(isSupportedDevice=self.gpm),
            "nvmlDeviceGetTotalEnergyConsumption": lambda: next(self.energy_mj),
        }[name]()


@pytest.fixture
def one_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _index: SimpleNamespace(uuid="1234-ab"))


@pytest.fixture
def no_host(monkeypatch):
    monkeypatch.setattr(telemetry, "host_readers", lambda: ())


def values_of(found):
    return {series.name: series.values for series in found.series}


def run(samples, *, nvml=None, device_index=None):
    """Telemetry that has sampled that often, without a clock."""
    found = Telemetry(device_index, nvml=nvml or FakeNvml())
    for tick in range(samples):
        found._sample(tick)
    return found


@pytest.mark.usefixtures("one_gpu", "no_host")
def test_gpu_counters_come_in_base_units():
    found = run(1, device_index=0)
    assert {name: values[0] for name, values in values_of(found).items()} == {
        "gpu.power": 698.5,
        "gpu.sm_clock": 1.755e9,
        "gpu.memory_clock": 2.619e9,
        "gpu.temperature": 61.0,
        "gpu.utilization": 0.97,
        "gpu.memory_utilization": 0.43,
        "gpu.throttle.power_cap": 1.0,
        "gpu.throttle.power_brake": 0.0,
        "gpu.throttle.thermal_software": 0.0,
        "gpu.throttle.thermal_hardware": 0.0,
        "gpu.throttle.hardware": 0.0,
        "gpu.memory_used": 65e9,
        "gpu.pcie_tx": 1.2e6,
        "gpu.pcie_rx": 3.4e6,
        "gpu.energy": 0.0,
    }
    units = {series.name: series.unit for series in found.series}
    assert (units["gpu.power"], units["gpu.sm_clock"], units["gpu.energy"]) == ("watt", "hertz", "joule")
    assert [skip.name for skip in found.skipped] == ["gpu.gpm"]


@pytest.mark.usefixtures("one_gpu", "no_host")
def test_energy_counts_from_the_first_reading():
    assert values_of(run(3, device_index=0))["gpu.energy"] == (0.0, 140.0, 280.0)


@pytest.mark.usefixtures("one_gpu", "no_host")
def test_costly_pcie_counters_are_read_at_every_fifth_sample_only():
    nvml = FakeNvml()
    found = run(11, nvml=nvml, device_index=0)
    assert len(values_of(found)["gpu.power"]) == 11
    assert len(values_of(found)["gpu.pcie_tx"]) == 3
    assert [call[0] for call in nvml.asked].count("nvmlDeviceGetPcieThroughput") == 6


@pytest.mark.usefixtures("one_gpu")
def test_the_gpu_is_found_by_its_uuid_since_indices_differ():
    nvml = FakeNvml()
    gpu_readers(nvml, 3)
    assert nvml.asked[:2] == [("nvmlInit",), ("nvmlDeviceGetHandleByUUID", "GPU-1234-ab")]


@pytest.mark.usefixtures("one_gpu", "no_host")
def test_without_nvml_the_library_s_own_text_is_the_reason():
    found = run(1, nvml=FakeNvml(nvmlInit=NvmlError("NVML Shared Library Not Found")), device_index=0)
    assert found.series == ()
    (skip,) = found.skipped
    assert (skip.name, skip.reason) == ("gpu", "NVML: NVML Shared Library Not Found")
    assert "--gpus" in skip.remedy


@pytest.mark.usefixtures("no_host")
def test_a_run_without_a_gpu_says_so():
    assert run(1).skipped == (Skipped(name="gpu", reason="the run uses no GPU"),)


@pytest.mark.usefixtures("one_gpu", "no_host")
def test_a_counter_that_the_gpu_lacks_names_its_reason_and_the_others_go_on():
    failures = {
        "nvmlDeviceGetPcieThroughput": NvmlError("Not Supported"),
        "nvmlDeviceGetPowerUsage": NvmlError("Insufficient Permissions"),
    }
    found = run(2, nvml=FakeNvml(**failures), device_index=0)
    assert {skip.name: skip.reason for skip in found.skipped if skip.name != "gpu.gpm"} == {
        "gpu.power": "Insufficient Permissions",
        "gpu.pcie_tx": "Not Supported",
        "gpu.pcie_rx": "Not Supported",
    }
    assert len(values_of(found)["gpu.temperature"]) == 2
    assert "gpu.power" not in values_of(found)


def test_a_reader_that_fails_on_the_way_keeps_its_samples_and_says_when_it_stopped(monkeypatch):
    script = iter([1.0, 2.0])

    def read():
        value = next(script, None)
        if value is None:
            raise NvmlError("GPU is lost")
        return (value,)

    broken = Reader(quantities=("gpu.power",), unit="watt", read=read)
    monkeypatch.setattr(telemetry, "host_readers", lambda: (broken,))
    found = run(4)
    assert values_of(found) == {"gpu.power": (1.0, 2.0)}
    assert found.skipped[-1] == Skipped(name="gpu.power", reason="stopped after 2 samples: GPU is lost")


def test_an_error_without_text_is_named_by_its_kind(monkeypatch):
    def read():
        raise PermissionError

    monkeypatch.setattr(telemetry, "host_readers", lambda: (Reader(quantities=("x",), unit="byte", read=read),))
    assert run(1).skipped[-1].reason == "PermissionError"


def test_the_thread_samples_until_the_context_ends_and_then_stops():
    with Telemetry(None, period_s=0.01) as found:
        deadline_s = time.perf_counter() + 5.0
        while len(values_of(found).get("process.rss", ())) < 3 and time.perf_counter() < deadline_s:
            time.sleep(0.01)
    assert not any(thread.name == "hwprof-telemetry" for thread in threading.enumerate())
    series = {one.name: one for one in found.series}
    assert len(series["process.rss"].values) >= 3
    times_s = series["process.rss"].times_s
    assert times_s[0] > 0
    assert list(times_s) == sorted(times_s)


def test_a_context_shorter_than_the_period_still_has_one_sample():
    with Telemetry(None, period_s=60.0) as found:
        pass
    assert len(values_of(found)["process.rss"]) == 1


def test_real_host_counters_have_possible_values():
    found = run(2)
    values = values_of(found)
    assert 0 < values["process.rss"][-1] < psutil.virtual_memory().total
    assert all(0 <= value <= 1 for name in values if name.endswith("utilization") for value in values[name])
    assert f"cpu.core{psutil.cpu_count() - 1}.utilization" in values
    missing = {skip.name for skip in found.skipped}
    assert values.get("disk.read", (0.0,))[0] == 0.0
    assert {"cpu.frequency", "disk.read"} <= values.keys() | missing


def test_a_host_without_frequency_or_disk_counters_says_so(monkeypatch):
    monkeypatch.setattr(readers.psutil, "cpu_freq", lambda: None)
    monkeypatch.setattr(readers.psutil, "disk_io_counters", lambda: None)
    assert {skip.name: skip.reason for skip in run(1).skipped if skip.name != "gpu"} == {
        "cpu.frequency": "the operating system reports no CPU frequency",
        "disk.read": "the operating system reports no disk counters",
        "disk.write": "the operating system reports no disk counters",
    }


def test_cpu_frequency_is_in_hertz(monkeypatch):
    monkeypatch.setattr(readers.psutil, "cpu_freq", lambda: SimpleNamespace(current=2596.0))
    (frequency,) = [reader for reader in host_readers() if reader.quantities == ("cpu.frequency",)]
    assert frequency.read() == (2.596e9,)
