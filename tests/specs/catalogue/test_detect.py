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
        ("NVIDIA GH200 120GB", "gh200-96gb-quad"),
        ("NVIDIA GH200 144G HBM3e", "gh200-144gb"),
        ("NVIDIA H20-3e", "h20-sxm5-141gb"),
        ("NVIDIA A100-SXM-64GB", "a100-sxm4-64gb"),
        ("NVIDIA A40", "a40"),
        ("NVIDIA L40", "l40"),
        ("NVIDIA RTX A6000", "rtx-a6000"),
        ("NVIDIA GeForce RTX 2080 Ti", "rtx-2080-ti"),
        ("NVIDIA GeForce RTX 4070 Ti SUPER", "rtx-4070-ti-super"),
        ("NVIDIA GeForce RTX 5080", "rtx-5080"),
        ("NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition", "rtx-pro-6000-blackwell-max-q"),
        ("Tesla P100-PCIE-16GB", "p100-pcie-16gb"),
        ("NVIDIA GB10", "gb10"),
        ("NVIDIA Thor", "jetson-thor"),
        ("AMD Instinct MI300X", "mi300x"),
        ("AMD Instinct MI300X VF", "mi300x"),
        ("AMD Radeon RX 7900 XTX", "rx-7900-xtx"),
    ],
)
def test_a_gpu_is_known_by_its_exact_name(name, device):
    found = detect_device(name, kind="cuda")
    assert found is not None
    assert found.id == device


@pytest.mark.parametrize(
    "name",
    [
        "NVIDIA H100",
        "nvidia h200",
        "NVIDIA A100",
        "NVIDIA H999",
        "",
        "NVIDIA H100 80GB HBM3 MIG",
        "NVIDIA GeForce RTX 4090 Laptop GPU",
        "NVIDIA RTX PRO 5000 Blackwell Generation Laptop GPU",
    ],
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


GIB = 2**30


@pytest.mark.parametrize(
    ("name", "units", "gib", "device"),
    [
        ("AMD Instinct MI250X / MI250", 110, 63.98, "mi250x"),
        ("AMD Instinct MI250X / MI250", 104, 63.98, "mi250"),
        ("NVIDIA GeForce RTX 3080", 68, 9.77, "rtx-3080"),
        ("NVIDIA GeForce RTX 3080", 70, 11.63, "rtx-3080-12gb"),
        ("NVIDIA GeForce RTX 4060 Ti", 34, 7.62, "rtx-4060-ti"),
        ("NVIDIA GeForce RTX 4060 Ti", 34, 15.99, "rtx-4060-ti-16gb"),  # Windows holds nothing back
        ("NVIDIA GeForce RTX 3060", 28, 11.76, "rtx-3060"),
        ("Orin", 16, 61.37, "jetson-agx-orin-64gb"),
        ("Orin", 8, 7.44, "jetson-orin-nano-8gb"),
        ("Orin", 8, 15.29, "jetson-orin-nx-16gb"),
    ],
)
def test_devices_of_one_name_are_told_apart_by_units_and_memory(name, units, gib, device):
    found = detect_device(name, kind="cuda", units=units, capacity_bytes=gib * GIB)
    assert found is not None
    assert found.id == device


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("NVIDIA GeForce RTX 4060 Ti", {}),
        ("NVIDIA GeForce RTX 4060 Ti", {"units": 34}),
        ("NVIDIA GeForce RTX 4060 Ti", {"capacity_bytes": 11 * GIB}),
        ("AMD Instinct MI250X/MI250", {"capacity_bytes": 64 * GIB}),
        ("Orin", {"units": 20, "capacity_bytes": 61 * GIB}),
    ],
)
def test_a_shared_name_without_the_deciding_fact_is_unknown(name, facts):
    assert detect_device(name, kind="cuda", **facts) is None


def test_units_and_memory_do_not_overrule_a_name_of_one_device():
    found = detect_device("NVIDIA H200", kind="cuda", units=16, capacity_bytes=17 * GIB)
    assert found is not None
    assert found.id == "h200-sxm5-141gb"


def test_two_specs_that_claim_one_name_are_an_error(tmp_path, monkeypatch):
    path = find_file("device", "h200")
    assert path is not None
    text = path.read_text().replace('"h200-sxm5-141gb"', '"mine"').replace('["h200", "h200-sxm"]', "[]")
    (tmp_path / "mine.toml").write_text(text)
    monkeypatch.setenv("HWPROF_PATH", str(tmp_path))
    with pytest.raises(SpecError, match="'NVIDIA H200' is claimed by h200-sxm5-141gb and by mine"):
        detect_device("NVIDIA H200", kind="cuda")


def test_only_files_that_say_a_name_are_read(tmp_path, monkeypatch):
    """What is broken elsewhere is nothing to a rank that asks for its device; an escape may hide a name."""
    shelf = tmp_path / "hardware_specs" / "devices"
    shelf.mkdir(parents=True)
    (shelf / "broken.toml").write_text("this is no TOML")
    path = find_file("device", "h200")
    assert path is not None
    text = path.read_text().replace('"h200-sxm5-141gb"', '"mine"').replace('["h200", "h200-sxm"]', "[]")
    (shelf / "mine.toml").write_text(text.replace('"NVIDIA H200"', '"NVIDIA \\u0048201"'))
    monkeypatch.setenv("HWPROF_PATH", str(tmp_path))
    found = detect_device("NVIDIA H201", kind="cuda")
    assert found is not None
    assert found.id == "mine"
