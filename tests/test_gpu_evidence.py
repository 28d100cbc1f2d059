"""Does the script that gathers evidence on a GPU run, end in time and say what it can't do? Here on its CPU path."""

import dataclasses
import importlib.util
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from hwprof.measure import probe
from hwprof.specs.catalogue import load_device

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
