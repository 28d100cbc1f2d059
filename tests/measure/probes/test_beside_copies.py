"""Is the product timed while copies go on, and held against the same product alone? Streams are a stand-in's here."""

import itertools
import time
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from made_up_bench import made_up_bench
from scripted_timer import ScriptedTimer

from hwprof.measure.probes import beside_copies
from hwprof.measure.probes.bench import CannotRunError
from hwprof.measure.probes.beside_copies import beside_copies_ceiling
from hwprof.measure.probes.matmul import MatmulShape
from hwprof.measure.timing import Mark


class HalfScripted(ScriptedTimer):
    """Scripted durations on a host clock that goes on by itself."""

    def mark(self):
        return Mark(time.perf_counter())


@pytest.fixture
def copies(monkeypatch):
    """How many copies were begun, one entry a call."""
    begun = []
    monkeypatch.setattr(beside_copies, "SHAPE", MatmulShape(16, 16, 16))
    monkeypatch.setattr(beside_copies, "TRANSFER_BYTES", 4096)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda _device: None)
    monkeypatch.setattr(torch.cuda, "Stream", lambda _device: SimpleNamespace())
    monkeypatch.setattr(torch.cuda, "stream", lambda _stream: nullcontext())
    whole = beside_copies._Copies.start

    def start(self, count):
        begun.append(count)
        whole(self, count)

    monkeypatch.setattr(beside_copies._Copies, "start", start)
    return begun


def test_a_product_beside_copies_is_held_against_itself_alone(copies):
    found = beside_copies_ceiling(made_up_bench(HalfScripted([1e-4] * 5 + [2e-4] * 5)), "fp32")
    assert (found.name, found.unit) == ("matmul.fp32.beside_copies", "flop_per_s")
    assert found.value == pytest.approx(8192 / 2e-4)
    assert found.conditions["alone_flop_per_s"] == pytest.approx(8192 / 1e-4)
    assert found.conditions["slowdown"] == pytest.approx(2.0)
    assert copies[:2] == [1, 1]  # to see how long a copy takes
    assert len(copies) == 2 + 5  # then before each sample
    assert all(count >= 1 for count in copies)


def test_a_format_that_the_device_lacks_says_so():
    with pytest.raises(CannotRunError, match="tensor cores"):
        beside_copies_ceiling(made_up_bench(HalfScripted(itertools.repeat(1.0))), "tf32")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and none is visible")
def test_copies_do_not_speed_a_gpu_s_products_up():
    from hwprof.measure.probes.device import bench_for

    found = beside_copies_ceiling(bench_for(torch.device("cuda", 0), quick=True), "fp16")
    assert 0.9 < found.conditions["slowdown"] < 3
