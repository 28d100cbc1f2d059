"""On what machine is this? Device, software, limits: all that a measured number depends on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path

import psutil
import pynvml
import torch

from hwprof.errors import InputError
from hwprof.measure.host.caches import cache_sizes_bytes, cpu_caches
from hwprof.measure.host.container import cpu_limit_cores, memory_limit
from hwprof.units import format_bytes

__all__ = ["available_memory_bytes", "cache_sizes_bytes", "device_name", "environment", "resolve_device"]

CPU_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_fp16", "avx512_fp16")
"""Instruction sets that decide how fast a CPU multiplies matrices in each dtype."""
_ACCEPTED = "auto, cpu, cuda or cuda:<number>"
_VARIABLE_PREFIXES = (
    "OMP_",
    "MKL_",
    "KMP_",
    "GOMP_",
    "PYTORCH_",
    "NCCL_",
    "CUDA_",
    "TORCH_",
    "CUBLAS_",
    "NVIDIA_TF32",
    "ONEDNN_",
    "DNNL_",
)
_CPUINFO = Path("/proc/cpuinfo")
_HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
_NUMA_NODES = Path("/sys/devices/system/node")


def resolve_device(text: str) -> torch.device:
    """The torch device that a person names: ``auto``, ``cpu``, ``cuda`` or ``cuda:<number>``.

    Raises:
        InputError: the text is none of these, or no such CUDA device is visible.
    """
    kind, _, number = text.strip().lower().partition(":")
    if kind in {"cpu", "auto"} and not number:
        return torch.device("cuda", 0) if kind == "auto" and torch.cuda.is_available() else torch.device("cpu")
    if kind != "cuda" or (":" in text and not number.isdigit()):
        raise InputError(
            f"{text!r} is not a device", expectation=f"expected {_ACCEPTED}", remedy="run with --device auto"
        )
    if not torch.cuda.is_available():
        raise InputError(
            "no CUDA device is visible",
            expectation=_why_no_cuda(),
            remedy="use --device cpu, or install a driver and a torch with CUDA (https://pytorch.org/get-started)",
        )
    index, count = int(number or 0), torch.cuda.device_count()
    if index >= count:
        raise InputError(
            f"there is no device cuda:{index}",
            expectation=f"{count} CUDA devices are visible, cuda:0 to cuda:{count - 1}",
            remedy="choose one of them, or change CUDA_VISIBLE_DEVICES",
        )
    return torch.device("cuda", index)


def device_name(device: torch.device) -> str:
    """The exact name that torch prints for a CUDA device, or the operating system for a CPU (``AMD EPYC 9654 ...``)."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return _cpuinfo().get("model name") or platform.processor() or platform.machine()


def available_memory_bytes(device: torch.device) -> tuple[float, str]:
    """Bytes that can still be allocated on a device, and where that number is from."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0]), "free on the device, as CUDA reports it"
    free_bytes = float(psutil.virtual_memory().available)
    limit = memory_limit()
    if limit is not None and limit.limit_bytes - limit.used_bytes < free_bytes:
        return float(max(limit.limit_bytes - limit.used_bytes, 0)), "left under the container's memory limit"
    return free_bytes, "available on the host, as the operating system reports it"


def environment(device: torch.device) -> dict[str, str]:
    """All that a measurement depends on, as flat dotted keys; what is unknown says so."""
    return _software() | _host() | _limits() | _accelerator(device) | _variables()


def _software() -> dict[str, str]:
    return {
        "hwprof.version": importlib.metadata.version("hwprof"),
        "python.version": platform.python_version(),
        "torch.version": torch.__version__,
        "torch.cuda": torch.version.cuda or "none: built without CUDA",
        "torch.threads": str(torch.get_num_threads()),
        "torch.interop_threads": str(torch.get_num_interop_threads()),
        "os": platform.platform(),
    }


def _host() -> dict[str, str]:
    caches = ", ".join(map(str, cpu_caches()))
    flags = _cpuinfo().get("flags", "").split()
    found = " ".join(flag for flag in CPU_FLAGS if flag in flags)
    nodes = len(list(_NUMA_NODES.glob("node[0-9]*")))
    return {
        "cpu.model": device_name(torch.device("cpu")),
        "cpu.cores_physical": str(psutil.cpu_count(logical=False) or "unknown"),
        "cpu.cores_logical": str(psutil.cpu_count() or "unknown"),
        "cpu.caches": caches or "unknown",
        "cpu.flags_of_interest": (found or "none of " + " ".join(CPU_FLAGS)) if flags else "unknown",
        "memory.total": format_bytes(psutil.virtual_memory().total),
        "memory.huge_pages": _HUGE_PAGES.read_text(encoding="ascii").strip() if _HUGE_PAGES.is_file() else "unknown",
        "numa.nodes": str(nodes) if nodes else "unknown",
    }


def _limits() -> dict[str, str]:
    memory, cores = memory_limit(), cpu_limit_cores()
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    return {
        "container.memory_limit": "none" if memory is None else format_bytes(memory.limit_bytes),
        "container.cpu_limit": "none" if cores is None else f"{cores:g} cores",
        "process.cpus_allowed": "unknown" if allowed is None else str(allowed),
    }


def _accelerator(device: torch.device) -> dict[str, str]:
    if device.type != "cuda":
        return {"device": device_name(device)}
    properties = torch.cuda.get_device_properties(device)
    return {
        "device": device_name(device),
        "device.compute_capability": f"{properties.major}.{properties.minor}",
        "device.memory_total": format_bytes(properties.total_memory),
        "device.multiprocessors": str(properties.multi_processor_count),
        "device.count_visible": str(torch.cuda.device_count()),
        "driver": _driver_version(),
        "cudnn": str(torch.backends.cudnn.version()),  # type: ignore[no-untyped-call]  # torch leaves it untyped
    }


def _driver_version() -> str:
    try:
        pynvml.nvmlInit()
        return str(pynvml.nvmlSystemGetDriverVersion())
    except pynvml.NVMLError as error:
        return f"unknown: {error}"


def _variables() -> dict[str, str]:
    return {f"env.{key}": value for key, value in sorted(os.environ.items()) if key.startswith(_VARIABLE_PREFIXES)}


def _why_no_cuda() -> str:
    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built without CUDA"
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    hidden = "" if visible is None else f", or CUDA_VISIBLE_DEVICES={visible!r} hides it"
    return f"torch is built for CUDA {torch.version.cuda}, but the driver shows no device{hidden}"


def _cpuinfo() -> dict[str, str]:
    """The first processor's lines of ``/proc/cpuinfo``; empty where there is no such file."""
    if not _CPUINFO.is_file():
        return {}
    first = _CPUINFO.read_text(encoding="utf-8").split("\n\n", 1)[0]
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first.splitlines())}
