"""Are the numbers those of Holistic Trace Analysis? On traces of the simulated loop, written again for each test.

HTA 0.5.0 brings some 80 packages, so its numbers are kept in hta_golden.json, written by
`benchmarks/trace_against_hta.py --golden` with include_last_profiler_step=True and HTA_DISABLE_NS_ROUNDING=1. Where HTA
is installed, they are held against it directly.
"""

from __future__ import annotations

import json
from pathlib import Path

import kineto
import pytest

from hwprof.specs.record.trace import TraceDevice
from hwprof.trace.analysis import analyse

GOLDEN = json.loads((Path(__file__).parent / "hta_golden.json").read_text(encoding="utf-8"))
_KINDS = {"COMPUTATION": "compute", "COMMUNICATION": "communication", "MEMORY": "copy"}
US = 1e-6


def _files(name: str, folder: Path) -> list[Path]:
    loop, world_size = kineto.CASES[name]
    return [file.write(folder / f"rank{rank}.json") for rank, file in enumerate(kineto.simulate(loop, world_size))]


@pytest.fixture(scope="module", params=list(kineto.CASES))
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[Path]]:
    return request.param, _files(request.param, tmp_path_factory.mktemp("hta"))


@pytest.fixture(scope="module")
def devices(case: tuple[str, list[Path]]) -> tuple[TraceDevice, ...]:
    return analyse(case[1]).devices


def close(ours_s: float, theirs_us: float) -> bool:
    """HTA adds float microseconds near 5e12, which are exact to 1/1024 µs each."""
    return ours_s == pytest.approx(theirs_us * US, rel=1e-6, abs=2e-9 * 400)


def test_temporal_breakdown(case, devices):
    for theirs, ours in zip(GOLDEN[case[0]]["temporal"], devices, strict=True):
        times = ours.breakdown
        assert ours.rank == theirs["rank"]
        assert close(times.span_s, theirs["kernel_time(us)"])
        assert close(times.compute_s, theirs["compute_time(us)"])
        assert close(times.exposed_communication_s + times.exposed_copy_s, theirs["non_compute_time(us)"])
        assert close(times.idle_s, theirs["idle_time(us)"])


def test_kernel_breakdown(case, devices):
    theirs = {
        (row["rank"], row["name"], _KINDS[row["kernel_type"]]): tuple(
            row[key] for key in ("sum (us)", "mean (us)", "min (us)", "max (us)", "stddev")
        )
        for row in GOLDEN[case[0]]["kernels"]
    }
    ours = {
        (device.rank, row.name, row.kind): (row.time_s, row.mean_s, row.min_s, row.max_s, row.deviation_s)
        for device in devices
        for row in device.kernels
    }
    assert ours.keys() == theirs.keys()
    for key, times_s in ours.items():
        assert times_s == pytest.approx([US * value for value in theirs[key]], rel=1e-6, abs=1e-9), key


def test_overlap(case, devices):
    for theirs, ours in zip(GOLDEN[case[0]]["overlap"], devices, strict=True):
        fraction = ours.overlap.communication_fraction
        expected = theirs["comp_comm_overlap_pctg"]
        assert (fraction is None) == (expected is None)
        if fraction is not None:
            assert 100 * fraction == pytest.approx(expected, abs=0.006)


def test_time_by_kind_of_kernel(tmp_path):
    """HTA cuts these to whole microseconds, so only a trace of whole microseconds is the same to the digit."""
    devices = analyse(_files("whole microseconds", tmp_path)).devices
    kinds = {row["kernel_type"]: row["sum"] * US for row in GOLDEN["whole microseconds"]["kinds"]}
    communication = sum(time for name, time in kinds.items() if "COMMUNICATION" in name)
    hidden = sum(time for name, time in kinds.items() if "COMMUNICATION" in name and "COMPUTATION" in name)
    compute = sum(time for name, time in kinds.items() if "COMPUTATION" in name)
    assert sum(device.breakdown.compute_s for device in devices) == pytest.approx(compute)
    assert sum(device.overlap.communication_s for device in devices) == pytest.approx(communication)
    assert sum(device.overlap.hidden_communication_s for device in devices) == pytest.approx(hidden)


def test_directly_where_it_is_installed(tmp_path, monkeypatch):
    monkeypatch.setenv("HTA_DISABLE_NS_ROUNDING", "1")
    hta = pytest.importorskip(
        "hta.trace_analysis", reason="HolisticTraceAnalysis is not installed; its numbers are kept"
    )
    files = _files("four ranks, one late", tmp_path)
    named = {rank: str(path) for rank, path in enumerate(files)}
    found = hta.TraceAnalysis(trace_files=named, trace_dir="/", include_last_profiler_step=True)
    rows = found.get_temporal_breakdown(visualize=False).to_dict("records")
    for row, ours in zip(rows, analyse(files).devices, strict=True):
        assert close(ours.breakdown.idle_s, row["idle_time(us)"])
        assert close(ours.breakdown.compute_s, row["compute_time(us)"])
