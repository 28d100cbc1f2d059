"""Does each check tell the states apart, and say what to do? On machines made of a few files."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pynvml
import pytest
import torch
from click.testing import CliRunner

from hwprof.cli.doctor import command
from hwprof.measure.doctor import checks as doctor
from hwprof.measure.doctor.checks import examine
from hwprof.measure.doctor.machine import Machine
from hwprof.specs.record.doctor import Check, DoctorReport


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    def absent() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", absent)


def _checks(root: Path, files: dict[str, str], **machine: object) -> dict[str, Check]:
    for name, text in files.items():
        path = root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    fields = {"environ": {}, "which": lambda _name: None, "folder": root} | machine
    return {check.name: check for check in examine(Machine(root=root, **fields))}


@pytest.mark.usefixtures("no_gpu")
def test_a_machine_without_a_gpu_misses_none(tmp_path: Path):
    checks = _checks(tmp_path, {})
    for name in ("GPU", "NVML", "GPU counters"):
        assert checks[name].status == "not here"
        assert not checks[name].remedy


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize(
    ("admin_only", "capabilities", "status"),
    [("0", "0", "ok"), ("1", "0", "limited"), ("1", "200000", "ok"), ("1", "4000000000", "ok")],
)
def test_who_may_read_the_counters(tmp_path: Path, admin_only: str, capabilities: str, status: str):
    """CAP_SYS_ADMIN is bit 21, CAP_PERFMON bit 38."""
    files = {
        "/proc/driver/nvidia/params": f"ResmanDebugLevel: 1\nRmProfilingAdminOnly: {admin_only}\n",
        "/proc/self/status": f"Name:\tpython\nCapEff:\t{capabilities.zfill(16)}\n",
    }
    check = _checks(tmp_path, files)["GPU counters"]
    assert check.status == status
    assert ("NVreg_RestrictProfilingToAdminUsers=0" in check.remedy) == (status == "limited")


@pytest.mark.usefixtures("no_gpu")
def test_why_a_gpu_is_not_visible(tmp_path: Path, monkeypatch):
    files = {"/proc/driver/nvidia/params": ""}
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "without CUDA" in _checks(tmp_path, files)["GPU"].found
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    hidden = _checks(tmp_path, files, environ={"CUDA_VISIBLE_DEVICES": ""})["GPU"]
    assert hidden.remedy == "unset CUDA_VISIBLE_DEVICES"
    assert "nvidia-smi" in _checks(tmp_path, files)["GPU"].remedy
    assert "NVIDIA_DRIVER_CAPABILITIES" in _checks(tmp_path, files)["NVML"].remedy


@pytest.mark.usefixtures("no_gpu")
def test_limits_of_the_host(tmp_path: Path):
    files = {
        "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave\n",
        "/sys/kernel/mm/transparent_hugepage/enabled": "always madvise [never]\n",
        "/proc/self/cgroup": "0::/\n",
        "/sys/fs/cgroup/cpu.max": "50000 100000\n",
        "/sys/fs/cgroup/memory.max": "1000000000\n",
        "/sys/fs/cgroup/memory.current": "5\n",
        "/sys/fs/cgroup/memory.stat": "inactive_file 0\n",
    }
    checks = _checks(tmp_path, files, environ={"OMP_NUM_THREADS": "8"})
    assert "performance" in checks["CPU governor"].remedy
    assert "transparent_hugepage" in checks["huge pages"].remedy
    assert checks["cores"].found.startswith("0.5 of")
    assert checks["threads"].remedy == "export OMP_NUM_THREADS=1"
    assert checks["memory"].found.startswith("1 GB of")
    assert checks["torchrun"].remedy
    assert checks["C++ compiler"].status == "missing"


@pytest.mark.usefixtures("no_gpu")
def test_a_folder_that_is_not_there_cannot_be_written(tmp_path: Path):
    assert _checks(tmp_path, {}, folder=tmp_path / "nosuch")["runs"].status == "missing"


@pytest.mark.usefixtures("no_gpu")
def test_a_missing_extra_says_how_to_install_it(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(doctor, "_installed", lambda _name: False)
    assert _checks(tmp_path, {})["extra bpe"].remedy == "pip install 'hwprof[bpe]'"


@pytest.mark.usefixtures("no_gpu")
def test_a_torch_that_cannot_be_loaded_is_a_finding_and_the_rest_goes_on(tmp_path: Path, monkeypatch):
    monkeypatch.setitem(sys.modules, "hwprof.measure.doctor.torch_checks", None)
    checks = _checks(tmp_path, {})
    assert checks["torch"].status == "missing"
    assert "install torch" in checks["torch"].remedy
    assert {"python", "NVML", "cores", "runs"} <= set(checks)


@pytest.mark.usefixtures("no_gpu")
def test_whatever_is_missing_or_limited_and_can_be_changed_says_how(tmp_path: Path):
    for check in _checks(tmp_path, {}).values():
        assert check.found
        assert check.adds
        if check.status == "missing":
            assert check.remedy, check.name
        if check.status in {"ok", "not here"}:
            assert not check.remedy, check.name


def test_the_command_prints_its_schema_and_nothing_else():
    result = CliRunner().invoke(command, ["--format", "json"])
    assert result.exit_code == 0
    assert len(DoctorReport.model_validate(json.loads(result.stdout)).checks) > 10
    assert "All that was looked at" in CliRunner().invoke(command, []).stdout
