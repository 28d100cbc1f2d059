# ruff: noqa: N802 (NVML's own names)
"""Claims about the wiring of GPUs, on a stand-in for NVML that answers like a DGX, a PCIe box and a bridged pair."""

from types import SimpleNamespace

import pytest
import torch

from hwprof.measure.links.topology import topology

CUDA = torch.device("cuda", 0)


class NVMLError(Exception):
    pass


class FakeNvml:
    """``nvlinks``: for each device the other ends of its links, ("gpu", index) or ("switch", None)."""

    NVML_NVLINK_MAX_LINKS = 18
    NVMLError = NVMLError

    def __init__(self, nvlinks, ancestor=50):
        self.nvlinks = nvlinks
        self.ancestor = ancestor

    def nvmlInit(self):
        pass

    def nvmlDeviceGetCount(self):
        return len(self.nvlinks)

    def nvmlDeviceGetHandleByIndex(self, index):
        return index

    def nvmlDeviceGetName(self, _handle):
        return b"NVIDIA Test"

    def nvmlDeviceGetUUID(self, handle):
        return f"GPU-{handle}"

    def nvmlDeviceGetPciInfo(self, handle):
        return SimpleNamespace(busId=f"00000000:{handle:02X}:00.0".encode())

    def nvmlDeviceGetNvLinkState(self, handle, number):
        if number >= len(self.nvlinks[handle]):
            raise NVMLError("Invalid Argument")
        return 1

    def nvmlDeviceGetNvLinkRemoteDeviceType(self, handle, number):
        return {"gpu": 0, "switch": 2}[self.nvlinks[handle][number][0]]

    def nvmlDeviceGetNvLinkRemotePciInfo(self, handle, number):
        other = self.nvlinks[handle][number][1]
        return SimpleNamespace(busId=f"00000000:{other:02X}:00.0" if other is not None else "00000000:F0:00.0")

    def nvmlDeviceGetMaxPcieLinkGeneration(self, _handle):
        return 5

    def nvmlDeviceGetMaxPcieLinkWidth(self, _handle):
        raise NVMLError("Not Supported")

    def nvmlDeviceGetTopologyCommonAncestor(self, _first, _second):
        return self.ancestor


def test_devices_behind_an_nvswitch_reach_each_other_over_all_their_links():
    found, skipped = topology(CUDA, "node", nvml=FakeNvml([[("switch", None)] * 18] * 3))
    assert skipped is None
    assert [device.nvlinks for device in found.devices] == [18, 18, 18]
    assert {(pair.path, pair.nvlinks, pair.through_switch) for pair in found.pairs} == {("nvlink", 18, True)}
    assert len(found.pairs) == 3


def test_bridged_pair_has_its_direct_links_and_the_others_go_over_pcie():
    links = [[("gpu", 1)] * 4, [("gpu", 0)] * 4, []]
    found, _ = topology(CUDA, "node", nvml=FakeNvml(links, ancestor=30))
    ways = {(pair.first, pair.second): (pair.path, pair.nvlinks) for pair in found.pairs}
    assert ways == {(0, 1): ("nvlink", 4), (0, 2): ("host bridge", 0), (1, 2): ("host bridge", 0)}


@pytest.mark.parametrize(
    ("level", "path"),
    [(0, "board"), (10, "one switch"), (20, "switches"), (40, "numa node"), (50, "system"), (77, "unknown")],
)
def test_pcie_path_follows_the_common_ancestor(level, path):
    found, _ = topology(CUDA, "node", nvml=FakeNvml([[], []], ancestor=level))
    assert found.pairs[0].path == path


def test_numa_node_and_processors_come_from_linux_and_what_nvml_lacks_is_unknown(tmp_path):
    folder = tmp_path / "0000:00:00.0"
    folder.mkdir()
    (folder / "numa_node").write_text("1\n")
    (folder / "local_cpulist").write_text("32-63\n")
    found, _ = topology(CUDA, "node", nvml=FakeNvml([[], []]), pci_devices=tmp_path)
    first, second = found.devices
    assert (first.numa_node, first.cpus, first.pcie_generation, first.pcie_lanes) == (1, "32-63", 5, None)
    assert (second.numa_node, second.cpus) == (None, "")


def test_machine_without_nvml_says_so():
    class Broken(FakeNvml):
        def nvmlInit(self):
            raise NVMLError("Driver Not Loaded")

    found, skipped = topology(CUDA, "node", nvml=Broken([]))
    assert found is None
    assert "Driver Not Loaded" in skipped.reason
    assert skipped.remedy


def test_cpu_run_says_why_there_is_no_topology():
    found, skipped = topology(torch.device("cpu"), "node", nvml=None)
    assert found is None
    assert "CPU" in skipped.reason
