"""Is fp8 measured where the hardware has it and refused elsewhere? The arithmetic runs on torch's emulation."""

import itertools

import pytest
import torch
from made_up_bench import made_up_bench
from scripted_timer import ScriptedTimer

from hwprof.errors import WorkError
from hwprof.measure.probes import fp8, matmul
from hwprof.measure.probes.bench import CannotRunError
from hwprof.measure.probes.fp8 import fp8_ceiling, require_fp8
from hwprof.measure.probes.matmul import MatmulShape

CPU = torch.device("cpu")


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(matmul, "_CPU_SWEEP", (MatmulShape(16, 16, 16), MatmulShape(32, 16, 16)))
    monkeypatch.setattr(fp8, "require_fp8", lambda _device: torch._scaled_mm)


@pytest.mark.usefixtures("small")
def test_the_best_shape_is_the_ceiling():
    found = fp8_ceiling(made_up_bench(ScriptedTimer([1.0] * 5 + [0.5] * 5)))
    assert (found.name, found.dtype) == ("matmul.fp8", "fp8")
    assert found.value == 2 * 32 * 16 * 16 / 0.5
    assert found.conditions["shapes_tried"] == 2


@pytest.mark.usefixtures("small")
def test_a_product_whose_scale_is_lost_is_an_error(monkeypatch):
    def unscaled(x, w, *, scale_a, scale_b, **more):
        return torch._scaled_mm(x, w, scale_a=scale_a * 1.5, scale_b=scale_b, **more)

    monkeypatch.setattr(fp8, "require_fp8", lambda _device: unscaled)
    with pytest.raises(WorkError, match="product is wrong"):
        fp8_ceiling(made_up_bench(ScriptedTimer(itertools.repeat(1.0))))


def test_a_cpu_and_an_older_gpu_say_why_not(monkeypatch):
    with pytest.raises(CannotRunError, match="emulates"):
        require_fp8(CPU)
    gpu = torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: (8, 0))
    with pytest.raises(CannotRunError, match=r"needs compute capability 8\.9; this device has 8\.0"):
        require_fp8(gpu)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: (9, 0))
    assert require_fp8(gpu) is torch._scaled_mm
    monkeypatch.delattr(torch, "_scaled_mm")
    with pytest.raises(CannotRunError, match="has no fp8 product"):
        require_fp8(gpu)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and none is visible")
def test_fp8_is_faster_than_bf16_on_a_gpu_that_has_it():
    from hwprof.measure.probes.device import bench_for

    device = torch.device("cuda", 0)
    if torch.cuda.get_device_capability(device) < (8, 9):
        pytest.skip("this GPU has no fp8")
    real = bench_for(device, quick=True)
    assert fp8_ceiling(real).value > 1.3 * matmul.matmul_ceiling(real, "bf16").value
