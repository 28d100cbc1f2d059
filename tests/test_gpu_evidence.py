"""Does the script that gathers evidence on a GPU run, end in time and say what it can't do? Here on its CPU path."""

import dataclasses
import importlib.util
import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from hwprof.errors import OutOfMemoryError
from hwprof.measure.probes import device as probe
from hwprof.specs.catalogue.lookup import load_device
from hwprof.specs.record.run import RunSettings

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "gpu_evidence.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("gpu_evidence", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def short_probes(monkeypatch):
    whole = probe.bench_for
    monkeypatch.setattr(
        probe, "bench_for", lambda *given, **named: dataclasses.replace(whole(*given, **named), probe_s=0.05, samples=5)
    )


@pytest.mark.usefixtures("short_probes")
def test_its_cpu_path_measures_what_a_cpu_has_and_says_why_of_the_rest(script, tmp_path, capsys):
    assert script.main(["--device", "cpu", "--output", str(tmp_path)]) == 0
    evidence = json.loads((tmp_path / "evidence.json").read_text())
    sections = evidence["sections"]
    ceilings = {row["ceiling"]: row for row in sections["ceilings"]["rows"]}
    assert ceilings["matmul.fp32"]["value"] > 0
    assert "emulates" in ceilings["matmul.fp8"]["skipped"]
    (step,) = sections["steps"]["rows"]
    assert step["time_error"] == pytest.approx(step["predicted_s"] / step["measured_s"] - 1)
    assert step["memory_error"] == pytest.approx(step["predicted_bytes"] / step["measured_bytes"] - 1)
    (overhead,) = sections["overhead"]["rows"]
    assert 0 < overhead["marks"] < 1
    assert 0 < overhead["trace_bytes"] < 50e6
    for name in ("dram", "counters"):
        assert sections[name]["skipped"] == "the steps ran on a CPU, which has no such counters"
    text = (tmp_path / "evidence.md").read_text()
    assert text == capsys.readouterr().out[:-1]
    assert "| tiny |" in text
    assert "- matmul.fp8: fp8 is a number format of tensor cores" in text


def test_a_section_for_which_no_time_is_left_says_so_and_a_broken_one_costs_no_other(script):
    def broken():
        raise ZeroDivisionError("nothing there")

    late = script.section(lambda: script.Clock(5.0).require("counters"))
    assert late["skipped"].endswith("s are left, and it takes about 90 s")
    assert script.section(broken) == {"skipped": "failed with ZeroDivisionError: nothing there"}


def test_known_figures_are_of_devices_that_the_catalogue_has_and_below_their_datasheet(script):
    for (device, name), (value, source) in script.KNOWN.items():
        spec = load_device(device)
        assert spec.id == device
        dtype = name.removeprefix("matmul.")
        peak = spec.memory.bandwidth_byte_per_s if name == "memory.dram" else spec.matmul_flop_per_s(dtype)
        assert 0.5 * peak < value < peak
        assert source


def test_counters_of_a_step_come_from_ncu_and_are_held_against_the_run(script, tmp_path, monkeypatch):
    """A program in ncu's place prints what ncu would; the run is one on a GPU with that kernel."""
    fake = tmp_path / "ncu"
    metrics = '"ID","Kernel Name","gpu__time_duration.sum","dram__bytes_read.sum","dram__bytes_write.sum"'
    fake.write_text(
        f'#!{sys.executable}\nprint(\'\'\'==PROF== Connected\n{metrics}\n"","","ns","byte","byte"\n'
        '"0","gemm","1000","30","10"\'\'\')\n'
    )
    fake.chmod(0o755)
    monkeypatch.setattr(script.shutil, "which", lambda _name: str(fake))
    kernel = SimpleNamespace(name="gemm", label="head", phase="forward", direction="forward", calls=2.0, time_s=1e-3)
    record = SimpleNamespace(run_settings=SimpleNamespace(device="cuda"), kernels=(kernel,), ops=())
    total, row = script.counter_rows({"1b": record}, tmp_path, script.Clock(540.0))
    assert total["kernel"] == "1 of 1 kernels matched"
    assert row["measured_bytes"] == 80
    fake.write_text(f"#!{sys.executable}\nprint('==ERROR== ERR_NVGPUCTRPERM')\nraise SystemExit(1)\n")
    refused = script.section(lambda: script.counter_rows({"1b": record}, tmp_path, script.Clock(540.0)))
    assert "NVreg_RestrictProfilingToAdminUsers=0" in refused["skipped"]


def test_a_model_that_does_not_fit_costs_no_other(script, tmp_path, monkeypatch):
    def run(model, _options, _directory, *, on_gpu):
        if model == "8b":
            raise OutOfMemoryError("8b needs 128 GB", remedy="take less")
        return SimpleNamespace(name=model, on_gpu=on_gpu)

    monkeypatch.setattr(script, "run", run)
    monkeypatch.setattr(script, "step_row", lambda model, _record: {"model": model, "measured_s": 1.0})
    records = {}
    steps = {"8b": (), "1b": ()}
    rows = script.step_rows(steps, tmp_path, script.Clock(540.0), records, on_gpu=True)
    assert [row["model"] for row in rows] == ["8b", "1b"]
    assert "8b needs 128 GB" in rows[0]["skipped"]
    assert list(records) == ["1b"]
    late = script.step_rows(steps, tmp_path, script.Clock(1.0), {}, on_gpu=True)
    assert all("s are left" in row["skipped"] for row in late)


def test_bytes_of_a_step_follow_from_gpm_s_share_of_the_peak(script, monkeypatch):
    """Half of an H100's 3.35 TB/s over steps of some milliseconds."""

    class Load:
        def __init__(self, *_given, **_named):
            pass

        def step(self):
            time.sleep(0.002)

        def close(self):
            pass

    class Counters:
        series = (
            SimpleNamespace(name="gpu.dram_bandwidth", values=(0.4, 0.6)),
            SimpleNamespace(name="gpu.tensor_active", values=(0.3,)),
        )
        skipped = ()

        def __init__(self, _index):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_error):
            pass

    monkeypatch.setattr(script, "Trainer", Load)
    monkeypatch.setattr(script, "Telemetry", Counters)
    monkeypatch.setattr(script, "DRAM_LOAD_S", 0.05)
    monkeypatch.setattr(script, "resolve_device", lambda _text: SimpleNamespace(index=None))
    monkeypatch.setattr(script.torch.cuda, "synchronize", lambda _device: None)
    settings = RunSettings(model="1b", device="cuda", micro_batch=1, seq_len=16)
    record = SimpleNamespace(run_settings=settings, spec=None, work=SimpleNamespace(moved_bytes=1e10))
    (row,) = script.dram_rows({"1b": record}, load_device("h100-sxm"), script.Clock(540.0))
    assert row["measured_bytes"] == pytest.approx(0.5 * 3.35e12 * row["step_s"])
    assert row["counted_over_measured"] == pytest.approx(1e10 / row["measured_bytes"])
    assert 0.002 < row["step_s"] < 0.1
    Counters.series = ()
    Counters.skipped = (SimpleNamespace(name="gpu.gpm", reason="the GPU has no GPM counters"),)
    refused = script.section(lambda: script.dram_rows({"1b": record}, load_device("a100"), script.Clock(540.0)))
    assert refused["skipped"].endswith("the GPU has no GPM counters")
