"""On what machine is this? Device, software, limits: all that a measured number depends on."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pynvml
import torch

from hwprof.errors import InputError, first_line
from hwprof.measure.host.accelerator import PLATFORMS, module_of
from hwprof.measure.host.caches import cache_sizes_bytes, cpu_caches
from hwprof.measure.host.container import cpu_limit_cores, memory_limit
from hwprof.units import format_bytes

__all__ = ["cache_sizes_bytes", "device_name", "environment", "resolve_device"]

CPU_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_fp16", "avx512_fp16")
"""Instruction sets that decide how fast a CPU multiplies matrices in each dtype."""
_ACCEPTED = "auto, cpu, cuda, xpu, mps or npu, all but the first two also with a number (cuda:<number>)"
_VARIABLE_PREFIXES = (
    "OMP_",
    "MKL_",
    "KMP_",
    "GOMP_",
    "PYTORCH_",
    "NCCL_",
    "CUDA_",
    "HIP_",
    "HSA_",
    "ROCR_",
    "ROCM_",
    "HIPBLASLT_",
    "RCCL_",
    "TORCH_",
    "CUBLAS_",
    "NVIDIA_TF32",
    "ONEDNN_",
    "DNNL_",
)
_CPUINFO = Path("/proc/cpuinfo")
_HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
_AMD_DRIVER = Path("/sys/module/amdgpu/version")
_NUMA_NODES = Path("/sys/devices/system/node")


def resolve_device(text: str) -> torch.device:
    """The torch device that a person names: ``auto``, ``cpu``, or a kind of accelerator with or without its number.

    Raises:
        InputError: the text is none of these, or no such device is visible.
    """
    kind, _, number = text.strip().lower().partition(":")
    if kind == "cpu" and not number:
        return torch.device("cpu")
    if kind == "auto" and not number:
        return _first_accelerator()
    if kind not in PLATFORMS or (":" in text and not number.isdigit()):
        raise InputError(
            f"{text!r} is not a device", expectation=f"expected {_ACCEPTED}", remedy="run with --device auto"
        )
    if not is_available(kind):
        raise InputError(
            f"no {PLATFORMS[kind]} device is visible", expectation=_why_none(kind), remedy=_REMEDIES.get(kind, _GUIDE)
        )
    index, count = int(number or 0), visible(kind)
    if index >= count:
        raise InputError(
            f"there is no device {kind}:{index}",
            expectation=f"{count} {PLATFORMS[kind]} devices are visible, {kind}:0 to {kind}:{count - 1}",
            remedy="choose one of them, or change CUDA_VISIBLE_DEVICES" if kind == "cuda" else "choose one of them",
        )
    return torch.device(kind, index)


_GUIDE = "use --device cpu, or install a driver and a torch for the device (https://pytorch.org/get-started)"
_REMEDIES = {
    "cuda": "use --device cpu, or install a driver and a torch with CUDA (https://pytorch.org/get-started)",
    "npu": "use --device cpu, or install torch_npu for this torch",
}


def _first_accelerator() -> torch.device:
    found = next((kind for kind in PLATFORMS if is_available(kind)), None)
    return torch.device("cpu") if found is None else torch.device(found, 0)


def is_available(kind: str) -> bool:
    """Whether torch sees a device of a kind."""
    module: Any = getattr(torch, kind, None)
    offered = getattr(module, "is_available", None)
    return bool(offered is not None and offered())


def visible(kind: str) -> int:
    """How many devices of a kind torch sees, where it sees any."""
    counted = getattr(getattr(torch, kind), "device_count", None)
    return 1 if counted is None else int(counted())


def _why_none(kind: str) -> str:
    if kind == "cuda":
        return _why_no_cuda()
    if not hasattr(torch, kind):
        return f"torch {torch.__version__} has no torch.{kind}"
    return f"torch {torch.__version__} has torch.{kind}, which says that there is none"


def device_name(device: torch.device) -> str:
    """The exact name that torch prints for an accelerator, or the system's for a CPU (``AMD EPYC 9654 ...``)."""
    named = getattr(module_of(device), "get_device_name", None) if device.type != "cpu" else None
    if named is not None:
        return str(named(device))
    processor = _cpuinfo().get("model name") or platform.processor() or platform.machine()
    return f"GPU of {processor}" if device.type == "mps" else processor


def environment(device: torch.device) -> dict[str, str]:
    """All that a measurement depends on, as flat dotted keys; what is unknown, or can't be read, says so."""
    readers = _SOFTWARE | _HOST | _LIMITS | _accelerator(device)
    return {key: _told(read) for key, read in readers.items()} | _variables()


Read = Callable[[], str]


def _told(read: Read) -> str:
    """What a reader says; what keeps it from that must cost nothing else."""
    try:
        return read() or "unknown"
    except Exception as error:  # noqa: BLE001 (libraries of drivers fail in many ways; the text is kept)
        return f"unknown: {first_line(error)}"


_SOFTWARE: dict[str, Read] = {
    "hwprof.version": lambda: importlib.metadata.version("hwprof"),
    "python.version": platform.python_version,
    "torch.version": lambda: torch.__version__,
    "torch.cuda": lambda: torch.version.cuda or "none: built without CUDA",
    "torch.hip": lambda: torch.version.hip or "none: built without ROCm",
    "torch.threads": lambda: str(torch.get_num_threads()),
    "torch.interop_threads": lambda: str(torch.get_num_interop_threads()),
    "os": platform.platform,
}


def _flags_of_interest() -> str:
    flags = _cpuinfo().get("flags", "").split()
    found = " ".join(flag for flag in CPU_FLAGS if flag in flags)
    return (found or "none of " + " ".join(CPU_FLAGS)) if flags else ""


_HOST: dict[str, Read] = {
    "cpu.model": lambda: device_name(torch.device("cpu")),
    "cpu.cores_physical": lambda: str(psutil.cpu_count(logical=False) or ""),
    "cpu.cores_logical": lambda: str(psutil.cpu_count() or ""),
    "cpu.caches": lambda: ", ".join(map(str, cpu_caches())),
    "cpu.flags_of_interest": _flags_of_interest,
    "memory.total": lambda: format_bytes(psutil.virtual_memory().total),
    "memory.huge_pages": lambda: _HUGE_PAGES.read_text(encoding="ascii").strip() if _HUGE_PAGES.is_file() else "",
    "numa.nodes": lambda: str(len(list(_NUMA_NODES.glob("node[0-9]*"))) or ""),
}


def _memory_limit() -> str:
    memory = memory_limit()
    return "none" if memory is None else format_bytes(memory.limit_bytes)


def _cpu_limit() -> str:
    cores = cpu_limit_cores()
    return "none" if cores is None else f"{cores:g} cores"


_LIMITS: dict[str, Read] = {
    "container.memory_limit": _memory_limit,
    "container.cpu_limit": _cpu_limit,
    "process.cpus_allowed": lambda: str(len(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else "",
}


def _accelerator(device: torch.device) -> dict[str, Read]:
    found: dict[str, Read] = {"device": functools.partial(device_name, device)}
    if device.type == "cpu":
        return found
    found |= {
        "device.index": lambda: str(device.index or 0),
        "device.count_visible": lambda: str(visible(device.type)),
    }
    if device.type == "mps":
        return found

    def of_properties(say: Callable[[Any], str]) -> Read:
        return lambda: say(module_of(device).get_device_properties(device))

    found["device.memory_total"] = of_properties(lambda told: format_bytes(told.total_memory))
    return found | (_of_cuda(of_properties) if device.type == "cuda" else {})


def _of_cuda(of_properties: Callable[[Callable[[Any], str]], Read]) -> dict[str, Read]:
    """What is asked of NVIDIA's GPUs, and of AMD's under the same names of torch's."""
    libraries: dict[str, Read] = {
        "driver": _amd_driver_version if torch.version.hip else _driver_version,
        "miopen" if torch.version.hip else "cudnn": lambda: str(torch.backends.cudnn.version()),  # type: ignore[no-untyped-call]  # torch leaves it untyped
    }
    return libraries | {
        "device.compute_capability": of_properties(lambda found: f"{found.major}.{found.minor}"),
        "device.architecture": of_properties(lambda found: getattr(found, "gcnArchName", "")),
        "device.multiprocessors": of_properties(lambda found: str(found.multi_processor_count)),
    }


def _driver_version() -> str:
    pynvml.nvmlInit()
    return str(pynvml.nvmlSystemGetDriverVersion())


def _amd_driver_version() -> str:
    """Of the driver that came with ROCm; one that came with Linux has none of its own."""
    return _AMD_DRIVER.read_text(encoding="ascii").strip()


def _variables() -> dict[str, str]:
    return {f"env.{key}": value for key, value in sorted(os.environ.items()) if key.startswith(_VARIABLE_PREFIXES)}


def _why_no_cuda() -> str:
    platform = "ROCm" if torch.version.hip else "CUDA"
    built = torch.version.hip or torch.version.cuda
    if built is None:
        return f"torch {torch.__version__} is built without CUDA and without ROCm"
    names = ("HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES") if torch.version.hip else ("CUDA_VISIBLE_DEVICES",)
    hidden = "".join(f", or {name}={os.environ[name]!r} hides it" for name in names if name in os.environ)
    return f"torch is built for {platform} {built}, but the driver shows no device{hidden}"


def _cpuinfo() -> dict[str, str]:
    """The first processor's lines of ``/proc/cpuinfo``; empty where there is no such file."""
    if not _CPUINFO.is_file():
        return {}
    first = _CPUINFO.read_text(encoding="utf-8").split("\n\n", 1)[0]
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first.splitlines())}
