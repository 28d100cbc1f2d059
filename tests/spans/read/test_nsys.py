"""Is an export of Nsight Systems read as its schema says? Tables by hand, with a loop of known times."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from hwprof.errors import InputError
from hwprof.specs.record.trace import TraceDevice
from hwprof.trace.analysis import analyse

US = 1e-6
THREAD = (17 << 48) | (4000 << 24) | 4001
"""Process 4000, thread 4001."""
TEXTS = {
    1: "void gemm<float>(float*)", 2: "gemm", 3: "cudaLaunchKernel_v7000", 4: "cudaMemcpyAsync_v3020",
    5: "cudaStreamSynchronize_v3020", 6: "pthread_mutex_lock", 7: "step 1",
}  # fmt: skip
SCHEMA = """
CREATE TABLE StringIds (id INTEGER, value TEXT);
CREATE TABLE TARGET_INFO_GPU (id INTEGER, name TEXT, memoryBandwidth INTEGER);
CREATE TABLE CUPTI_ACTIVITY_KIND_KERNEL (start INTEGER, end INTEGER, deviceId INTEGER, streamId INTEGER,
    correlationId INTEGER, demangledName INTEGER, shortName INTEGER, gridX INTEGER);
CREATE TABLE CUPTI_ACTIVITY_KIND_MEMCPY (start INTEGER, end INTEGER, deviceId INTEGER, streamId INTEGER,
    correlationId INTEGER, bytes INTEGER, copyKind INTEGER, srcKind INTEGER, dstKind INTEGER);
CREATE TABLE CUPTI_ACTIVITY_KIND_RUNTIME (start INTEGER, end INTEGER, globalTid INTEGER, correlationId INTEGER,
    nameId INTEGER);
CREATE TABLE OSRT_API (start INTEGER, end INTEGER, globalTid INTEGER, correlationId INTEGER, nameId INTEGER);
CREATE TABLE NVTX_EVENTS (start INTEGER, end INTEGER, eventType INTEGER, text TEXT, textId INTEGER, globalTid INTEGER);
"""


def _export(path: Path) -> Path:
    """A copy 0-20, a kernel 100-200 called at 90, a kernel 1000-1100 called at 990 after a lock 300-700."""
    with closing(sqlite3.connect(path)) as base:
        base.executescript(SCHEMA)
        put = base.executemany
        put("INSERT INTO StringIds VALUES (?, ?)", TEXTS.items())
        base.execute("INSERT INTO TARGET_INFO_GPU VALUES (0, 'NVIDIA H100 80GB HBM3', 1)")
        put(
            "INSERT INTO CUPTI_ACTIVITY_KIND_KERNEL VALUES (?, ?, 0, 7, ?, 1, 2, 1)",
            [(100_000, 200_000, 11), (1_000_000, 1_100_000, 12)],
        )
        base.execute("INSERT INTO CUPTI_ACTIVITY_KIND_MEMCPY VALUES (0, 20000, 0, 13, 10, 1000000, 1, 1, 2)")
        put(
            f"INSERT INTO CUPTI_ACTIVITY_KIND_RUNTIME VALUES (?, ?, {THREAD}, ?, ?)",
            [(-9_000, -8_000, 10, 4), (90_000, 95_000, 11, 3), (990_000, 995_000, 12, 3), (996_000, 1_150_000, 13, 5)],
        )
        base.execute(f"INSERT INTO OSRT_API VALUES (300000, 700000, {THREAD}, 1, 6)")
        put(
            f"INSERT INTO NVTX_EVENTS VALUES (?, ?, ?, ?, ?, {THREAD})",
            [
                (80_000, 1_200_000, 59, None, 7),
                (85_000, 96_000, 59, "aten::mm, op_id = 5, seq = 3, sizes = [[64, 32], [32, 16]]", None),
                (86_000, None, 34, "a mark", None),
            ],
        )
        base.commit()
    return path


def _one(path: Path) -> TraceDevice:
    (device,) = analyse([path]).devices
    return device


def test_kernels_copies_calls_ranges_and_locks_are_read(tmp_path: Path):
    device = _one(_export(tmp_path / "report.sqlite"))
    assert device.device == "NVIDIA H100 80GB HBM3 (gpu:0)"
    assert device.breakdown.compute_s == pytest.approx(200 * US)
    assert device.breakdown.exposed_copy_s == pytest.approx(20 * US)
    idle = {name: round(value / US) for name, value in device.breakdown.idle.model_dump().items() if value}
    assert idle == {"lock_s": 400, "host_s": 70 + 390, "launch_s": 20}
    (copy,) = device.copies
    assert (copy.name, copy.bytes) == ("Memcpy HtoD (Pinned -> Device)", 1e6)
    assert copy.byte_per_s == pytest.approx(5e10)
    assert {kernel.name for kernel in device.kernels} == {"void gemm<float>(float*)", copy.name}


def test_operators_of_torch_have_their_shapes_and_their_range(tmp_path: Path):
    ops = {op.op: op for op in _one(_export(tmp_path / "report.sqlite")).ops}
    assert (ops["aten::mm"].shapes, ops["aten::mm"].matmul_flop) == ("64x32, 32x16", 2 * 64 * 32 * 16)
    assert ops["aten::mm"].module == "step 1"


def test_a_base_of_another_program_and_a_report_are_refused_with_the_way_out(tmp_path: Path):
    other = tmp_path / "other.sqlite"
    with closing(sqlite3.connect(other)) as base:
        base.execute("CREATE TABLE cats (name TEXT)")
        base.commit()
    with pytest.raises(InputError, match="no export of Nsight Systems: it has the tables cats"):
        analyse([other])
    torn = tmp_path / "torn.sqlite"
    torn.write_bytes(_export(tmp_path / "whole.sqlite").read_bytes()[:3000])
    with pytest.raises(InputError):
        analyse([torn])
    report = tmp_path / "report.nsys-rep"
    report.write_bytes(b"\0\1\2")
    with pytest.raises(InputError) as found:
        analyse([report])
    assert "nsys export --type sqlite" in found.value.remedy
