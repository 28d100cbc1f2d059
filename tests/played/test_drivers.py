"""What is said of GPUs whose driver is missing, partial, hidden or dying? NVML and torch's answers are played."""

import dataclasses

import psutil
import pynvml
import pytest
import torch
from played.device import Gpus
from played.nvml import THROTTLED_MHZ, played_nvml
from played.ranks import torch_has_all

from hwprof.errors import InputError
from hwprof.measure.doctor.checks import CHECKS
from hwprof.measure.doctor.machine import Machine
from hwprof.measure.host import environment as host
from hwprof.measure.host import memory
from hwprof.measure.host.accelerator import peaks
from hwprof.measure.host.caches import cpu_caches
from hwprof.measure.host.contention import waited_s
from hwprof.measure.host.environment import environment, resolve_device
from hwprof.measure.host.identity import identify
from hwprof.measure.host.memory import available_memory_bytes
from hwprof.measure.host.numa import near
from hwprof.measure.links.topology import topology
from hwprof.measure.telemetry.readers import gpu_readers, host_readers
from hwprof.measure.telemetry.sampler import Telemetry
from hwprof.measure.their_loop.world import matmul_precision
from hwprof.measure.world import _device_of
from hwprof.session.fitting import fitted, shortage
from hwprof.specs.catalogue.lookup import load_model
from hwprof.specs.record.run import RunSettings
from hwprof.train.precision import kept_matmul_precision, set_matmul_precision

CUDA = torch.device("cuda", 0)


@pytest.fixture
def gpus(monkeypatch):
    gpus = Gpus()
    with gpus.installed(monkeypatch):
        yield gpus


def _read_once(*faults, patch, samples=1):
    played_nvml(patch, *faults)
    telemetry = Telemetry(0)
    for tick in range(samples):
        telemetry._sample(tick)
    values = {one.name: one.values for one in telemetry.series if one.name.startswith("gpu.")}
    return values, {skip.name: skip.reason for skip in telemetry.skipped}


def test_an_h200_gives_every_counter(gpus, monkeypatch):
    values, skipped = _read_once(patch=monkeypatch)
    assert gpus.count == 1
    assert values["gpu.sm_clock"] == (1755e6,)
    assert values["gpu.power"] == (698.5,)
    assert values["gpu.tensor_active"] == pytest.approx((0.42,))
    assert values["gpu.pcie_rx"] == (3.4e6,)
    assert skipped == {}


@pytest.mark.usefixtures("gpus")
def test_a_throttled_gpu_says_by_what_and_at_which_clock(monkeypatch):
    values, _ = _read_once("throttled", patch=monkeypatch)
    assert values["gpu.sm_clock"] == (THROTTLED_MHZ * 1e6,)
    assert values["gpu.throttle.power_cap"] == (1.0,)
    assert values["gpu.throttle.thermal_hardware"] == (0.0,)


@pytest.mark.usefixtures("gpus")
@pytest.mark.parametrize(
    ("fault", "name", "reason"),
    [
        ("nodriver", "gpu", "NVML: Driver Not Loaded"),
        ("ampere", "gpu.gpm", "the GPU has no GPM counters; Hopper (H100) and newer do"),
        ("denied", "gpu.gpm", "NVML GPM: Insufficient Permissions"),
        ("mig", "gpu.slice", "the process has a slice of a GPU (MIG); power, clocks"),
    ],
)
def test_what_a_driver_does_not_give_has_its_reason(monkeypatch, fault, name, reason):
    values, skipped = _read_once(fault, patch=monkeypatch)
    assert skipped[name].startswith(reason)
    assert ("gpu.power" in values) == (fault != "nodriver")


@pytest.mark.usefixtures("gpus")
def test_a_gpu_that_falls_off_the_bus_keeps_what_was_read(monkeypatch):
    values, skipped = _read_once("lost", patch=monkeypatch, samples=8)
    assert len(values["gpu.power"]) == 6
    assert skipped["gpu.power"] == "stopped after 6 samples: GPU is lost"
    assert len(values["gpu.temperature"]) == 8


@pytest.mark.usefixtures("gpus")
@pytest.mark.parametrize("broken", ["nvmlInit", "nvmlDeviceGetHandleByUUID", "nvmlGpmQueryDeviceSupport"])
def test_a_binding_that_breaks_in_an_unforeseen_way_costs_no_other_counter(monkeypatch, broken):
    played_nvml(monkeypatch)

    def unforeseen(*_given):
        raise OSError("undefined symbol: nvmlGpmQueryDeviceSupport")

    monkeypatch.setattr(pynvml, broken, unforeseen)
    readers, skipped = gpu_readers(pynvml, 0)
    assert "undefined symbol" in skipped[0].reason
    assert bool(readers) == (broken == "nvmlGpmQueryDeviceSupport")
    assert topology(CUDA, "host")[1] is None or broken == "nvmlInit"


def _broken(*_given, **_named):
    raise PermissionError("not for you")


@pytest.mark.parametrize("name", ["virtual_memory", "cpu_count"])
def test_a_reader_of_the_host_that_fails_says_so_in_its_line_alone(monkeypatch, name):
    whole = environment(torch.device("cpu"))
    monkeypatch.setattr(psutil, name, _broken)
    found = environment(torch.device("cpu"))
    changed = {key for key in whole if whole[key] != found[key]}
    assert changed <= {"memory.total", "cpu.cores_physical", "cpu.cores_logical"}
    assert changed
    assert {found[key] for key in changed} == {"unknown: not for you"}


@pytest.mark.usefixtures("gpus")
@pytest.mark.parametrize(
    ("where", "keys"),
    [
        ("torch.cuda.get_device_properties", 4),
        ("torch.backends.cudnn.version", 1),
        ("pynvml.nvmlSystemGetDriverVersion", 1),
        ("torch.cuda.device_count", 1),
        ("torch.cuda.get_device_name", 1),
    ],
)
def test_a_reader_of_the_device_that_fails_costs_its_own_lines_alone(monkeypatch, where, keys):
    played_nvml(monkeypatch)
    monkeypatch.setattr(where, _broken)
    found = environment(CUDA)
    assert sum(text == "unknown: not for you" for text in found.values()) == keys
    assert {"driver", "device.memory_total", "device.index", "torch.version"} <= set(found)


@pytest.mark.usefixtures("gpus")
def test_memory_that_a_driver_does_not_tell_is_all_of_the_devices_or_unknown(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", _broken)
    told = identify(CUDA)[0]
    assert told.memory_bytes == 150_754_820_096
    assert told.memory_source == "all of the device's memory; what is free is not told (not for you)"
    settings = RunSettings(model="tiny", device="cuda", micro_batch=1, seq_len=16)
    silent = told.changed(memory_bytes=None, memory_source="unknown: not for you")
    assert fitted(load_model("tiny"), settings, silent, chosen=False) == settings
    said = shortage(load_model("tiny"), settings, silent, RuntimeError("CUDA out of memory"))
    assert "how much NVIDIA H200 had free is unknown: not for you; try" in said
    monkeypatch.setattr(torch.cuda, "get_device_properties", _broken)
    assert available_memory_bytes(CUDA) == (None, "unknown: not for you")


@pytest.mark.parametrize(
    ("name", "lost"),
    [
        ("max_memory_allocated", "allocated"),
        ("max_memory_reserved", "reserved"),
        ("mem_get_info", "outside"),
        ("memory_reserved", "outside"),
    ],
)
@pytest.mark.usefixtures("gpus")
def test_a_sum_of_memory_that_is_not_told_costs_no_other(monkeypatch, name, lost):
    def refused(*_given):
        raise RuntimeError("the device doesn't support querying its memory")

    whole = dataclasses.asdict(peaks(CUDA))
    monkeypatch.setattr(torch.cuda, name, refused)
    found = dataclasses.asdict(peaks(CUDA))
    assert None not in whole.values()
    assert found == whole | {lost: None}


def test_sandboxes_whose_files_say_something_else_cost_no_more_than_what_they_tell(tmp_path, monkeypatch):
    task = tmp_path / "task" / "1" / "schedstat"
    task.parent.mkdir(parents=True)
    task.write_text("\n")
    assert waited_s(tmp_path / "task") is None
    level = tmp_path / "cpu0" / "cache" / "index0"
    level.mkdir(parents=True)
    (level / "type").write_text("Data")  # and nothing of its size
    assert cpu_caches(tmp_path, frozenset({0})) == ()
    monkeypatch.setattr(memory, "memory_limit", _broken)
    monkeypatch.setattr(psutil, "Process", _broken)
    assert available_memory_bytes(torch.device("cpu"))[1].startswith("available on the host")


@pytest.mark.usefixtures("gpus")
def test_a_thread_that_may_not_move_copies_from_where_it_is(tmp_path, monkeypatch):
    folder = tmp_path / "0000:1b:00.0"
    folder.mkdir()
    (folder / "local_cpulist").write_text("0-255")
    monkeypatch.setattr("os.sched_setaffinity", _broken)
    with near(CUDA, tmp_path) as where:
        assert where == "unknown: this thread can't be put near the GPU (not for you)"
    monkeypatch.setattr(torch.cuda, "get_device_properties", _broken)
    with near(CUDA, tmp_path) as where:
        assert where.startswith("unknown: the operating system does not tell")


def test_counters_of_a_host_that_shows_none_are_missing_and_no_more(monkeypatch):
    monkeypatch.setattr(psutil, "cpu_percent", _broken)
    assert "process.rss" in {quantity for reader in host_readers() for quantity in reader.quantities}


@pytest.mark.parametrize(("name", "seen"), [("tf32", "tf32"), ("ieee", "fp32")])
def test_precision_set_the_way_that_torch_recommends_is_read_and_comes_back(name, seen):
    before = torch.backends.cuda.matmul.fp32_precision
    try:
        torch.backends.cuda.matmul.fp32_precision = name
        assert matmul_precision("fp32", CUDA) == seen
        with kept_matmul_precision():
            set_matmul_precision("highest")
            assert matmul_precision("fp32", CUDA) == "fp32"
        assert torch.backends.cuda.matmul.fp32_precision == name
    finally:
        torch.backends.cuda.matmul.fp32_precision = before
        torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize(("count", "rank", "index"), [(1, 3, 0), (4, 3, 3)])
def test_each_rank_takes_the_device_of_its_number_or_the_only_one_that_it_sees(monkeypatch, count, rank, index):
    torch_has_all(monkeypatch)
    with Gpus(count).installed(monkeypatch):
        assert _device_of("cuda", rank) == torch.device("cuda", index)


def test_a_rank_beyond_the_visible_devices_is_refused(monkeypatch):
    torch_has_all(monkeypatch)
    with Gpus(2).installed(monkeypatch), pytest.raises(InputError, match="there is no device cuda:3"):
        _device_of("cuda", 3)


def _checks(root, **files):
    for path in files.values():
        place = root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()
    machine = Machine(root=root, environ={})
    return {found.name: found for check in CHECKS for found in check(machine)}


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("usr/lib/wsl/lib/libnvidia-ml.so.1", "a driver, but torch is built without CUDA"),
        ("dev/nvidiactl", "a driver, but torch is built without CUDA"),
        ("dev/kfd", "a driver, but torch is built without ROCm"),
    ],
)
def test_a_driver_is_seen_wherever_a_platform_puts_it(tmp_path, monkeypatch, path, says):
    monkeypatch.setattr(torch.version, "cuda", None)
    found = _checks(tmp_path, driver=path)["GPU"]
    assert (found.status, found.found) == ("missing", says)


def test_nvml_under_wsl_is_a_matter_of_a_path(tmp_path):
    found = _checks(tmp_path, driver="usr/lib/wsl/lib/libnvidia-ml.so.1")["NVML"]
    assert found.status == "missing"
    assert found.remedy == "export LD_LIBRARY_PATH=/usr/lib/wsl/lib:$LD_LIBRARY_PATH"


def test_doctor_names_accelerators_beside_cudas(tmp_path, monkeypatch):
    with Gpus(2, kind="xpu", name="Intel(R) Arc(TM) B580").installed(monkeypatch):
        found = _checks(tmp_path)["Intel GPU (xpu)"]
    assert (found.status, found.found) == ("ok", "2 visible: Intel(R) Arc(TM) B580")


def test_torch_for_rocm_is_named_as_such_where_it_sees_no_device(monkeypatch):
    monkeypatch.setattr(torch.version, "hip", "6.4.1")
    monkeypatch.setenv("HIP_VISIBLE_DEVICES", "7")
    with pytest.raises(InputError, match=r"built for ROCm 6\.4\.1, .* or HIP_VISIBLE_DEVICES='7' hides it"):
        resolve_device("cuda")
    assert host.environment(torch.device("cpu"))["torch.hip"] == "6.4.1"


def test_counters_of_a_gpu_of_amd_come_through_torch_in_base_units(monkeypatch):
    answers = {"power_draw": 612, "clock_rate": 2100, "temperature": 55, "utilization": 97, "memory_usage": 40}
    with Gpus(name="AMD Instinct MI300X").installed(monkeypatch):
        monkeypatch.setattr(torch.version, "hip", "6.4.1")
        for name, value in answers.items():
            monkeypatch.setattr(torch.cuda, name, lambda _index, value=value: value)
        monkeypatch.setattr(torch.cuda, "device_memory_used", _broken)
        values, skipped = _read_once(patch=monkeypatch)
    assert values == {
        "gpu.power": (612.0,),
        "gpu.sm_clock": (2100e6,),
        "gpu.temperature": (55.0,),
        "gpu.utilization": (0.97,),
        "gpu.memory_utilization": (0.4,),
    }
    assert skipped == {"gpu.memory_used": "not for you"}
