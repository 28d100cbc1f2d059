"""Do probes of a device whose kernels have known lengths find these, whatever the host takes beside?"""

import dataclasses
import itertools
import time

import pytest
import torch
from made_up_bench import made_up_bench
from made_up_model import made_up_model
from played.device import US, Gpus, HandClock
from played.nvml import played_nvml
from played.small import small_probes
from played.tensors import tensors_on_cpu
from scripted_timer import ScriptedTimer

from hwprof.measure.links.slowdown import _beside_products_s
from hwprof.measure.probes import attention, matmul, memory, transfer
from hwprof.measure.probes import bench as benches
from hwprof.measure.probes import device as probes
from hwprof.measure.probes.bench import CannotRunError
from hwprof.measure.probes.device import bench_for, probe_device
from hwprof.measure.probes.matmul import MatmulShape
from hwprof.measure.probes.memory import Arrays, _level_ceiling
from hwprof.measure.probes.sampling import Samples
from hwprof.measure.timing import EventTimer, WallTimer

CUDA = torch.device("cuda", 0)


@pytest.fixture
def gpus(monkeypatch):
    gpus = Gpus(2, clock=HandClock())
    monkeypatch.setattr(benches.time, "perf_counter", lambda: gpus.clock.now_ns() / 1e9)
    with gpus.installed(monkeypatch):
        yield gpus


def _bench(gpus, **changes):
    return made_up_bench(EventTimer(CUDA), device=CUDA, **changes), lambda: gpus.launch("flush", 3.0)


def test_time_of_a_short_kernel_has_no_enqueueing_in_it(gpus):
    """A backward pass that takes the host 90 us to enqueue and the device 5 us to run."""

    def backward():
        gpus.clock.pass_ns(80 * US)
        gpus.launch("backward", 5.0, call_us=10.0)

    bench, flush = _bench(gpus)
    with_host = bench.time(backward, deadline_s=1.0, prepare=flush)
    assert min(with_host.seconds) > 80e-6
    bench, flush = _bench(gpus, spin=lambda seconds: gpus.launch("spin", seconds * 1e6, call_us=0.0))
    alone = bench.time(backward, deadline_s=1.0, prepare=flush)
    assert alone.seconds == pytest.approx((5e-6,) * 5, rel=0.01)


def test_each_ceiling_says_at_which_clock_it_was_measured(gpus, monkeypatch):
    played_nvml(monkeypatch, "throttled")
    whole = bench_for(CUDA, quick=True)
    bench, flush = _bench(gpus, clock_hz=whole.clock_hz)
    timed = bench.time(lambda: gpus.launch("gemm", 700.0), deadline_s=1.0, prepare=flush)
    found = bench.ceiling("matmul.bf16", "compute", timed, work_per_call=1e9)
    assert found.conditions["sm_clock_hz"] == 1.2e9
    assert whole.spin is not None


@pytest.mark.usefixtures("gpus")
def test_a_clock_that_the_driver_does_not_tell_is_left_out(monkeypatch):
    played_nvml(monkeypatch, "nodriver")
    assert bench_for(CUDA, quick=True).clock_hz() is None


def _level(monkeypatch, seconds, startup_s):
    """An L2 whose kernels and whose empty kernels take so long, in a graph of a GPU."""

    def timed(_bench, _kernel, arrays, *, deadline_s):  # noqa: ARG001 (the times are written down)
        each = startup_s if arrays.a.numel() == 1 else seconds
        return Samples(seconds=(each,) * 5, warmups=1, repeats=1, discarded=0)

    monkeypatch.setattr(memory, "_timed", timed)
    full, empty = (torch.empty(size) for size in (2_000_000, 1))
    bench = made_up_bench(WallTimer(), device=CUDA)
    arrays, startup = (Arrays(one, one, one, one) for one in (full, empty))
    return _level_ceiling(bench, "l2", arrays, startup, level_bytes=50_000_000, conditions={})


def test_l2_of_a_hopper_is_measured_though_starting_a_node_takes_a_third_of_its_kernels(monkeypatch):
    """Three arrays of 8 MB at 6 TB/s take 4 us, and a node of a graph 1.4 us before it."""
    found = _level(monkeypatch, 4e-6 + 1.4e-6, 1.4e-6)
    assert found.value == pytest.approx(6e12)
    assert found.conditions["startup"] == "subtracted"


def test_l2_whose_kernels_are_mostly_their_start_is_not_measured(monkeypatch):
    with pytest.raises(CannotRunError, match=r"58\.3 % of the 2\.4 µs"):
        _level(monkeypatch, 2.4e-6, 1.4e-6)


def test_ranks_open_no_context_on_the_devices_of_others(gpus, monkeypatch):
    names = []
    small_probes(monkeypatch)
    probe_device(CUDA, dtypes=(), peers=False, quick=True, report=names.append, timer=ScriptedTimer([]))
    assert not [name for name in names if "peer" in name]
    assert gpus.touched <= {0}
    assert [name for name, _ in probes._transfer_probes(_bench(gpus)[0], peers=True) if "peer" in name]


@pytest.mark.parametrize(("direction", "access", "path"), [("to_peer", True, "direct"), ("from_peer", False, "thr")])
def test_copies_between_devices_say_which_way_they_go(monkeypatch, direction, access, path):
    gpus = Gpus(2)
    monkeypatch.setattr(transfer, "TRANSFER_BYTES", 2**16)
    with gpus.installed(monkeypatch), tensors_on_cpu(gpus, monkeypatch):
        monkeypatch.setattr(torch.cuda, "can_device_access_peer", lambda _one, _other: access)
        bench = made_up_bench(ScriptedTimer(itertools.repeat(2e-6)), device=CUDA)
        found = transfer.peer_ceiling(bench, torch.device("cuda", 1), direction)
    assert found.name == f"transfer.{direction}.1"
    assert found.value == pytest.approx(2**16 / 2e-6)
    assert found.conditions["path"].startswith(path)


def test_products_beside_communication_never_queue_up(monkeypatch):
    """A product that takes the device longer than the host to ask for it: one of them at a time is under way."""
    gpus = Gpus()
    waiting = []
    with gpus.installed(monkeypatch):

        def product():
            waiting.append(not gpus.stream().query())
            gpus.launch("gemm", 3000.0)

        class Alone:
            device = CUDA

            def barrier(self):
                pass

            def largest(self, values):
                return values

        def work():
            asked, until_s = len(waiting), time.monotonic() + 60
            while len(waiting) <= asked and time.monotonic() < until_s:
                time.sleep(1e-3)

        _beside_products_s(Alone(), WallTimer(), product, work)
    assert len(waiting) > 2
    assert not any(waiting)


def test_parts_of_a_step_are_timed_at_clocks_that_a_step_has(monkeypatch, gpus):
    """A product of 1 ms runs for 0.3 s before its first sample; so does attention."""
    heated = []
    heat = matmul.heat

    def counted(bench, _work):
        before = len(gpus.works)
        heat(dataclasses.replace(bench, timer=EventTimer(CUDA)), lambda: gpus.launch("gemm", 1000.0))
        heated.append(sum(work.end_ns - work.start_ns for work in gpus.works[before:]) / 1e9)

    monkeypatch.setattr(matmul, "heat", counted)
    monkeypatch.setattr(attention, "heat", counted)
    monkeypatch.setattr(matmul, "FLUSH_BYTES", 2**16)
    bench = made_up_bench(ScriptedTimer(itertools.repeat(1e-3)), device=CUDA)
    shape = attention.AttentionShape(spec=made_up_model(), batch=1, seq_len=16)
    with tensors_on_cpu(gpus, monkeypatch), torch.inference_mode():
        matmul.shape_ceiling(bench, "bf16", MatmulShape(16, 16, 16), deadline_s=0.01)
        for direction in attention.PASSES:
            attention.attention_ceiling(bench, "bf16", shape, direction, deadline_s=0.01)
    assert len(heated) == 3
    assert all(0.3 <= seconds < 0.35 for seconds in heated)
