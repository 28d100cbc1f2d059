"""Is what rocprofv3 writes read as its schema says? Both of its formats, with the same loop of known times."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hwprof.errors import InputError
from hwprof.specs.record.trace import TraceDevice
from hwprof.trace.analysis import analyse

US = 1e-6
BEGAN = 3_000_000_000_000_000
"""Nanoseconds since the machine started, as both formats have them."""


def _times(start_us: int, end_us: int) -> dict[str, int]:
    return {"start_timestamp": BEGAN + start_us * 1000, "end_timestamp": BEGAN + end_us * 1000}


def _kernel(start: int, end: int, correlation: int) -> dict[str, object]:
    info = {"agent_id": {"handle": 77}, "queue_id": {"handle": 1}, "kernel_id": 5, "dispatch_id": correlation}
    return {"kind": 1, "operation": 2, "correlation_id": {"internal": correlation}, "dispatch_info": info} | _times(
        start, end
    )


def _call(start: int, end: int, correlation: int, operation: int = 1) -> dict[str, object]:
    return {"kind": 0, "operation": operation, "thread_id": 9, "correlation_id": {"internal": correlation}} | _times(
        start, end
    )


TOOL = {
    "metadata": {"pid": 4000},
    "agents": [
        {"id": {"handle": 1}, "type": 1, "name": "EPYC"},
        {"id": {"handle": 77}, "type": 2, "name": "gfx942", "product_name": "AMD Instinct MI300X"},
    ],
    "strings": {
        "buffer_records": [
            {"kind": "HIP_RUNTIME_API", "operations": ["NONE", "hipLaunchKernel", "hipMemcpyWithStream"]},
            {"kind": "KERNEL_DISPATCH", "operations": []},
            {"kind": "MEMORY_COPY", "operations": ["NONE", "MEMORY_COPY_HOST_TO_DEVICE"]},
        ],
        "marker_api": [{"key": 50, "value": "forward"}],
    },
    "kernel_symbols": [{"kernel_id": 5, "kernel_name": "Cijk_a.kd", "formatted_kernel_name": "Cijk_Alik_Bljk_BBS"}],
    "buffer_records": {
        "kernel_dispatch": [_kernel(0, 100, 11), _kernel(200, 300, 12)],
        "hip_api": [_call(-10, -5, 11), _call(150, 160, 12), _call(-30, 5, 13, 2)],
        "memory_copy": [
            {"kind": 2, "operation": 1, "correlation_id": {"internal": 13}, "dst_agent_id": {"handle": 77}}
            | {"bytes": 2000} | _times(110, 120)
        ],
        "marker_api": [
            {"kind": 9, "operation": 0, "thread_id": 9, "correlation_id": {"internal": 50}} | _times(140, 170)
        ],
    },
}  # fmt: skip

CSV = {
    "kernel_trace": (
        (
            "Kind,Agent_Id,Queue_Id,Stream_Id,Thread_Id,Dispatch_Id,Kernel_Id,Kernel_Name,Correlation_Id,"
            "Start_Timestamp,End_Timestamp"
        ),
        "KERNEL_DISPATCH,Agent 4,1,0,9,1,5,Cijk_Alik_Bljk_BBS,11,{0},{100}",
        "KERNEL_DISPATCH,Agent 4,1,0,9,2,5,Cijk_Alik_Bljk_BBS,12,{200},{300}",
    ),
    "hip_api_trace": (
        "Domain,Function,Process_Id,Thread_Id,Correlation_Id,Start_Timestamp,End_Timestamp",
        "HIP_RUNTIME_API,hipLaunchKernel,4000,9,11,{-10},{-5}",
        "HIP_RUNTIME_API,hipLaunchKernel,4000,9,12,{150},{160}",
    ),
    "memory_copy_trace": (
        "Kind,Direction,Stream_Id,Source_Agent_Id,Destination_Agent_Id,Correlation_Id,Start_Timestamp,End_Timestamp",
        "MEMORY_COPY,MEMORY_COPY_HOST_TO_DEVICE,0,Agent 0,Agent 4,13,{110},{120}",
    ),
    "agent_info": ("Node_Id,Agent_Type,Name,Product_Name", "0,CPU,EPYC,EPYC", "4,GPU,gfx942,AMD Instinct MI300X"),
}


def _json(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content))
    return path


def _csv(folder: Path) -> Path:
    for name, lines in CSV.items():
        text = "\n".join(lines)
        for place in (-10, -5, 0, 100, 110, 120, 150, 160, 200, 300):
            text = text.replace(f"{{{place}}}", str(BEGAN + place * 1000))
        (folder / f"4000_{name}.csv").write_text(text + "\n")
    return folder / "4000_kernel_trace.csv"


def _one(path: Path) -> TraceDevice:
    (device,) = analyse([path]).devices
    return device


@pytest.mark.parametrize("form", ["list", "one", "csv"])
def test_kernels_copies_and_calls_are_read(tmp_path: Path, form: str):
    """Kernels 0-100 and 200-300, a copy 110-120; the second kernel was called for at 150."""
    content = {"rocprofiler-sdk-tool": [TOOL] if form == "list" else TOOL}
    device = _one(_csv(tmp_path) if form == "csv" else _json(tmp_path / "1_results.json", content))
    assert device.device == "AMD Instinct MI300X (gpu:0)"
    assert device.breakdown.compute_s == pytest.approx(200 * US)
    assert device.breakdown.exposed_copy_s == pytest.approx(10 * US)
    assert device.breakdown.idle_s == pytest.approx(90 * US)
    assert device.breakdown.idle.launch_s == pytest.approx(50 * US)
    kernel = device.kernels[0]
    assert (kernel.name, kernel.calls, kernel.library) == ("Cijk_Alik_Bljk_BBS", 2, "hipBLASLt (Tensile)")
    assert device.copies[0].name == "Memcpy HtoD"


def test_markers_are_where_kernels_were_launched(tmp_path: Path):
    device = _one(_json(tmp_path / "1_results.json", {"rocprofiler-sdk-tool": [TOOL]}))
    assert {op.module for op in device.ops} == {"", "forward"}


def test_half_a_file_and_another_table_are_refused(tmp_path: Path):
    path = _json(tmp_path / "1_results.json", {"rocprofiler-sdk-tool": [TOOL]})
    path.write_text(path.read_text()[:-40])
    with pytest.raises(InputError, match="no output of rocprofv3"):
        analyse([path])
    table = tmp_path / "cats.csv"
    table.write_text("name\nTom\n")
    with pytest.raises(InputError, match="no trace of kernels"):
        analyse([table])
