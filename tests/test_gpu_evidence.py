"""Does the script that gathers evidence on a GPU run, end in time and say what it can't do? Here on its CPU path."""

import dataclasses
import importlib.util
import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

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


@pytest.fixture
def here(script, tmp_path):
    """Runs a section in this process."""
    device = torch.device("cpu")
    return lambda name, limit_s: script.section(lambda: script.rows_of(name, device, tmp_path, limit_s))


@pytest.mark.usefixtures("short_probes")
def test_its_cpu_path_measures_what_a_cpu_has_and_says_why_of_the_rest(script, tmp_path, here):
    script.gather(torch.device("cpu"), tmp_path, script.Clock(100.0), run=here)
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
    assert "| tiny |" in text
    assert "- matmul.fp8: fp8 is a number format of tensor cores" in text
    assert evidence["environment"]["torch.version"] == torch.__version__


def test_what_needs_the_first_step_alone_comes_before_the_others_and_fits_if_all_take_their_longest(script):
    names = script.sections_of(torch.device("cuda", 0))
    assert names == (
        "machine", "ceilings", "step-1b", "dram", "counters", "step-3b", "step-8b", "overhead"
    )  # fmt: skip
    assert sum(script.LONGEST_S[name.partition("-")[0]] for name in names[:5]) < script.BUDGET_S


def test_the_whole_takes_less_than_eight_minutes(script):
    assert script.BUDGET_S + 10 < 480
    assert set(script.NEEDED_S) == set(script.LONGEST_S)
    assert all(script.NEEDED_S[name] <= script.LONGEST_S[name] for name in script.NEEDED_S)


def test_a_section_for_which_no_time_is_left_says_so_and_a_broken_one_costs_no_other(script, tmp_path):
    def broken():
        raise ZeroDivisionError("nothing there")

    assert script.section(broken) == {"skipped": "failed with ZeroDivisionError: nothing there"}
    cuda = torch.device("cuda", 0)
    found = script.gather(cuda, tmp_path, script.Clock(30.9), run=lambda _name, _limit_s: {"rows": [{}]})
    assert found["sections"]["counters"]["skipped"] == "31 s are left, and it takes about 60 s"
    assert found["sections"]["dram"] == {"rows": [{}]}


def test_what_is_measured_is_on_the_disk_before_the_next_section_begins(script, tmp_path):
    kept = []

    def run(name, _limit_s):
        kept.append((name, (tmp_path / "evidence.json").exists()))
        if name == "dram":
            raise KeyboardInterrupt
        return {"rows": [{"model": name, "device": "H200"}]}

    with pytest.raises(KeyboardInterrupt):
        script.gather(torch.device("cuda", 0), tmp_path, script.Clock(400.0), run=run)
    assert kept == [("machine", False), ("ceilings", True), ("step-1b", True), ("dram", True)]
    evidence = json.loads((tmp_path / "evidence.json").read_text())
    assert evidence["device"] == "H200"
    assert evidence["sections"]["steps"]["rows"] == [{"model": "step-1b", "device": "H200"}]


def test_a_section_that_hangs_is_ended_with_all_that_it_started(script, tmp_path, monkeypatch):
    """A program that starts another in a session of its own, as ncu is here, and never ends."""
    started = "subprocess.Popen(['sleep', '600'], start_new_session=True)"
    own = f"import subprocess, time; print({started}.pid, flush=True); time.sleep(600)"
    monkeypatch.setattr(script, "command_of", lambda *_given: [sys.executable, "-S", "-c", own])
    found = script.in_child("counters", 6.0, device=torch.device("cpu"), folder=tmp_path)
    pid = int((tmp_path / "sections" / "counters.log").read_text())
    assert found == {"skipped": f"its process was not done after 6 s: {pid}"}
    ended = time.monotonic() + 10
    while _alive(pid) and time.monotonic() < ended:
        time.sleep(0.01)
    assert not _alive(pid)


def _alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_section_whose_process_dies_says_how(script, tmp_path, monkeypatch):
    own = "import os, signal; print('CUDA error: unspecified launch failure', flush=True); os.kill(os.getpid(), 6)"
    monkeypatch.setattr(script, "command_of", lambda *_given: [sys.executable, "-S", "-c", own])
    found = script.in_child("step-1b", 60.0, device=torch.device("cpu"), folder=tmp_path)
    assert found == {"skipped": "its process ended with -6: CUDA error: unspecified launch failure"}


def test_a_section_in_a_process_of_its_own_leaves_its_rows(script, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(SCRIPT.parents[1]))
    found = script.in_child("machine", 600.0, device=torch.device("cpu"), folder=tmp_path)
    assert found["rows"][0]["environment"]["torch.version"] == torch.__version__


def test_known_figures_are_of_devices_that_the_catalogue_has_and_below_their_datasheet(script):
    for (device, name), (value, source) in script.KNOWN.items():
        spec = load_device(device)
        assert spec.id == device
        dtype = name.removeprefix("matmul.")
        peak = spec.memory.bandwidth_byte_per_s if name == "memory.dram" else spec.matmul_flop_per_s(dtype)
        assert 0.5 * peak < value < peak
        assert source


RAW = """==PROF== Connected
"ID","Kernel Name","gpu__time_duration.sum","dram__bytes_read.sum","dram__bytes_write.sum"
"","","ns","byte","byte"
"0","gemm","1000","30","10"
"""


@pytest.fixture
def recorded():
    """A run on a GPU with one kernel."""
    kernel = SimpleNamespace(name="gemm", label="head", phase="forward", direction="forward", calls=2.0, time_s=1e-3)
    return SimpleNamespace(run_settings=SimpleNamespace(device="cuda"), kernels=(kernel,), ops=())


@pytest.fixture
def played_ncu(tmp_path, monkeypatch, script):
    """A program in ncu's place prints a text, sleeps and ends with a code; returns what it was given."""

    def played(text, *, code=0, sleep_s=0):
        fake = tmp_path / "bin" / "ncu"
        fake.parent.mkdir(exist_ok=True)
        given = tmp_path / "given"
        fake.write_text(
            f"#!{sys.executable} -S\nimport sys, time\nopen({str(given)!r}, 'w').write(' '.join(sys.argv))\n"
            f"print({text!r}, flush=True)\ntime.sleep({sleep_s})\nsys.exit({code})\n"
        )
        fake.chmod(0o755)
        monkeypatch.setattr(script.shutil, "which", lambda _name: str(fake))
        return given

    return played


def test_counters_of_a_step_come_from_ncu_at_the_clocks_of_the_run(script, tmp_path, played_ncu, recorded):
    given = played_ncu(RAW)
    total, row = script.counter_rows("1b", recorded, tmp_path, 60.0)
    assert total["kernel"] == "1 of 1 kernels matched"
    assert row["measured_bytes"] == 80
    assert "--clock-control none" in given.read_text()


@pytest.mark.parametrize(("how", "ended"), [({"code": 9}, 9), ({"sleep_s": 600}, "the time limit")])
def test_what_ncu_had_counted_when_it_failed_or_hung_is_kept(script, tmp_path, played_ncu, recorded, how, ended):
    played_ncu(RAW, **how)
    total, row = script.counter_rows("1b", recorded, tmp_path, 6.0 if "sleep_s" in how else 60.0)
    assert total["ncu_ended_with"] == ended
    assert row["measured_bytes"] == 80


def test_an_ncu_that_counted_nothing_says_why(script, tmp_path, played_ncu, recorded):
    played_ncu("==ERROR== ERR_NVGPUCTRPERM", code=1)
    refused = script.section(lambda: script.counter_rows("1b", recorded, tmp_path, 60.0))
    assert "NVreg_RestrictProfilingToAdminUsers=0" in refused["skipped"]
    assert refused["skipped"].startswith("ncu ended with 1: ")


def test_ncu_is_found_where_cuda_puts_it(script, tmp_path, monkeypatch):
    monkeypatch.setattr(script.shutil, "which", lambda _name: None)
    monkeypatch.setattr(script, "NCU_PLACES", (f"{tmp_path}/cuda*/bin/ncu",))
    with pytest.raises(script.CannotRunError, match="neither on PATH nor at"):
        script.find_ncu()
    for version in ("12.4", "12.8"):
        (tmp_path / f"cuda-{version}" / "bin").mkdir(parents=True)
        (tmp_path / f"cuda-{version}" / "bin" / "ncu").touch()
    assert script.find_ncu() == f"{tmp_path}/cuda-12.8/bin/ncu"


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
    monkeypatch.setattr(script, "resolve_device", torch.device)
    monkeypatch.setattr(script, "identify", lambda _device: (None, load_device("h100-sxm")))
    monkeypatch.setattr(script.torch.cuda, "synchronize", lambda _device: None)
    settings = RunSettings(model="1b", device="cuda", micro_batch=1, seq_len=16)
    record = SimpleNamespace(
        run_settings=settings, spec=None, work=SimpleNamespace(moved_bytes=1e10), environment={"device.index": "3"}
    )
    assert script.device_of(record) == torch.device("cuda", 3)
    (row,) = script.dram_rows("1b", record)
    assert row["measured_bytes"] == pytest.approx(0.5 * 3.35e12 * row["step_s"])
    assert row["counted_over_measured"] == pytest.approx(1e10 / row["measured_bytes"])
    assert 0.002 < row["step_s"] < 0.1
    Counters.series = ()
    Counters.skipped = (SimpleNamespace(name="gpu.gpm", reason="the GPU has no GPM counters"),)
    refused = script.section(lambda: script.dram_rows("1b", record))
    assert refused["skipped"].endswith("the GPU has no GPM counters")
