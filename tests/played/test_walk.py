"""Does `hwprof run --device cuda` come to its end, whole? On a played device, so that each change walks that path."""

import gc
import itertools
import weakref
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from played.device import Gpus
from played.nvml import played_nvml
from played.profile import played_profile
from played.sizes import SIZES
from played.small import small_probes
from played.tensors import MODES, tensors_on_cpu

import hwprof
from hwprof.cli.counted_step import counted_step
from hwprof.errors import OutOfMemoryError, WorkError
from hwprof.report.files.run import read_run
from hwprof.specs.record.run import RunSettings
from hwprof.train.loop import Trainer


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The directory of a run on one device."""
    folder, gpus = tmp_path_factory.mktemp("run"), Gpus()
    with pytest.MonkeyPatch.context() as patch:
        small_probes(patch)
        played_profile(patch)
        played_nvml(patch)
        with gpus.installed(patch), tensors_on_cpu(gpus, patch):
            hwprof.run(device="cuda", output=str(folder), **SIZES)
    return folder


@pytest.fixture(scope="module")
def record(folder):
    return read_run(folder)


def test_the_run_comes_to_its_end_and_leaves_every_file(folder, record):
    assert record.status == "complete"
    assert record.run_settings.device == "cuda"
    assert record.device.catalogue_id == "h200-sxm5-141gb"
    names = {path.name for path in folder.iterdir()}
    assert {"run.json", "report.html", "roofline.png", "step.png", "memory.png", "trace.json.gz"} <= names


def test_no_probe_of_a_gpu_fails(record):
    assert [skip for skip in record.skipped if skip.reason.startswith("failed with")] == []
    measured = {ceiling.name for ceiling in record.ceilings if ceiling.origin == "measured"}
    assert measured >= {
        "latency.dispatch",
        "latency.launch",
        "latency.host.forward_backward",
        "matmul.bf16",
        "matmul.tf32",
        "matmul.fp8",
        "matmul.bf16.16x64x32",
        "matmul.bf16.beside_copies",
        "memory.dram",
        "transfer.host_to_device.pinned",
        "transfer.device_to_host.pageable",
        "transfer.both.pinned",
    }


def test_parts_of_the_step_add_up_and_kernels_are_booked_to_modules(record):
    found = record.attribution
    parts_s = found.compute_s + found.exposed_communication_s + found.exposed_copy_s + found.idle_host_s
    assert parts_s + found.idle_input_s + found.residue_s == pytest.approx(found.step_s, rel=1e-9)
    assert found.explained_fraction > 0.5
    booked = {(op.label, op.direction) for op in record.ops}
    assert {("layers.*.ffn.up", "forward"), ("layers.*.ffn.up", "backward"), ("optimizer", "update")} <= booked


def test_a_small_model_is_predicted_no_faster_than_its_host_can_ask_for_it(record):
    host_s = {one.name: one.value for one in record.ceilings if one.name.startswith("latency.host.")}
    asked_s = sum(host_s[f"latency.host.{part}"] for part in ("forward_backward", "clip", "optimizer"))
    assert record.prediction.step_s >= 0.999 * asked_s


def test_a_device_generates_as_it_trains(tmp_path, monkeypatch):
    """The same way from probes to report; what the host asks of it takes longer than so small a model."""
    gpus = Gpus()
    small_probes(monkeypatch)
    played_profile(monkeypatch)
    played_nvml(monkeypatch)
    asked = {name: value for name, value in SIZES.items() if name != "workers"}
    with gpus.installed(monkeypatch), tensors_on_cpu(gpus, monkeypatch):
        found = hwprof.run(device="cuda", inference=True, new_tokens=3, output=str(tmp_path), **asked)
    assert (found.status, found.run_settings.dtype) == ("complete", "bf16")
    assert [skip for skip in found.skipped if skip.reason.startswith("failed with")] == []
    assert [phase.name for phase in found.phases] == ["host_to_device", "prefill", "decode"]
    host_s = {one.name: one.value for one in found.ceilings if one.name.startswith("latency.host.")}
    assert found.prediction.step_s >= 0.999 * (host_s["latency.host.prefill"] + 2 * host_s["latency.host.decode"])
    assert any(one.name.startswith("cached_attention.core.bf16.") for one in found.ceilings)
    booked = {(op.label, op.direction) for op in found.ops}
    assert {("layers.*.ffn.up", "forward"), ("layers.*.ffn.up", "decode")} <= booked


@pytest.mark.usefixtures("record")
def test_graphs_are_captured_without_disturbing_other_threads():
    assert set(MODES) == {"thread_local"}


def test_the_step_is_counted_again_on_the_device_that_it_had(monkeypatch):
    """A run on the second device; what ncu counts is its step, not one on the first."""
    made = []

    class Step:
        def __init__(self, *_given, device, **_named):
            made.append(device)

        def step(self):
            return 0.5

        def close(self):
            pass

    settings = RunSettings(model="tiny", device="cuda", micro_batch=1, seq_len=16)
    record = SimpleNamespace(run_settings=settings, spec=None, environment={"device.index": "1"})
    monkeypatch.setattr("hwprof.cli.counted_step.read_run", lambda _directory: record)
    monkeypatch.setattr("hwprof.train.loop.Trainer", Step)
    monkeypatch.setattr(torch.cuda.profiler, "profile", nullcontext)
    with Gpus(2).installed(monkeypatch):
        assert counted_step(Path()) == 0.5
    assert made == [torch.device("cuda", 1)]


def test_counters_of_the_gpu_stand_beside_the_run(record):
    series = {one.name: one.values for one in record.telemetry}
    assert set(series["gpu.sm_clock"]) == {1755e6}
    assert set(series["gpu.dram_bandwidth"]) == {0.42}
    assert len(series["gpu.power"]) > 1


def test_torch_is_left_without_what_was_played(record):
    assert record.status == "complete"
    assert not torch.cuda.is_available()
    assert isinstance(torch.Generator(), torch.Generator)
    with pytest.raises((AssertionError, RuntimeError)):
        torch.zeros(1, device="cuda")


def _run(gpus, patch, folder, **sizes):
    """A run whose probes are left out."""
    patch.setattr("hwprof.session.ceilings.probe_device", lambda *_args, **_options: None)
    played_profile(patch)
    played_nvml(patch)
    with gpus.installed(patch), tensors_on_cpu(gpus, patch):
        return hwprof.run(device="cuda", output=str(folder), **SIZES | sizes)


def test_what_runs_out_of_memory_is_let_go_though_its_error_is_kept(tmp_path, monkeypatch):
    """Free memory is there, but no piece of 450 kB of it: weights fit, the logits of eight sequences do not."""
    gpus, trainers = Gpus(), []
    gpus.largest_bytes = 450_000
    made = Trainer.__init__

    def seen(self, *args, **options):
        made(self, *args, **options)
        trainers.append(weakref.ref(self))

    monkeypatch.setattr(Trainer, "__init__", seen)
    with pytest.raises(OutOfMemoryError, match="CUDA out of memory") as caught:
        _run(gpus, monkeypatch, tmp_path, micro_batch=8, seq_len=64)
    gc.collect()
    assert [one() for one in trainers] == [None]
    assert "the step needs about" in str(caught.value)
    assert read_run(tmp_path).status == "out_of_memory"


def test_a_broken_context_ends_the_run_and_leaves_the_steps_before_it(tmp_path, monkeypatch):
    gpus, taken = Gpus(), itertools.count()
    step = Trainer.step

    def broken(self, *args):
        if next(taken) == 4:
            gpus.fail()
        return step(self, *args)

    monkeypatch.setattr(Trainer, "step", broken)
    with pytest.raises(WorkError, match="illegal memory access"):
        _run(gpus, monkeypatch, tmp_path)
    record = read_run(tmp_path)
    assert record.status == "failed"
    assert len(record.step.samples_s) == 1
    assert record.step.samples_s[0] > 0
