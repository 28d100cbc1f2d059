"""Which CPUs are nearest to a GPU? Copies are measured from there, since pinned memory lies where its thread runs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch

from hwprof.errors import first_line

_PCI_DEVICES = Path("/sys/bus/pci/devices")


@contextmanager
def near(device: torch.device, pci_devices: Path = _PCI_DEVICES) -> Iterator[str]:
    """Run this thread on those of its CPUs that Linux calls local to a GPU; afterwards where it ran before.

    Args:
        device: the GPU.
        pci_devices: where Linux describes PCI devices.

    Yields:
        Where the thread runs, in words; what keeps it from the GPU's CPUs, where something does.
    """
    try:
        folder = _folder(device, pci_devices)
        local = cpus_of_list(folder / "local_cpulist") if folder else frozenset()
    except (OSError, RuntimeError, ValueError):
        folder, local = None, frozenset()
    if not local or not hasattr(os, "sched_setaffinity"):
        yield "unknown: the operating system does not tell which CPUs are near the GPU"
        return
    usable = local & os.sched_getaffinity(0)
    if not usable:
        yield "far from the GPU: this process may not run on the CPUs near it"
        return
    with ExitStack() as there:
        try:
            there.enter_context(on_cpus(usable))
        except OSError as error:
            yield f"unknown: this thread can't be put near the GPU ({first_line(error)})"
            return
        yield f"near the GPU, NUMA node {_line(folder / 'numa_node') if folder else ''}"


@contextmanager
def on_cpus(cpus: frozenset[int]) -> Iterator[None]:
    """Run this thread on some CPUs; afterwards where it ran before."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _folder(device: torch.device, pci_devices: Path) -> Path | None:
    properties = torch.cuda.get_device_properties(device) if device.type == "cuda" else None
    place = [getattr(properties, name, None) for name in ("pci_domain_id", "pci_bus_id", "pci_device_id")]
    if None in place:  # older releases of torch
        return None
    domain, bus, slot = place
    return pci_devices / f"{domain:04x}:{bus:02x}:{slot:02x}.0"


def cpus_of_list(path: Path) -> frozenset[int]:
    """A file that says ``0-3,8``, as a set; empty where there is none."""
    pieces = [piece.split("-") for piece in _line(path).split(",") if piece]
    return frozenset(cpu for piece in pieces for cpu in range(int(piece[0]), int(piece[-1]) + 1))


def _line(path: Path) -> str:
    return path.read_text(encoding="ascii").strip() if path.is_file() else ""
