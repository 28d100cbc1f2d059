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
