"""Do the columns hold what the file says?"""

from __future__ import annotations

import json
from pathlib import Path

import kineto
import numpy as np

from hwprof.spans.columns import HostKind, Trace
from hwprof.spans.read.file import read_trace


def _events(path: Path, *categories: str) -> list[dict]:
    return [event for event in json.loads(path.read_text())["traceEvents"] if event.get("cat") in categories]


def test_operators_of_torch_keep_times_names_and_sequence_numbers(torch_file: Path, torch_trace: Trace):
    expected = sorted(_events(torch_file, "cpu_op"), key=lambda event: (event["ts"], -event["dur"]))
    host = torch_trace.host
    chosen = np.flatnonzero(host.kind == HostKind.OPERATOR)
    chosen = chosen[np.lexsort((-host.end_ns[chosen], host.start_ns[chosen]))]
    assert len(chosen) == len(expected)
    names = [torch_trace.names[name] for name in host.name[chosen]]
    assert sorted(names) == sorted(event["name"] for event in expected)
    durations = (host.end_ns - host.start_ns)[chosen]
    assert durations.sum() == sum(round(1000 * event["dur"]) for event in expected)
    assert sorted(host.sequence[chosen]) == sorted(event["args"].get("Sequence number", -1) for event in expected)


def test_only_module_frames_are_kept_of_python(torch_file: Path, torch_trace: Trace):
    frames = _events(torch_file, "python_function")
    modules = [event for event in frames if event["name"].startswith("nn.Module: ")]
    assert 0 < len(modules) < len(frames)
    assert (torch_trace.host.kind == HostKind.MODULE).sum() == len(modules)


def test_equal_shapes_are_stored_once(torch_file: Path, torch_trace: Trace):
    shaped = [event for event in _events(torch_file, "cpu_op") if "Input Dims" in event["args"]]
    assert (torch_trace.host.shape >= 0).sum() == len(shaped)
    assert len(torch_trace.shapes) < len(shaped) / 4


def test_nanoseconds_survive_at_large_time_stamps():
    """4.7e12 µs with three digits after the point: a float holds 1/1024 µs there."""
    file = kineto.KinetoFile()
    start = 4_720_968_684_114_001
    file.complete("cpu_op", "a", 1, 1, start, 3)
    file.complete("cpu_op", "b", 1, 1, start + 3, 999)
    path = Path(__import__("tempfile").mkdtemp()) / "t.json"
    trace = read_trace(file.write(path))
    assert trace.host.start_ns.tolist() == [0, 3]
    assert trace.host.end_ns.tolist() == [3, 1002]


def test_kernels_keep_stream_device_and_correlation(gpu_file: Path, gpu_trace: Trace):
    expected = _events(gpu_file, "kernel", "gpu_memcpy")
    device = gpu_trace.device
    assert sorted(zip(device.stream, device.correlation, strict=True)) == sorted(
        (event["args"]["stream"], event["args"]["correlation"]) for event in expected
    )
    assert device.size_bytes.sum() == sum(event["args"].get("bytes", 0) for event in expected)


def test_events_without_a_usable_time_are_counted(written):
    file = kineto.KinetoFile()
    file.complete("cpu_op", "good", 1, 1, 5000, 10)
    file.events.append('\n{"ph": "X", "cat": "cpu_op", "name": "none", "pid": 1, "tid": 1, "dur": 1}')
    file.events.append('\n{"ph": "X", "cat": "cpu_op", "name": "far", "pid": 1, "tid": 1, "ts": 1e300, "dur": 1}')
    file.events.append('\n{"ph": "X", "cat": "cpu_op", "name": "back", "pid": 1, "tid": 1, "ts": 1, "dur": -1}')
    trace = read_trace(written(file))
    assert (len(trace.host), trace.skipped) == (1, 3)


def test_numbers_that_grow_wider_are_kept(written):
    file = kineto.KinetoFile()
    numbers = [5, 300, 70_000, 2**40, 3]
    for place, number in enumerate(numbers):
        file.complete("cuda_runtime", "cudaLaunchKernel", 1, 1, 1000 * place, 10, correlation=number)
        file.complete("kernel", f"kernel {number}", 0, number, 1000 * place + 20, 10, stream=7, correlation=number)
    trace = read_trace(written(file))
    assert trace.host.correlation.tolist() == numbers
    assert trace.device.correlation.tolist() == numbers
    assert (trace.host.sequence.itemsize, trace.host.correlation.itemsize) == (1, 8)


def test_three_hundred_names_are_told_apart(written):
    file = kineto.KinetoFile()
    for place in range(300):
        file.complete("cpu_op", f"op {place}", 1, 1, 1000 * place, 10)
    trace = read_trace(written(file))
    assert [trace.names[name] for name in trace.host.name] == [f"op {place}" for place in range(300)]
