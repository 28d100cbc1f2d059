"""Is somebody's own loop on a GPU measured as one? On a played device, whose tensors lie on the CPU."""

import pytest
import torch
from played.device import Gpus
from played.nvml import played_nvml
from played.profile import played_profile
from played.tensors import tensors_on_cpu
from torch import nn

import hwprof
from hwprof.measure.their_loop.model import SeenModel


@pytest.fixture(scope="module")
def record():
    gpus = Gpus()
    with pytest.MonkeyPatch.context() as patch:
        played_profile(patch)
        played_nvml(patch, "throttled")
        patch.setattr(SeenModel, "device", property(lambda _self: torch.device("cuda", 0)))
        with gpus.installed(patch), tensors_on_cpu(gpus, patch):
            model = nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 8)).to("cuda")
            optimizer = torch.optim.AdamW(model.parameters())
            schedule = hwprof.Schedule(warmup=3, timed=6, profiled=2)
            with hwprof.profile(model, optimizer, schedule=schedule, ceilings="datasheet") as prof:
                while not prof.done:
                    loss = model(torch.randn(16, 32, device="cuda")).square().mean()
                    loss.backward()
                    optimizer.step()
                    optimizer.zero_grad()
                    prof.step()
    return prof.record


def test_it_is_complete_and_its_device_is_the_gpu(record):
    assert (record.status, record.settings.device) == ("complete", "cuda")
    assert record.device.catalogue_id == "h200-sxm5-141gb"
    assert record.environment["device.index"] == "0"


def test_kernels_are_booked_to_modules_on_the_devices_clock(record):
    assert {("0", "forward"), ("2", "forward"), ("2", "backward"), ("optimizer", "update")} <= {
        (op.label, op.direction) for op in record.ops
    }
    assert {"forward", "backward", "optimizer"} <= {phase.name for phase in record.phases}
    assert record.attribution.note.startswith("GPU: ")


def test_memory_is_the_allocators_and_the_clock_is_said(record):
    assert record.memory.measured_peak_bytes == 123_456_789
    assert record.memory.reserved_bytes == 150_994_944
    assert {one.name for one in record.telemetry} >= {"gpu.sm_clock", "gpu.power", "gpu.throttle.power_cap"}


@pytest.mark.parametrize("ends", ["broken", "full"])
def test_a_loop_whose_device_breaks_or_is_full_ends_with_that_error_and_keeps_its_steps(monkeypatch, ends):
    """After three warm-up steps; the steps are timed in pairs, of which two are done."""
    gpus = Gpus()
    played_profile(monkeypatch)
    played_nvml(monkeypatch)
    monkeypatch.setattr(SeenModel, "device", property(lambda _self: torch.device("cuda", 0)))
    error = {"broken": torch.AcceleratorError, "full": torch.OutOfMemoryError}[ends]
    with gpus.installed(monkeypatch):
        with tensors_on_cpu(gpus, monkeypatch):
            model = nn.Linear(8, 8).to("cuda")
            optimizer = torch.optim.AdamW(model.parameters())
            schedule = hwprof.Schedule(warmup=3, timed=20, profiled=2)
            prof = hwprof.profile(model, optimizer, schedule=schedule, ceilings="datasheet")
            with pytest.raises(error), prof:  # noqa: PT012 (the loop is what ends)
                for number in range(30):
                    if number == 7:
                        gpus.largest_bytes = 1
                        gpus.broken = "CUDA error: unspecified launch failure" if ends == "broken" else None
                    model(torch.randn(4, 8, device="cuda")).square().mean().backward()
                    optimizer.step()
                    optimizer.zero_grad()
                    prof.step()
        record = prof.record
    assert record.status != "complete"
    assert 1 <= len(record.step.samples_s) <= 2
    assert all(sample > 0 for sample in record.step.samples_s)
    assert not model._forward_hooks
    assert not model._forward_pre_hooks
