"""How much memory can still be allocated on a device, and where is that number from?"""

from __future__ import annotations

import functools
import resource
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import psutil
import torch

from hwprof.errors import first_line
from hwprof.measure.host.accelerator import module_of, platform_of
from hwprof.measure.host.container import memory_limit

Left = tuple[float, str]
"""Bytes, and where that number is from."""


def available_memory_bytes(device: torch.device) -> tuple[float | None, str]:
    """Bytes that can still be allocated on a device, and where that number is from; None, and why, if nobody tells.

    Of an accelerator what is free, else all that it has: some drivers tell only that. Of the host the least of all
    limits that are told.
    """
    if device.type == "cpu":
        told, silent = _asked(_of_host, _under_container, _of_process)
        return min(told, key=lambda pair: pair[0], default=_unknown(silent))
    told, silent = _asked(functools.partial(_of_metal if device.type == "mps" else _free_on, device))
    if told or device.type == "mps":
        return told[0] if told else _unknown(silent)
    told, _ = _asked(functools.partial(_all_of, device))
    return (told[0][0], f"{told[0][1]}; what is free is not told ({silent[0]})") if told else _unknown(silent)


def _unknown(silent: Sequence[str]) -> tuple[None, str]:
    return None, f"unknown: {', '.join(silent)}"


def _asked(*readers: Callable[[], Iterable[Left]]) -> tuple[list[Left], list[str]]:
    """What readers tell, and why others don't."""
    told: list[Left] = []
    silent: list[str] = []
    for read in readers:
        try:
            told += read()
        except Exception as error:  # noqa: BLE001 (drivers and control files fail in many ways; the text is the reason)
            silent.append(first_line(error))
    return told, silent


def _free_on(device: torch.device) -> Iterator[Left]:
    free = module_of(device).mem_get_info(device)[0]
    yield float(free), f"free on the device, as {platform_of(device)} reports it"


def _all_of(device: torch.device) -> Iterator[Left]:
    yield float(module_of(device).get_device_properties(device).total_memory), "all of the device's memory"


def _of_metal(device: torch.device) -> Iterator[Left]:
    module: Any = module_of(device)
    left = float(module.recommended_max_memory() - module.driver_allocated_memory())
    yield left, "left of what Metal recommends for this GPU, which shares the host's memory"


def _of_host() -> Iterator[Left]:
    yield float(psutil.virtual_memory().available), "available on the host, as the operating system reports it"


def _under_container() -> Iterator[Left]:
    limit = memory_limit()
    if limit is not None:
        yield float(max(limit.limit_bytes - limit.used_bytes, 0)), "left under the container's memory limit"


def _of_process() -> Iterator[Left]:
    """What this process may still allocate under its own limits (``ulimit -v``, ``ulimit -d``)."""
    used = psutil.Process().memory_info()
    for kind, used_bytes, words in (
        (resource.RLIMIT_AS, used.vms, "address space (ulimit -v)"),
        (resource.RLIMIT_DATA, getattr(used, "data", used.rss), "data (ulimit -d)"),
    ):
        limit_bytes = resource.getrlimit(kind)[0]
        if limit_bytes != resource.RLIM_INFINITY:
            yield float(max(limit_bytes - used_bytes, 0)), f"left under this process's limit of {words}"
