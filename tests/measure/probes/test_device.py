import dataclasses
from contextlib import contextmanager

import pytest
import torch
from made_up_record import made_up_ceiling
from scripted_timer import ScriptedTimer

from hwprof.measure.host.caches import CacheLevel
from hwprof.measure.probes import device as probe
from hwprof.measure.probes.attention import AttentionPass, AttentionShape
from hwprof.measure.probes.bench import CannotRunError
from hwprof.measure.probes.device import ProbeResult, bench_for, probe_device
from hwprof.measure.probes.matmul import MatmulShape
from hwprof.measure.probes.step.host import HostStep
from hwprof.measure.probes.step.parts import Part
from hwprof.measure.timing import WallTimer
from hwprof.specs.catalogue.lookup import load_model
from hwprof.specs.job.settings import RunSettings
from hwprof.specs.job.step_kernels import StepKernel
from hwprof.specs.measurement import Skipped

CPU = torch.device("cpu")
OF_KERNELS = (
    "norm.rmsnorm.fp32.1024x1024.forward",
    "norm.rmsnorm.fp32.1024x1024.backward",
)
"""Probes of single kernels that need no model, in their order."""


LOSS = Part(work=StepKernel("loss", "cross_entropy", "fp32", (4, 16), "forward"), calls=2, moved_bytes=16)
STEP = HostStep(
    spec=load_model("tiny"),
    settings=RunSettings(model="tiny", device="cpu", micro_batch=1, seq_len=2),
    layer_bytes=0.0,
)


def product(m, n, k):
    return Part(work=MatmulShape(m, n, k), calls=1, flop=2 * m * n * k)


def refuse(*_args, **_keywords):
    raise CannotRunError("not today")


@pytest.fixture
def instant(monkeypatch):
    """Every probe of a CPU answers at once."""
    monkeypatch.setattr(probe, "matmul_ceiling", lambda _bench, dtype: made_up_ceiling(f"matmul.{dtype}"))
    monkeypatch.setattr(
        probe, "shape_ceiling", lambda _bench, dtype, shape, **_keywords: made_up_ceiling(f"matmul.{dtype}.{shape}")
    )
    monkeypatch.setattr(
        probe, "kernel_ceiling", lambda _bench, kernel, **_keywords: made_up_ceiling(str(kernel), kind="kernel")
    )
    monkeypatch.setattr(
        probe, "host_ceiling", lambda _bench, _step, part, _wall: made_up_ceiling(f"latency.host.{part}")
    )
    monkeypatch.setattr(probe, "dispatch_ceiling", lambda _bench, _wall: made_up_ceiling("latency.dispatch"))
    monkeypatch.setattr(probe, "dram_ceiling", lambda _bench: made_up_ceiling("memory.dram"))
    monkeypatch.setattr(probe, "cpu_level_ceiling", lambda _bench, cache: made_up_ceiling(f"memory.l{cache.level}"))
    monkeypatch.setattr(
        probe,
        "norm_ceiling",
        lambda _bench, shape, direction, **_keywords: made_up_ceiling(f"norm.{shape.kind}.fp32.{shape}.{direction}"),
    )
    monkeypatch.setattr(probe, "cpu_caches", lambda: (CacheLevel(level=2, instance_bytes=1024, instances=1),))


def probed(**options):
    return probe_device(CPU, **({"dtypes": ("fp32", "bf16"), "quick": True} | options))


@pytest.mark.usefixtures("instant")
def test_every_probe_ends_as_a_ceiling_or_as_a_reason(monkeypatch):
    monkeypatch.setattr(probe, "STEP_PROBES", 1000.0)
    found = probed(parts=(product(1, 2, 3), LOSS), dtype="bf16", step=STEP)
    assert {one.name for one in found.ceilings} == {
        "latency.dispatch",
        "matmul.fp32",
        "matmul.bf16",
        "memory.dram",
        "memory.l2",
        "matmul.bf16.1x2x3",
        "loss.cross_entropy.fp32.4x16.forward",
        "latency.host.forward",
        "latency.host.forward_backward",
        "latency.host.clip",
        "latency.host.optimizer",
        *OF_KERNELS,
    }
    assert {one.name: one.reason for one in found.skipped} == {
        "matmul.fp8": "fp8 is a number format of tensor cores; torch emulates it on a CPU",
        "latency.launch": "a CPU runs operations itself and launches no kernels; see latency.dispatch",
        "transfer": "no accelerator: host and device share memory",
    }


@pytest.mark.usefixtures("instant")
def test_a_probe_that_fails_costs_no_other(monkeypatch):
    monkeypatch.setattr(probe, "matmul_ceiling", refuse)
    found = probed()
    assert {one.name for one in found.ceilings} == {"latency.dispatch", *OF_KERNELS, "memory.dram", "memory.l2"}
    assert Skipped(name="matmul.bf16", reason="not today") in found.skipped


@pytest.mark.usefixtures("instant")
def test_a_repeated_dtype_is_measured_once():
    names = [one.name for one in probed(dtypes=("fp32", "fp32")).ceilings]
    assert len(names) == len(set(names))


@pytest.mark.usefixtures("instant")
def test_an_interrupt_leaves_what_was_measured_before_it(monkeypatch):
    def interrupt(_bench):
        raise KeyboardInterrupt

    monkeypatch.setattr(probe, "dram_ceiling", interrupt)
    so_far = [ProbeResult()]
    with pytest.raises(KeyboardInterrupt):
        probed(on_result=so_far.append)
    assert [one.name for one in so_far[-1].ceilings] == ["latency.dispatch", "matmul.fp32", "matmul.bf16"]


@pytest.mark.usefixtures("instant")
def test_each_probe_is_announced_with_its_number():
    lines = []
    probed(report=lines.append, parts=(product(1, 2, 3), LOSS), step=STEP)
    assert lines[0] == f"measuring latency.dispatch (1 of {len(lines)})"
    assert lines[-1] == f"measuring transfer ({len(lines)} of {len(lines)})"


@pytest.mark.usefixtures("instant")
def test_products_of_a_dtype_that_was_refused_are_refused_with_its_reason(monkeypatch):
    monkeypatch.setattr(probe, "matmul_ceiling", refuse)
    found = probed(parts=(product(1, 2, 3), LOSS))
    assert Skipped(name="matmul.fp32.1x2x3", reason="not today") in found.skipped
    assert "loss.cross_entropy.fp32.4x16.forward" in {one.name for one in found.ceilings}


@pytest.mark.usefixtures("instant")
def test_what_takes_most_of_the_step_at_the_roofs_is_measured_first(monkeypatch):
    monkeypatch.setattr(probe, "STEP_PROBES", 1000.0)
    # at 1 FLOP/s and 1 byte/s: 12 s once, 16 s twice, 12 s ten times
    parts = (product(1, 2, 3), LOSS, Part(work=MatmulShape(3, 2, 1), calls=10, flop=12))
    names = [one.name for one in probed(parts=parts).ceilings if one.name.startswith(("matmul.fp32.", "loss"))]
    assert names == ["matmul.fp32.3x2x1", "loss.cross_entropy.fp32.4x16.forward", "matmul.fp32.1x2x3"]


@pytest.mark.usefixtures("instant")
def test_what_there_is_no_time_for_says_how_much_of_the_step_it_is():
    found = probed(parts=(product(3, 2, 1), product(1, 2, 3)))  # 12 s a call, and 9 s for all
    (left_out,) = (one for one in found.skipped if one.name == "matmul.fp32.1x2x3")
    assert "it is 50 % of the step at the roofs" in left_out.reason
    assert left_out.remedy == "probe with --full"
    assert "matmul.fp32.3x2x1" in {one.name for one in found.ceilings}


@pytest.mark.usefixtures("instant")
def test_attention_is_measured_in_the_dtype_of_the_products_within_the_time_for_the_step(monkeypatch):
    deadlines_s = []

    def attention_ceiling(_bench, dtype, shape, direction, *, deadline_s):
        deadlines_s.append(deadline_s)
        return made_up_ceiling(f"attention.{dtype}.{shape}.{direction}")

    monkeypatch.setattr(probe, "attention_ceiling", attention_ceiling)
    shape = AttentionShape(spec=load_model("tiny"), batch=8, seq_len=256)
    parts = [Part(work=AttentionPass(shape, way), calls=1, moved_bytes=0.1) for way in ("forward", "backward")]
    names = [one.name for one in probed(parts=parts, dtype="bf16").ceilings]
    assert [name for name in names if name.startswith("attention.")] == [
        "attention.bf16.8x4x2x256x64.forward",
        "attention.bf16.8x4x2x256x64.backward",
    ]
    assert deadlines_s[0] == pytest.approx(4.5)  # half of the 9 s of a quick probe
    assert 8.6 < deadlines_s[1] <= 9.0  # all that the first left


@pytest.mark.usefixtures("instant")
def test_without_a_model_neither_its_attention_nor_its_host_is_measured():
    assert not [one for one in probed().ceilings if one.name.startswith(("attention.", "latency.host"))]


@pytest.mark.usefixtures("instant")
def test_unknown_caches_are_named_as_the_reason(monkeypatch):
    monkeypatch.setattr(probe, "cpu_caches", lambda: ())
    reasons = {one.name: one.reason for one in probed().skipped}
    assert reasons["memory.caches"] == "the operating system does not list the CPU's caches in /sys"


def test_a_full_probe_takes_more_samples_and_time_than_a_quick_one():
    quick, full = bench_for(CPU, quick=True), bench_for(CPU, quick=False)
    assert quick.samples < full.samples
    assert quick.probe_s < full.probe_s


def test_a_given_timer_replaces_the_device_s_own():
    timer = ScriptedTimer([])
    assert bench_for(CPU, quick=True, timer=timer).timer is timer
    assert isinstance(bench_for(CPU, quick=True).timer, WallTimer)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and none is visible")
def test_a_gpu_yields_compute_memory_transfer_and_latency_ceilings():
    found = probe_device(torch.device("cuda", 0), dtypes=("bf16",), quick=True)
    assert {one.kind for one in found.ceilings} == {"compute", "memory", "transfer", "latency"}


@pytest.mark.usefixtures("instant")
def test_a_norm_of_the_step_stands_for_the_one_that_is_measured_without_a_model():
    norm = Part(work=StepKernel("norm", "layernorm", "fp32", (256, 768), "forward"), calls=1, moved_bytes=1.0)
    names = [one.name for one in probed(parts=[norm]).ceilings]
    assert [name for name in names if name.startswith("norm.")] == ["norm.layernorm.fp32.256x768.forward"]


def test_a_gpu_s_copies_run_near_it_and_reach_every_other_gpu(monkeypatch):
    bound = []

    @contextmanager
    def near(device):
        bound.append(device)
        yield "near the GPU, NUMA node 1"

    gpu = torch.device("cuda", 1)
    bench = dataclasses.replace(bench_for(CPU, quick=True), device=gpu)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(probe, "near", near)
    monkeypatch.setattr(
        probe, "transfer_ceiling", lambda _bench, way, memory: made_up_ceiling(f"transfer.{way}.{memory}")
    )
    monkeypatch.setattr(probe, "both_ways_ceiling", lambda _bench: made_up_ceiling("transfer.both.pinned"))
    monkeypatch.setattr(
        probe, "peer_ceiling", lambda _bench, other, way: made_up_ceiling(f"transfer.{way}.{other.index}")
    )
    found = {name: run() for name, run in probe._transfer_probes(bench, peers=True)}
    assert all(name == one.name for name, one in found.items())
    assert [name for name in found if "peer" in name] == [
        "transfer.to_peer.0",
        "transfer.from_peer.0",
        "transfer.to_peer.2",
        "transfer.from_peer.2",
    ]
    assert len(bound) == 5
    assert found["transfer.both.pinned"].conditions["host_thread"] == "near the GPU, NUMA node 1"
