"""Which work decides when the step ends? Small programs whose critical path is plain to see."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import kineto
import pytest

from hwprof.trace.analysis import analyse

US = 1e-6


def _path(path: Path) -> dict[str, float]:
    (device,) = analyse([path]).devices
    assert device.path is not None
    return {part.kind: round(part.time_s / US, 3) for part in device.path.parts}


def _kernel(file: kineto.KinetoFile, start: int, end: int, called: int, *, name: str = "gemm", stream: int = 7) -> None:
    ident = len(file.events) + 1
    file.complete("cuda_runtime", "cudaLaunchKernel", 1, 1, called * 1000, 1000, correlation=ident)
    file.complete(
        "kernel", name, 0, stream, start * 1000, (end - start) * 1000, stream=stream, device=0, correlation=ident
    )


def test_kernels_that_were_launched_early_are_the_path(written: Callable[..., Path]):
    file = kineto.KinetoFile()
    for number in range(4):
        _kernel(file, 10 + 20 * number, 29 + 20 * number, number)
    assert _path(written(file)) == {"compute": 76, "queued": 3}


def test_short_kernels_of_a_slow_host_leave_the_host_on_the_path(written: Callable[..., Path]):
    """Each call begins after the kernel before has ended: launch 5, then the host since the start."""
    file = kineto.KinetoFile()
    _kernel(file, 10, 12, 5)
    _kernel(file, 35, 37, 30)
    assert _path(written(file)) == {"host": 20, "launch": 5, "compute": 2}


def test_a_collective_on_another_stream_that_holds_the_next_kernel(written: Callable[..., Path]):
    """gemm 10-20, all-reduce 20-50, gemm 50-60, launched at once: the second gemm waited for the collective."""
    file = kineto.KinetoFile()
    _kernel(file, 10, 20, 0)
    _kernel(file, 20, 50, 1, name="ncclDevKernel_AllReduce", stream=20)
    _kernel(file, 50, 60, 2)
    assert _path(written(file)) == {"compute": 20, "communication": 30}


def test_hidden_communication_is_not_on_the_path(written: Callable[..., Path]):
    file = kineto.KinetoFile()
    _kernel(file, 10, 30, 0)
    _kernel(file, 15, 40, 1, name="ncclDevKernel_AllReduce", stream=20)
    _kernel(file, 30, 60, 2)
    assert _path(written(file)) == {"compute": 50}


def test_a_synchronisation_leads_back_to_the_kernel_that_it_waited_for(written: Callable[..., Path]):
    """gemm 10-40, the host waits until 42, calls at 50, gemm 55-60."""
    file = kineto.KinetoFile()
    _kernel(file, 10, 40, 0)
    file.complete("cuda_runtime", "cudaStreamSynchronize", 1, 1, 5000, 37_000, correlation=999)
    _kernel(file, 55, 60, 50)
    assert _path(written(file)) == {"compute": 35, "synchronisation": 2, "host": 8, "launch": 5}


def test_the_host_on_the_path_is_named_by_its_operators(written: Callable[..., Path]):
    file = kineto.KinetoFile()
    _kernel(file, 10, 12, 5)
    file.complete("cpu_op", "aten::unique", 1, 1, 14_000, 10_000)
    _kernel(file, 35, 37, 30)
    (device,) = analyse([written(file)]).devices
    assert device.path is not None
    items = {item.name: round(item.time_s / US, 3) for item in device.path.items if item.kind == "host"}
    assert items["aten::unique"] == pytest.approx(10)
    assert sum(items.values()) == pytest.approx(20)
