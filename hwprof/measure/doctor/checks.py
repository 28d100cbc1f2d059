"""What of this machine can hwprof use, and what would make more of it usable? One function a check, in one table."""

from __future__ import annotations

import importlib.metadata
import platform
import re
from collections.abc import Callable, Iterator

import pynvml

from hwprof.errors import first_line
from hwprof.measure.doctor.host import HOST_CHECKS
from hwprof.measure.doctor.machine import TORCH_GUIDE, WSL_LIBRARIES, Machine
from hwprof.specs.record.doctor import COUNTERS_REFUSED, COUNTERS_REMEDY, Check

_EXTRA = re.compile(r"extra\s*==\s*['\"]([\w-]+)['\"]")
_NAME = re.compile(r"[\w.-]+")
_EXTRAS = {
    "": "all of hwprof",
    "accelerate": "profiles of Accelerate's loops",
    "bpe": "byte-pair tokens of a text",
    "docs": "building the documentation (make docs)",
    "frameworks": "checking a plan's settings with the frameworks' own parsers",
    "lightning": "profiles of Lightning's Trainer",
    "mlflow": "live metrics in MLflow",
    "tensorboard": "live metrics in TensorBoard",
    "transformers": "profiles of Hugging Face's Trainer",
    "wandb": "live metrics in Weights & Biases",
    "xlsx": "a workbook of a plan",
}
"""What each extra adds; one that is not here is described by the packages that it brings."""
_PROFILING_PARAMETER = re.compile(r"^RmProfilingAdminOnly:\s*(\d+)", re.MULTILINE)
_CAP_SYS_ADMIN, _CAP_PERFMON = 1 << 21, 1 << 38
"""Linux capability bits (linux/capability.h)."""


def examine(machine: Machine) -> tuple[Check, ...]:
    """All checks; one that fails itself says so, and costs no other."""
    return tuple(result for check in CHECKS for result in _tried(check, machine))


def _tried(check: Callable[[Machine], Iterator[Check]], machine: Machine) -> Iterator[Check]:
    try:
        yield from check(machine)
    except Exception as error:  # noqa: BLE001 (drivers and system files fail in many ways; the text is the finding)
        found = f"the check failed with {type(error).__name__}: {first_line(error)}"
        yield Check(name=check.__name__.strip("_"), area="software", status="limited", found=found, adds="")


def _python(_machine: Machine) -> Iterator[Check]:
    yield Check(name="python", area="software", status="ok", found=platform.python_version(), adds="runs hwprof")


def _torch(machine: Machine) -> Iterator[Check]:
    """What torch brings; a torch that cannot be imported is one finding, and no reason to stop."""
    try:
        from hwprof.measure.doctor.torch_checks import TORCH_CHECKS
    except (ImportError, OSError) as error:  # OSError: a library that torch loads is missing or of another system
        yield Check(
            name="torch",
            area="software",
            status="missing",
            found=f"cannot be imported: {error}",
            adds="training and measuring (run, probe); count, simulate, plan, trace, diff need none",
            remedy=f"install torch: {TORCH_GUIDE}",
        )
        return
    for check in TORCH_CHECKS:
        yield from _tried(check, machine)


def _packages(_machine: Machine) -> Iterator[Check]:
    """The dependencies that the installed package declares, and its extras but for the developers'."""
    for extra, names in _declared().items():
        missing = [name for name in names if not _installed(name)]
        yield Check(
            name=f"extra {extra}" if extra else "packages",
            area="software",
            status="missing" if missing else "ok",
            found=f"missing: {', '.join(missing)}" if missing else ", ".join(names),
            adds=_EXTRAS.get(extra, f"what needs {', '.join(names)}"),
            remedy=f"pip install 'hwprof[{extra}]'" if missing and extra else "pip install hwprof" if missing else "",
        )


def _declared() -> dict[str, list[str]]:
    """Names of packages by the extra that asks for them; "" for what is always needed."""
    declared: dict[str, list[str]] = {}
    for requirement in importlib.metadata.requires("hwprof") or []:
        extra = _EXTRA.search(requirement)
        name = _NAME.match(requirement)
        if name and not (extra and extra[1] == "dev"):
            declared.setdefault(extra[1] if extra else "", []).append(name[0])
    return declared


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


def _nvml(machine: Machine) -> Iterator[Check]:
    adds = "power, clocks, temperature, throttling, PCIe traffic beside a run; from Hopper on DRAM and tensor activity"
    try:
        pynvml.nvmlInit()
        found = f"driver {pynvml.nvmlSystemGetDriverVersion()}, {pynvml.nvmlDeviceGetCount()} devices"
        pynvml.nvmlShutdown()
    except Exception as error:  # noqa: BLE001 (a driver's library fails in many ways; its text is the reason)
        here = machine.has_nvidia()
        yield Check(
            name="NVML",
            area="gpu",
            status="missing" if here else "not here",
            found=first_line(error),
            adds=adds,
            remedy=_nvml_remedy(machine) if here else "",
        )
        return
    yield Check(name="NVML", area="gpu", status="ok", found=found, adds=adds)


def _nvml_remedy(machine: Machine) -> str:
    if machine.exists(WSL_LIBRARIES):
        return f"export LD_LIBRARY_PATH={WSL_LIBRARIES}:$LD_LIBRARY_PATH"
    return "add the driver's libraries: NVIDIA_DRIVER_CAPABILITIES=compute,utility"


def _counters(machine: Machine) -> Iterator[Check]:
    """Who may read performance counters (NVIDIA, ERR_NVGPUCTRPERM: Permission issue with Performance Counters)."""
    adds = "hardware counters of kernels (Nsight Compute: hwprof view --ncu); hwprof's own times need none"
    parameter = _PROFILING_PARAMETER.search(machine.text("/proc/driver/nvidia/params"))
    if parameter is None:
        status, found = ("limited", "unknown") if machine.has_nvidia() else ("not here", "no NVIDIA driver")
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
        found=COUNTERS_REFUSED,
        adds=adds,
        remedy=COUNTERS_REMEDY,
    )


CHECKS: tuple[Callable[[Machine], Iterator[Check]], ...] = (
    _python,
    _packages,
    _compiler,
    _torch,
    _nvml,
    _counters,
    *HOST_CHECKS,
)
"""Every check; each yields one result or several."""
