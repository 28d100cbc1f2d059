"""Do copies run on the CPUs near the GPU, and does the process get its own back? On made-up PCI folders."""

import os
from types import SimpleNamespace

import pytest
import torch

from hwprof.measure.host.numa import near

GPU = torch.device("cuda", 0)
pytestmark = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="only Linux binds threads to CPUs")


@pytest.fixture
def pci(tmp_path, monkeypatch):
    properties = SimpleNamespace(pci_domain_id=0, pci_bus_id=0x4F, pci_device_id=0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _device: properties)
    (tmp_path / "0000:4f:00.0").mkdir()

    def write(cpus):
        (tmp_path / "0000:4f:00.0" / "local_cpulist").write_text(f"{cpus}\n")
        (tmp_path / "0000:4f:00.0" / "numa_node").write_text("1\n")
        return tmp_path

    return write


def test_the_thread_runs_near_the_gpu_and_afterwards_where_it_did(pci):
    before = os.sched_getaffinity(0)
    one = min(before)
    with near(GPU, pci(f"{one},5000-5003")) as where:
        assert os.sched_getaffinity(0) == {one}
        assert where == "near the GPU, NUMA node 1"
    assert os.sched_getaffinity(0) == before


def test_an_error_gives_the_cpus_back_too(pci):
    before = os.sched_getaffinity(0)

    def fail():
        with near(GPU, pci(f"{min(before)}")):
            raise ValueError("copy failed")

    with pytest.raises(ValueError, match="copy failed"):
        fail()
    assert os.sched_getaffinity(0) == before


@pytest.mark.parametrize(("cpus", "said"), [("5000-5003", "far from the GPU"), ("", "unknown")])
def test_where_the_near_cpus_can_t_be_had_the_thread_stays_and_that_is_said(pci, cpus, said):
    before = os.sched_getaffinity(0)
    with near(GPU, pci(cpus)) as where:
        assert said in where
        assert os.sched_getaffinity(0) == before


def test_a_torch_that_does_not_tell_the_bus_is_unknown(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _device: SimpleNamespace())
    with near(GPU, tmp_path) as where:
        assert where.startswith("unknown")
