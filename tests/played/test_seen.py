"""What is seen of a machine whose torch or driver tells less than usual, or has several devices?"""

import pynvml
import pytest
import torch
from played.device import H200, Gpus, HandClock
from played.nvml import played_nvml

from hwprof.loop.together import Together
from hwprof.measure.doctor.checks import CHECKS, examine
from hwprof.measure.doctor.machine import Machine
from hwprof.measure.entries.ledger import Spent, Sync
from hwprof.measure.probes.matmul import require_support
from hwprof.measure.probes.memory import _last_level_cache
from hwprof.measure.telemetry.clock import clock_of
from hwprof.measure.telemetry.readers import gpu_readers
from hwprof.session.settle import _visible_cluster
from hwprof.specs.catalogue.lookup import load_device

CUDA = torch.device("cuda", 0)


def _checks(root, *files):
    for path in files:
        place = root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()
    machine = Machine(root=root, environ={})
    return {found.name: found for check in CHECKS for found in check(machine)}


def test_doctor_names_the_gpus_their_driver_and_a_profiler_that_sees_none_of_them(tmp_path, monkeypatch):
    played_nvml(monkeypatch, count=2)
    with Gpus(2).installed(monkeypatch):
        found = _checks(tmp_path)
    assert (found["GPU"].status, found["GPU"].found) == ("ok", "2 visible: NVIDIA H200")
    assert (found["NVML"].status, found["NVML"].found) == ("ok", "driver 580.95.05, 2 devices")
    assert (found["torch profiler"].status, found["torch profiler"].found) == ("limited", "records CPU")


def test_doctor_outlives_a_binding_that_breaks_in_an_unforeseen_way(tmp_path, monkeypatch):
    def unforeseen():
        raise OSError("undefined symbol: nvmlInit_v2\nand more")

    monkeypatch.setattr(pynvml, "nvmlInit", unforeseen)
    found = _checks(tmp_path)["NVML"]
    assert (found.status, found.found) == ("not here", "undefined symbol: nvmlInit_v2")


def test_a_check_that_fails_itself_costs_the_doctor_no_other(tmp_path, monkeypatch):
    with Gpus().installed(monkeypatch):
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda _index: 1 / 0)
        found = {one.name: one for one in examine(Machine(root=tmp_path, environ={}))}
    assert found["cuda"].found == "the check failed with ZeroDivisionError: division by zero"
    assert {"torch", "backends", "NVML", "GPU counters", "C++ compiler"} <= found.keys()


@pytest.mark.parametrize(
    ("environ", "says"),
    [({}, "a driver, but none that torch's ROCm 6.4.1 can use"), ({"HIP_VISIBLE_DEVICES": "9"}, "hidden by HIP")],
)
def test_doctor_on_a_machine_with_a_gpu_of_amd_that_torch_does_not_see(tmp_path, monkeypatch, environ, says):
    monkeypatch.setattr(torch.version, "hip", "6.4.1")
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "kfd").touch()
    machine = Machine(root=tmp_path, environ=environ)
    found = {one.name: one for check in CHECKS for one in check(machine)}["GPU"]
    assert found.status == "missing"
    assert found.found.startswith(says)


def test_a_torch_without_uuids_counts_devices_as_nvml_does_unless_some_are_hidden(monkeypatch):
    played_nvml(monkeypatch)
    gpus = Gpus()
    del gpus.properties.uuid
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with gpus.installed(monkeypatch):
        assert gpu_readers(pynvml, 0)[0]
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
        readers, skipped = gpu_readers(pynvml, 0)
    assert readers == ()
    assert "uuid" in skipped[0].reason


def test_a_device_that_nvml_does_not_know_has_no_counters_and_no_clock(monkeypatch):
    played_nvml(monkeypatch, uuid="another")
    with Gpus().installed(monkeypatch):
        readers, skipped = gpu_readers(pynvml, 0)
        assert clock_of(CUDA)() is None
    assert readers == ()
    assert skipped[0].reason == "NVML: Not Found"


def test_a_clock_that_is_refused_later_costs_no_probe(monkeypatch):
    played_nvml(monkeypatch)
    with Gpus().installed(monkeypatch):
        clock = clock_of(CUDA)
        assert clock() == 1755e6
        monkeypatch.setattr(pynvml, "nvmlDeviceGetClockInfo", lambda *_given: 1 / 0)
        assert clock() is None


def test_a_torch_that_does_not_tell_the_cache_assumes_one_and_says_so(monkeypatch):
    gpus = Gpus()
    del gpus.properties.L2_cache_size
    with gpus.installed(monkeypatch):
        size_bytes, note = _last_level_cache(CUDA)
    assert size_bytes == 64 * 2**20
    assert note.endswith("67.11 MB assumed")


def test_formats_that_a_gpu_of_amd_takes_pass(monkeypatch):
    monkeypatch.setattr(torch.version, "hip", "6.4.1")
    with Gpus(gcnArchName="gfx942").installed(monkeypatch):
        assert require_support(CUDA, "bf16") is None
        assert require_support(torch.device("xpu", 0), "bf16") is None


@pytest.mark.parametrize(("count", "devices"), [(1, None), (8, 8)])
def test_several_known_gpus_of_a_machine_are_a_cluster(monkeypatch, count, devices):
    with Gpus(count).installed(monkeypatch):
        found = _visible_cluster(load_device("h200-sxm5-141gb"))
    assert (found and found.devices) == devices


def test_what_a_rank_computed_between_two_meetings_is_what_its_gpu_did_beside_what_the_host_was_busy_with(monkeypatch):
    """Kernels of 5 ms; the host launched for 2 ms of it, of which 0.5 without a processor, and loaded for 1 ms."""
    gpus = Gpus(clock=HandClock(), **H200)
    with gpus.installed(monkeypatch):
        together = Together(torch.nn.Linear(1, 1), (), CUDA)
        left = together._timer.mark()
        gpus.launch("gemm", 5000.0, call_us=0.0, latency_us=0.0)
        spent = {
            "forward": Spent(wall_s=2e-3, ran_s=1e-3, delayed_s=0.5e-3),
            "loading": Spent(wall_s=1e-3, ran_s=1e-3, delayed_s=0.0),
        }
        sync = Sync("all_reduce", together._timer.mark(), left, spent)
        causes, delayed_s, _ = together._before(sync, loads=True)
    assert causes == pytest.approx({"host": 1.5e-3, "input": 1e-3, "compute": 2.5e-3})
    assert delayed_s == pytest.approx(0.5e-3)
