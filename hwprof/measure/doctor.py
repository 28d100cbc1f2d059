"""What of this machine can hwprof use, and what would make more of it usable? One function a check, in one table."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import re
from collections.abc import Callable, Iterator
from typing import Any

import pynvml
import torch

from hwprof.measure.doctor_host import HOST_CHECKS
from hwprof.measure.doctor_machine import Machine
from hwprof.specs.doctor import Check

_TORCH_GUIDE = "https://pytorch.org/get-started"
_NEEDED = ("numpy", "psutil", "matplotlib", "msgspec")
_PROFILING_PARAMETER = re.compile(r"^RmProfilingAdminOnly:\s*(\d+)", re.MULTILINE)
_CAP_SYS_ADMIN, _CAP_PERFMON = 1 << 21, 1 << 38
"""Linux capability bits (linux/capability.h)."""


def examine(machine: Machine) -> tuple[Check, ...]:
    """All checks."""
    return tuple(result for check in CHECKS for result in check(machine))


def _python(_machine: Machine) -> Iterator[Check]:
    yield Check(name="python", area="software", status="ok", found=platform.python_version(), adds="runs hwprof")


def _torch(_machine: Machine) -> Iterator[Check]:
    cuda, hip = torch.version.cuda, torch.version.hip
    build = f"CUDA {cuda}" if cuda else f"ROCm {hip}" if hip else "CPU only"
    yield Check(
        name="torch",
        area="software",
        status="ok",
        found=f"{torch.__version__}, {build}",
        adds="training and measuring (run, probe); count, simulate, plan, trace, diff need none",
    )


def _packages(_machine: Machine) -> Iterator[Check]:
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    yield Check(
        name="packages",
        area="software",
        status="missing" if missing else "ok",
        found=f"missing: {', '.join(missing)}" if missing else f"{', '.join(_NEEDED)} and the others are there",
        adds="counting, charts, telemetry, traces",
        remedy=f"pip install {' '.join(missing)}" if missing else "",
    )


def _extras(_machine: Machine) -> Iterator[Check]:
    """The optional dependencies that the installed package declares, but for those of its developers."""
    wanted: dict[str, list[str]] = {}
    for requirement in importlib.metadata.requires("hwprof") or []:
        extra = re.search(r"extra\s*==\s*['\"]([\w-]+)['\"]", requirement)
        name = re.match(r"[\w.-]+", requirement)
        if extra and name and extra[1] != "dev":
            wanted.setdefault(extra[1], []).append(name[0])
    for extra_name, names in wanted.items():
        missing = [name for name in names if not _installed(name)]
        yield Check(
            name=f"extra {extra_name}",
            area="software",
            status="missing" if missing else "ok",
            found=f"missing: {', '.join(missing)}" if missing else ", ".join(names),
            adds=f"what needs {', '.join(names)}",
            remedy=f"pip install 'hwprof[{extra_name}]'" if missing else "",
        )


def _installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _compiler(machine: Machine) -> Iterator[Check]:
    found = next((path for name in ("c++", "g++", "clang++") if (path := machine.which(name))), None)
    yield Check(
        name="C++ compiler",
        area="software",
        status="ok" if found else "missing",
        found=found or "none on PATH",
        adds="torch.compile on a CPU",
        remedy="" if found else "apt-get install g++ (or dnf install gcc-c++)",
    )


def _cuda(machine: Machine) -> Iterator[Check]:
    adds = "measuring on a GPU"
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count:
        names = ", ".join(sorted({torch.cuda.get_device_name(index) for index in range(count)}))
        yield Check(name="GPU", area="gpu", status="ok", found=f"{count} visible: {names}", adds=adds)
        return
    if not _has_nvidia(machine):
        yield Check(name="GPU", area="gpu", status="not here", found="no NVIDIA driver on this machine", adds=adds)
        return
    hidden = machine.environ.get("CUDA_VISIBLE_DEVICES")
    if torch.version.cuda is None:
        found, remedy = "a driver, but torch is built without CUDA", f"install a torch with CUDA: {_TORCH_GUIDE}"
    elif hidden is not None:
        found, remedy = f"hidden by CUDA_VISIBLE_DEVICES={hidden!r}", "unset CUDA_VISIBLE_DEVICES"
    else:
        found = f"a driver, but none that torch's CUDA {torch.version.cuda} can use"
        remedy = "compare `nvidia-smi` with torch's CUDA: update the driver, or start the container with --gpus all"
    yield Check(name="GPU", area="gpu", status="missing", found=found, adds=adds, remedy=remedy)


def _has_nvidia(machine: Machine) -> bool:
    return machine.exists("/proc/driver/nvidia") or machine.exists("/dev/nvidiactl")


def _nvml(machine: Machine) -> Iterator[Check]:
    adds = "power, clocks, temperature, throttling and PCIe traffic beside a run"
    try:
        pynvml.nvmlInit()
        found = f"driver {pynvml.nvmlSystemGetDriverVersion()}, {pynvml.nvmlDeviceGetCount()} devices"
        pynvml.nvmlShutdown()
    except pynvml.NVMLError as error:
        here = _has_nvidia(machine)
        yield Check(
            name="NVML",
            area="gpu",
            status="missing" if here else "not here",
            found=str(error),
            adds=adds,
            remedy="add the driver's libraries: NVIDIA_DRIVER_CAPABILITIES=compute,utility" if here else "",
        )
        return
    yield Check(name="NVML", area="gpu", status="ok", found=found, adds=adds)


def _counters(machine: Machine) -> Iterator[Check]:
    """Who may read performance counters (NVIDIA, ERR_NVGPUCTRPERM: Permission issue with Performance Counters)."""
    adds = "hardware counters of kernels (Nsight Compute, CUPTI); hwprof's own times need none"
    parameter = _PROFILING_PARAMETER.search(machine.text("/proc/driver/nvidia/params"))
    if parameter is None:
        status, found = ("limited", "unknown") if _has_nvidia(machine) else ("not here", "no NVIDIA driver")
        yield Check(name="GPU counters", area="gpu", status=status, found=found, adds=adds)
        return
    capabilities = int(machine.status("CapEff") or "0", 16)
    if parameter[1] == "0" or capabilities & (_CAP_SYS_ADMIN | _CAP_PERFMON):
        yield Check(name="GPU counters", area="gpu", status="ok", found="permitted", adds=adds)
        return
    yield Check(
        name="GPU counters",
        area="gpu",
        status="limited",
        found="only for administrators (ERR_NVGPUCTRPERM)",
        adds=adds,
        remedy="put `options nvidia NVreg_RestrictProfilingToAdminUsers=0` into /etc/modprobe.d/nvidia-profiling.conf, "
        "rebuild the initramfs and reboot; in a container: --cap-add=SYS_ADMIN",
    )


def _profiler(_machine: Machine) -> Iterator[Check]:
    names = sorted(activity.name for activity in torch.profiler.supported_activities())  # type: ignore[no-untyped-call]
    gpu = torch.cuda.is_available() and "CUDA" not in names
    yield Check(
        name="torch profiler",
        area="software",
        status="limited" if gpu else "ok",
        found=f"records {', '.join(names)}",
        adds="the times of operators and kernels",
        remedy=f"install a torch whose Kineto has CUPTI: {_TORCH_GUIDE}" if gpu else "",
    )


def _ranks(machine: Machine) -> Iterator[Check]:
    distributed: Any = torch.distributed
    backends = [
        name
        for name, available in (
            ("gloo", "is_gloo_available"),
            ("nccl", "is_nccl_available"),
            ("mpi", "is_mpi_available"),
        )
        if distributed.is_available() and getattr(distributed, available)()
    ]
    yield Check(
        name="backends",
        area="ranks",
        status="ok" if backends else "missing",
        found=", ".join(backends) or "torch.distributed is not built in",
        adds="several ranks: gloo on CPUs, nccl on GPUs",
        remedy="" if backends else f"install a torch with distributed: {_TORCH_GUIDE}",
    )
    torchrun = machine.which("torchrun")
    yield Check(
        name="torchrun",
        area="ranks",
        status="ok" if torchrun else "limited",
        found=torchrun or "not on PATH",
        adds="starts the ranks of a run",
        remedy="" if torchrun else "python -m torch.distributed.run does the same",
    )


CHECKS: tuple[Callable[[Machine], Iterator[Check]], ...] = (
    _python,
    _torch,
    _packages,
    _extras,
    _compiler,
    _profiler,
    _cuda,
    _nvml,
    _counters,
    _ranks,
    *HOST_CHECKS,
)
"""Every check; each yields one result or several."""
