import itertools
import time
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from made_up_bench import made_up_bench
from scripted_timer import ScriptedTimer

from hwprof.errors import WorkError
from hwprof.measure.probes import transfer
from hwprof.measure.probes.bench import CannotRunError
from hwprof.measure.probes.device import bench_for
from hwprof.measure.probes.latency import dispatch_ceiling, launch_ceiling
from hwprof.measure.probes.transfer import (
    DIRECTIONS,
    HOST_MEMORIES,
    PEER_DIRECTIONS,
    both_ways_ceiling,
    check_copy,
    peer_ceiling,
    transfer_ceiling,
)
from hwprof.measure.timing import WallTimer

CPU = torch.device("cpu")


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_transfer_counts_each_byte_once(monkeypatch, direction):
    monkeypatch.setattr(transfer, "TRANSFER_BYTES", 4096)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda _device: None)
    found = transfer_ceiling(made_up_bench(ScriptedTimer(itertools.repeat(0.5))), direction, "pageable")
    assert (found.name, found.kind) == (f"transfer.{direction}.pageable", "transfer")
    assert found.value == 8192.0  # 4096 B in 0.5 s


@pytest.fixture
def _streams_of_a_cpu(monkeypatch):
    """CUDA's streams where there are none: everything happens at once."""
    stream = SimpleNamespace(wait_stream=lambda _other: None)
    monkeypatch.setattr(transfer, "TRANSFER_BYTES", 4096)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda _device: None)
    monkeypatch.setattr(torch.cuda, "Stream", lambda _device: stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _device: stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda _stream: nullcontext())


@pytest.mark.usefixtures("_streams_of_a_cpu")
def test_copies_both_ways_at_once_count_the_bytes_of_both():
    found = both_ways_ceiling(made_up_bench(ScriptedTimer(itertools.repeat(0.5))))
    assert (found.name, found.kind) == ("transfer.both.pinned", "transfer")
    assert found.value == 16384.0  # 4096 B each way in 0.5 s


@pytest.mark.usefixtures("_streams_of_a_cpu")
def test_a_way_that_does_not_arrive_is_an_error(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "copy_", lambda target, _source, **_keywords: target)
    with pytest.raises(WorkError, match="copied bytes differ"):
        both_ways_ceiling(made_up_bench(ScriptedTimer(itertools.repeat(0.5))))


@pytest.mark.parametrize(("direct", "path"), [(True, "direct"), (False, "through the host")])
@pytest.mark.parametrize("direction", PEER_DIRECTIONS)
def test_a_copy_to_another_gpu_counts_each_byte_once_and_says_its_path(monkeypatch, direction, direct, path):
    monkeypatch.setattr(transfer, "TRANSFER_BYTES", 4096)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda _device: None)
    monkeypatch.setattr(torch.cuda, "can_device_access_peer", lambda _one, _other: direct)
    other = torch.device("cpu", 0)  # stands for the second GPU
    found = peer_ceiling(made_up_bench(ScriptedTimer(itertools.repeat(0.5))), other, direction)
    assert (found.name, found.value) == (f"transfer.{direction}.0", 8192.0)
    assert found.conditions["path"] == path


def test_a_copy_that_lost_a_byte_is_an_error():
    source = torch.arange(100, dtype=torch.uint8)
    check_copy(source, source.clone())
    wrong = source.clone()
    wrong[7] = 0
    with pytest.raises(WorkError, match="1 of 100 copied bytes differ"):
        check_copy(source, wrong)


def test_dispatch_is_the_host_s_time_for_one_call():
    # 1 call in 0.5 ms asks for 2, which take 1 ms; five samples of 2 calls in 2 ms each
    wall = ScriptedTimer([0.5e-3, 1e-3, *[2e-3] * 5])
    found = dispatch_ceiling(made_up_bench(ScriptedTimer([])), wall)
    assert (found.name, found.unit) == ("latency.dispatch", "s")
    assert found.value == pytest.approx(1e-3)
    assert found.conditions["calls_per_sample"] == 2


def test_a_real_dispatch_takes_between_ten_nanoseconds_and_a_millisecond():
    real = bench_for(CPU, quick=True)
    assert 10e-9 < dispatch_ceiling(real, WallTimer()).value < 1e-3


def test_a_cpu_launches_no_kernels():
    with pytest.raises(CannotRunError, match="launches no kernels"):
        launch_ceiling(made_up_bench(ScriptedTimer([])))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and none is visible")
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("host_memory", HOST_MEMORIES)
def test_a_gpu_s_link_moves_more_than_a_gigabyte_a_second(direction, host_memory):
    real = bench_for(torch.device("cuda", 0), quick=True)
    assert transfer_ceiling(real, direction, host_memory).value > 1e9


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and none is visible")
def test_a_gpu_runs_the_smallest_kernel_in_less_than_a_host_needs_to_wait_for_it():
    device = torch.device("cuda", 0)
    x = torch.ones(1, device=device)
    torch.cuda.synchronize()
    began_s = time.perf_counter()
    for _ in range(100):
        x.add_(1)
        torch.cuda.synchronize()
    assert 0 < launch_ceiling(bench_for(device, quick=True)).value < (time.perf_counter() - began_s) / 100


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and none is visible")
def test_both_ways_at_once_move_more_than_one_way_alone():
    real = bench_for(torch.device("cuda", 0), quick=True)
    assert both_ways_ceiling(real).value > 1.2 * transfer_ceiling(real, "host_to_device", "pinned").value
