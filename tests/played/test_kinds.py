"""What is measured on GPUs of AMD, Intel and Apple? What torch offers for them; the rest says what is missing."""

import types

import pytest
import torch
from played.device import Gpus
from played.profile import played_profile
from played.sizes import SIZES
from played.small import small_probes
from played.tensors import tensors_on_cpu
from rank_pool import RankPool

import hwprof
from hwprof.errors import InputError
from hwprof.measure.host.environment import environment, resolve_device
from hwprof.measure.host.memory import available_memory_bytes
from hwprof.measure.links.topology import topology
from hwprof.measure.probes.bench import CannotRunError
from hwprof.measure.probes.fp8 import format_of
from hwprof.measure.probes.matmul import require_support
from hwprof.measure.world import _device_of
from hwprof.report.files.run import read_run
from hwprof.session.settle import _default_dtype
from hwprof.train.precision import select_precision

CUDA = torch.device("cuda", 0)


@pytest.fixture
def amd(monkeypatch):
    """A GPU of AMD, as torch for ROCm shows it: ``cuda``, with a capability that is no NVIDIA one."""

    def made(architecture):
        monkeypatch.setattr(torch.version, "hip", "6.4.1")
        properties = {"name": "AMD Instinct MI300X", "major": 9, "minor": 4}
        return Gpus(gcnArchName=f"{architecture}:sramecc+:xnack-", **properties).installed(monkeypatch)

    return made


def test_a_gpu_of_amd_is_named_as_such(amd, tmp_path, monkeypatch):
    monkeypatch.setattr("hwprof.measure.host.environment._AMD_DRIVER", tmp_path / "version")
    (tmp_path / "version").write_text("6.12.12\n")
    with amd("gfx942"):
        found = environment(CUDA)
        assert found["device"] == "AMD Instinct MI300X"
        assert (found["torch.hip"], found["device.architecture"]) == ("6.4.1", "gfx942:sramecc+:xnack-")
        assert found["driver"] == "6.12.12"
        assert "miopen" in found
        assert "cudnn" not in found
        assert topology(CUDA, "host")[1].reason == "NVML tells about NVIDIA GPUs alone, not ROCm's"
        assert available_memory_bytes(CUDA)[1] == "free on the device, as ROCm reports it"


@pytest.mark.parametrize(
    ("architecture", "bf16", "fp8"),
    [
        ("gfx942", True, torch.float8_e4m3fnuz),
        ("gfx950", True, torch.float8_e4m3fn),
        ("gfx90a", True, None),
        ("gfx1100", True, None),
        ("gfx906", False, None),
    ],
)
def test_formats_of_a_gpu_of_amd_are_those_of_its_matrix_units(amd, architecture, bf16, fp8):
    with amd(architecture):
        assert _default_dtype(CUDA) == ("bf16" if bf16 else "fp32")
        with pytest.raises(CannotRunError, match="tf32 is a number format of NVIDIA"):
            require_support(CUDA, "tf32")
        with pytest.raises(InputError, match="tf32 is a format of NVIDIA GPUs; choose --dtype fp32 or bf16"):
            select_precision("tf32", CUDA)
        if fp8 is None:
            with pytest.raises(CannotRunError, match=f"the matrix units of {architecture} take no fp8"):
                format_of(CUDA)
        else:
            assert format_of(CUDA) == fp8
        if not bf16:
            with pytest.raises(CannotRunError, match="gfx906 don't take bf16"):
                require_support(CUDA, "bf16")


def _run(kind, folder, patch):
    gpus = Gpus(kind=kind, name="Intel(R) Data Center GPU Max 1550")
    small_probes(patch)
    played_profile(patch)
    with gpus.installed(patch), tensors_on_cpu(gpus, patch):
        hwprof.run(device=kind, output=str(folder), **SIZES)
    return read_run(folder)


def test_a_gpu_of_intel_is_probed_trained_on_and_attributed(tmp_path, monkeypatch):
    record = _run("xpu", tmp_path, monkeypatch)
    assert (record.status, record.run_settings.device, record.run_settings.dtype) == ("complete", "xpu", "bf16")
    assert record.device.name == "Intel(R) Data Center GPU Max 1550"
    measured = {one.name for one in record.ceilings if one.origin == "measured"}
    assert measured >= {"matmul.bf16", "memory.dram", "latency.launch", "transfer.both.pinned", "matmul.bf16.16x64x32"}
    skipped = {skip.name: skip.reason for skip in record.skipped}
    assert skipped["matmul.tf32"] == "tf32 is a number format of NVIDIA tensor cores"
    assert skipped["memory.l2"] == "torch does not tell how large the caches of xpu are"
    assert skipped["matmul.fp8"] == "whether the matrix units of xpu take fp8 is not told by torch"
    series = {one.name: one.values[0] for one in record.telemetry if one.name.startswith("gpu.")}
    assert series == {
        "gpu.power": 450.0,
        "gpu.sm_clock": 1600e6,
        "gpu.temperature": 52.0,
        "gpu.utilization": 0.93,
        "gpu.memory_utilization": 0.4,
        "gpu.memory_used": 65e9,
    }
    clocks = {one.conditions.get("sm_clock_hz") for one in record.ceilings if one.name == "matmul.bf16.16x64x32"}
    assert clocks == {1600e6}
    assert not [reason for reason in skipped.values() if reason.startswith("failed with")]
    assert record.attribution is not None
    assert record.memory.measured_source == "torch.xpu.max_memory_allocated over one step"
    assert record.memory.measured_peak_bytes == 123_456_789


def test_a_gpu_of_apple_is_timed_and_says_what_its_profiler_and_allocator_do_not_tell(tmp_path, monkeypatch):
    record = _run("mps", tmp_path, monkeypatch)
    assert (record.status, record.run_settings.device, record.run_settings.dtype) == ("complete", "mps", "fp32")
    measured = {one.name for one in record.ceilings if one.origin == "measured"}
    assert measured >= {
        "matmul.fp32",
        "matmul.bf16",
        "memory.dram",
        "latency.launch",
        "transfer.host_to_device.pinned",
        "matmul.fp32.16x64x32",
        "attention.fp32.1x4x2x16x8.backward",
        "latency.host.forward_backward",
    }
    assert {skip.name: skip.reason for skip in record.skipped} == {
        "matmul.tf32": "tf32 is a number format of NVIDIA tensor cores",
        "matmul.fp8": "whether the matrix units of mps take fp8 is not told by torch",
        "memory.l2": "torch does not tell how large the caches of mps are",
        "transfer.both.pinned": "torch has no streams of mps",
        "matmul.fp32.beside_copies": "torch has no streams of mps",
        "gpu": "torch.mps reads no counters, and no other library here does",
    }
    assert record.run_settings.optimizer_implementation == "for-loop"
    assert len(record.step.samples_s) == 2
    assert {"forward", "backward", "optimizer"} <= {phase.name for phase in record.phases}
    assert record.attribution is None
    blind = "torch.profiler records no kernels of mps here, so the step and its phases are timed but not attributed"
    assert blind in record.notes
    assert record.memory.measured_peak_bytes is None
    assert record.device.memory_source == "left of what Metal recommends for this GPU, which shares the host's memory"


def run_on_ascend(_world, folder):
    """In a process of its own, as torch can be told only once what its private device is called."""
    torch.utils.rename_privateuse1_backend("npu")
    torch.npu = types.ModuleType("torch.npu")
    gpus = Gpus(kind="npu", name="Ascend910B3")
    with pytest.MonkeyPatch.context() as patch:
        small_probes(patch)
        played_profile(patch)
        with gpus.installed(patch), tensors_on_cpu(gpus, patch):
            hwprof.run(device="npu", output=folder, **SIZES)


def test_an_npu_of_ascend_is_probed_and_timed_and_its_kernels_are_missing_where_the_profiler_has_none(tmp_path):
    pool = RankPool(1, joined=False)
    try:
        pool.run(run_on_ascend, str(tmp_path))
    finally:
        pool.close()
    record = read_run(tmp_path)
    assert (record.status, record.run_settings.device, record.run_settings.dtype) == ("complete", "npu", "bf16")
    assert (record.device.name, record.environment["device.count_visible"]) == ("Ascend910B3", "1")
    measured = {one.name for one in record.ceilings if one.origin == "measured"}
    assert measured >= {"matmul.bf16", "memory.dram", "transfer.both.pinned", "latency.host.forward_backward"}
    assert {skip.name: skip.reason for skip in record.skipped} == {
        "matmul.tf32": "tf32 is a number format of NVIDIA tensor cores",
        "matmul.fp8": "whether the matrix units of npu take fp8 is not told by torch",
        "memory.l2": "torch does not tell how large the caches of npu are",
        "gpu": "torch.npu reads no counters, and no other library here does",
    }
    assert record.attribution is None
    assert any(note.startswith("torch.profiler records no kernels of npu here") for note in record.notes)
    assert record.memory.measured_peak_bytes == 123_456_789


def test_what_is_not_there_says_what_torch_lacks():
    with pytest.raises(InputError, match=r"no Ascend \(npu\) device is visible; torch \S+ has no torch\.npu; use"):
        resolve_device("npu")
    with pytest.raises(
        InputError, match=r"no Apple GPU \(mps\) device is visible; torch \S+ has torch\.mps, which says"
    ):
        resolve_device("mps:0")


def test_auto_takes_whichever_accelerator_there_is(monkeypatch):
    with Gpus(kind="xpu").installed(monkeypatch):
        assert resolve_device("auto") == torch.device("xpu", 0)
        with pytest.raises(InputError, match="there is no device xpu:3; 1 Intel GPU"):
            resolve_device("xpu:3")


@pytest.mark.parametrize(
    ("kind", "lacks"), [("xpu", "need xccl, which torch lacks here"), ("mps", "talk through nothing that torch has")]
)
def test_ranks_of_a_kind_whose_library_is_not_here_are_refused(monkeypatch, kind, lacks):
    with Gpus(kind=kind).installed(monkeypatch), pytest.raises(InputError, match=f"several ranks on {kind} {lacks}"):
        _device_of(kind, 0)


def test_each_rank_of_a_kind_takes_its_own_device_and_torchs_library_for_it(monkeypatch):
    monkeypatch.setattr(torch.distributed, "is_backend_available", lambda name: name == "xccl")
    with Gpus(2, kind="xpu").installed(monkeypatch):
        assert _device_of("xpu", 1) == torch.device("xpu", 1)
        with pytest.raises(InputError, match="--device xpu:1 names one device for all ranks"):
            _device_of("xpu:1", 1)
    with Gpus(1, kind="xpu").installed(monkeypatch):
        assert _device_of("xpu", 1) == torch.device("xpu", 0)
