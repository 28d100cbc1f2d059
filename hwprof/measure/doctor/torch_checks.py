"""What can the installed torch do on this machine? Imported only where torch can be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

from hwprof.measure.doctor.machine import TORCH_GUIDE, Machine
from hwprof.measure.host.accelerator import PLATFORMS
from hwprof.measure.host.environment import device_name, is_available, visible
from hwprof.specs.record.doctor import Check


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


def _profiler(_machine: Machine) -> Iterator[Check]:
    names = sorted(activity.name for activity in torch.profiler.supported_activities())  # type: ignore[no-untyped-call]
    gpu = torch.cuda.is_available() and "CUDA" not in names
    yield Check(
        name="torch profiler",
        area="software",
        status="limited" if gpu else "ok",
        found=f"records {', '.join(names)}",
        adds="the times of operators and kernels",
        remedy=f"install a torch whose Kineto has CUPTI: {TORCH_GUIDE}" if gpu else "",
    )


_HIDE = {"CUDA": ("CUDA_VISIBLE_DEVICES",), "ROCm": ("HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")}
"""Platform -> variables that hide devices from torch."""


def _cuda(machine: Machine) -> Iterator[Check]:
    adds = "measuring on a GPU"
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count:
        names = ", ".join(sorted({torch.cuda.get_device_name(index) for index in range(count)}))
        yield Check(name="GPU", area="gpu", status="ok", found=f"{count} visible: {names}", adds=adds)
        return
    if not machine.has_nvidia() and not machine.has_amd():
        yield Check(name="GPU", area="gpu", status="not here", found="no driver of NVIDIA or AMD here", adds=adds)
        return
    platform, built = ("CUDA", torch.version.cuda) if machine.has_nvidia() else ("ROCm", torch.version.hip)
    hiding = {name: machine.environ[name] for name in _HIDE[platform] if name in machine.environ}
    if built is None:
        found, remedy = (
            f"a driver, but torch is built without {platform}",
            f"install a torch with {platform}: {TORCH_GUIDE}",
        )
    elif hiding:
        name, hidden = next(iter(hiding.items()))
        found, remedy = f"hidden by {name}={hidden!r}", f"unset {name}"
    elif platform == "ROCm":
        found = f"a driver, but none that torch's ROCm {built} can use"
        remedy = "compare `rocminfo` with torch's ROCm, and let this user into the groups video and render"
    else:
        found = f"a driver, but none that torch's CUDA {torch.version.cuda} can use"
        remedy = "compare `nvidia-smi` with torch's CUDA: update the driver, or start the container with --gpus all"
    yield Check(name="GPU", area="gpu", status="missing", found=found, adds=adds, remedy=remedy)


def _others(_machine: Machine) -> Iterator[Check]:
    """Accelerators beside CUDA's, as far as torch sees any."""
    for kind, name in PLATFORMS.items():
        if kind != "cuda" and is_available(kind):
            device = torch.device(kind, 0)
            found = f"{visible(kind)} visible: {device_name(device)}"
            yield Check(name=name, area="gpu", status="ok", found=found, adds="measuring on a GPU")


def _ranks(machine: Machine) -> Iterator[Check]:
    distributed: Any = torch.distributed
    backends = [
        name
        for name, available in (
            ("gloo", "is_gloo_available"),
            ("nccl", "is_nccl_available"),
            ("xccl", "is_xccl_available"),
            ("mpi", "is_mpi_available"),
        )
        if distributed.is_available() and getattr(distributed, available, bool)()
    ]
    yield Check(
        name="backends",
        area="ranks",
        status="ok" if backends else "missing",
        found=", ".join(backends) or "torch.distributed is not built in",
        adds="several ranks: gloo on CPUs, nccl on GPUs of NVIDIA and AMD, xccl on Intel's",
        remedy="" if backends else f"install a torch with distributed: {TORCH_GUIDE}",
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


TORCH_CHECKS: tuple[Callable[[Machine], Iterator[Check]], ...] = (_torch, _profiler, _cuda, _others, _ranks)
"""Checks of what torch brings."""
