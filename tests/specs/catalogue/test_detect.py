"""A device is known by exactly what torch, NVML or /proc/cpuinfo print, or not at all."""

import pytest

from hwprof.errors import SpecError
from hwprof.specs.catalogue.detect import detect_device
from hwprof.specs.catalogue.lookup import find_file


@pytest.mark.parametrize(
    ("name", "device"),
    [
        ("NVIDIA H100 80GB HBM3", "h100-sxm5-80gb"),
        ("NVIDIA H100 PCIe", "h100-pcie-80gb"),
        ("NVIDIA H100 NVL", "h100-nvl-94gb"),
        ("NVIDIA H200", "h200-sxm5-141gb"),
        ("NVIDIA H200 NVL", "h200-nvl-141gb"),
        ("NVIDIA A100-SXM4-80GB", "a100-sxm4-80gb"),
        ("NVIDIA A100 80GB PCIe", "a100-pcie-80gb"),
        ("NVIDIA A10", "a10"),
        ("NVIDIA A10G", "a10g"),
        ("NVIDIA L4", "l4"),
        ("NVIDIA L40S", "l40s"),
        ("Tesla V100-SXM2-16GB", "v100-sxm2-16gb"),
        ("NVIDIA GeForce RTX 4090", "rtx-4090"),
        ("NVIDIA GH200 480GB", "gh200-96gb"),
        ("AMD Instinct MI300X", "mi300x"),
    ],
)
def test_a_gpu_is_known_by_its_exact_name(name, device):
    found = detect_device(name, kind="cuda")
    assert found is not None
    assert found.id == device


@pytest.mark.parametrize(
    "name", ["NVIDIA H100", "nvidia h200", "NVIDIA L40", "NVIDIA A100", "NVIDIA H999", "", "NVIDIA H100 80GB HBM3 MIG"]
)
def test_a_near_name_is_not_taken_for_a_known_gpu(name):
    assert detect_device(name, kind="cuda") is None


@pytest.mark.parametrize(
    ("name", "device"),
    [
        ("AMD EPYC 7763 64-Core Processor", "cpu-epyc-7763"),
        ("AMD EPYC 9654 96-Core Processor", "cpu-epyc-9654"),
        ("Intel(R) Xeon(R) Platinum 8480+", "cpu-xeon-8480plus"),
    ],
)
def test_a_cpu_is_known_by_its_model_name(name, device):
    found = detect_device(name, kind="cpu")
    assert found is not None
    assert found.id == device


@pytest.mark.parametrize("name", ["AMD EPYC", "AMD EPYC Processor", "AMD EPYC 77631", "Intel(R) Xeon(R) Processor", ""])
def test_a_virtual_cpu_without_a_model_number_is_unknown(name):
    assert detect_device(name, kind="cpu") is None


def test_gpu_names_are_not_cpu_names():
    assert detect_device("NVIDIA H200", kind="cpu") is None
    assert detect_device("AMD EPYC 7763 64-Core Processor", kind="cuda") is None


def test_two_specs_that_claim_one_name_are_an_error(tmp_path, monkeypatch):
    path = find_file("device", "h200")
    assert path is not None
    text = path.read_text().replace('"h200-sxm5-141gb"', '"mine"').replace('["h200", "h200-sxm"]', "[]")
    (tmp_path / "mine.toml").write_text(text)
    monkeypatch.setenv("HWPROF_PATH", str(tmp_path))
    with pytest.raises(SpecError, match="'NVIDIA H200' is claimed by h200-sxm5-141gb and by mine"):
        detect_device("NVIDIA H200", kind="cuda")
