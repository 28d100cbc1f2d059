import hashlib
from types import SimpleNamespace

import pytest
import torch

from hwprof.errors import InputError
from hwprof.measure.host import environment as module
from hwprof.measure.host.environment import device_name, environment, resolve_device

CPU = torch.device("cpu")


@pytest.fixture
def two_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.usefixtures("no_gpu")
def test_the_cpu_is_always_there():
    assert resolve_device("cpu") == CPU
    assert resolve_device(" CPU ") == CPU


@pytest.mark.usefixtures("two_gpus")
def test_auto_takes_the_first_gpu_where_there_is_one():
    assert resolve_device("auto") == torch.device("cuda", 0)


@pytest.mark.usefixtures("no_gpu")
def test_auto_takes_the_cpu_where_there_is_no_gpu():
    assert resolve_device("auto") == CPU


@pytest.mark.usefixtures("two_gpus")
def test_a_gpu_is_named_by_its_number_and_the_first_by_default():
    assert resolve_device("cuda") == torch.device("cuda", 0)
    assert resolve_device("cuda:1") == torch.device("cuda", 1)


@pytest.mark.parametrize("text", ["quantum", "", "cuda:", "cuda:one", "cuda:-1", "cpu:0", "auto:1", "mtia"])
@pytest.mark.usefixtures("two_gpus")
def test_what_is_no_device_gets_the_list_of_what_is(text):
    with pytest.raises(InputError, match="expected auto, cpu, cuda, xpu, mps or npu"):
        resolve_device(text)


@pytest.mark.usefixtures("two_gpus")
def test_a_gpu_beyond_the_last_names_those_that_are_visible():
    with pytest.raises(InputError, match=r"no device cuda:2; 2 CUDA devices are visible, cuda:0 to cuda:1"):
        resolve_device("cuda:2")


@pytest.mark.usefixtures("no_gpu")
def test_a_torch_without_cuda_is_the_reason_why_there_is_no_gpu(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(
        InputError,
        match=r"no CUDA device is visible; torch \S+ is built without CUDA and without ROCm; use",
    ):
        resolve_device("cuda")


@pytest.mark.usefixtures("no_gpu")
def test_a_missing_driver_is_the_reason_where_torch_has_cuda(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(InputError, match=r"built for CUDA 12\.8, but the driver shows no device, or CUDA_VISIBLE_DEV"):
        resolve_device("cuda")


def test_a_gpu_s_name_is_torch_s_own(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _device: "NVIDIA H100 80GB HBM3")
    assert device_name(torch.device("cuda", 0)) == "NVIDIA H100 80GB HBM3"


def test_a_cpu_s_name_is_the_operating_system_s(monkeypatch, tmp_path):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nmodel name\t: AMD EPYC 9654 96-Core Processor\n\nprocessor\t: 1\n")
    monkeypatch.setattr(module, "_CPUINFO", cpuinfo)
    assert device_name(CPU) == "AMD EPYC 9654 96-Core Processor"


def test_a_cpu_without_cpuinfo_still_has_a_name(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "_CPUINFO", tmp_path / "missing")
    monkeypatch.setattr(module.platform, "processor", lambda: "")
    monkeypatch.setattr(module.platform, "machine", lambda: "arm64")
    assert device_name(CPU) == "arm64"


def test_the_environment_is_flat_text_and_leaves_nothing_empty(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.setenv("SECRET_TOKEN", hashlib.sha256().hexdigest())
    found = environment(CPU)
    assert all(isinstance(value, str) and value for key, value in found.items() if not key.startswith("env."))
    assert {
        "hwprof.version",
        "python.version",
        "torch.version",
        "torch.threads",
        "os",
        "cpu.model",
        "cpu.cores_physical",
        "cpu.cores_logical",
        "cpu.caches",
        "cpu.flags_of_interest",
        "memory.total",
        "numa.nodes",
        "container.memory_limit",
        "container.cpu_limit",
    } <= found.keys()
    assert found["env.OMP_NUM_THREADS"] == "2"
    assert not any("SECRET" in key for key in found)


def test_a_gpu_s_environment_names_driver_and_capability(monkeypatch):
    properties = SimpleNamespace(major=9, minor=0, total_memory=85_000_000_000, multi_processor_count=132)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _device: properties)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _device: "NVIDIA H100 80GB HBM3")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    monkeypatch.setattr(module.pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(module.pynvml, "nvmlSystemGetDriverVersion", lambda: "570.124.06")
    found = environment(torch.device("cuda", 0))
    assert (found["driver"], found["device.compute_capability"]) == ("570.124.06", "9.0")
    assert (found["device"], found["device.memory_total"]) == ("NVIDIA H100 80GB HBM3", "85 GB")


def test_a_driver_version_that_cannot_be_read_says_why(monkeypatch):
    def fail():
        raise module.pynvml.NVMLError(module.pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(module.pynvml, "nvmlInit", fail)
    assert module._told(module._driver_version) == "unknown: NVML Shared Library Not Found"
