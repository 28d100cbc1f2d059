"""Are counters that CUPTI read for each kernel joined to the operators that launched them? By hand."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import kineto
import pytest

from hwprof.specs.record.trace import TraceDevice
from hwprof.trace.analysis import analyse

Write = Callable[..., Path]
ADD, FMA = (f"smsp__sass_thread_inst_executed_op_{word}_pred_on.sum" for word in ("fadd", "ffma"))


def _loop(*, launches: int = 3) -> kineto.KinetoFile:
    """Three operators, each with a launch and a counted kernel, and no kernel that ran by itself."""
    file = kineto.KinetoFile()
    for place, (op, kernel, adds, fmas) in enumerate(
        [("aten::add", "add_kernel", 100, 0), ("aten::mm", "sgemm", 0, 4096), ("aten::mm", "sgemm", 0, 4096)]
    ):
        start = place * 1_000_000
        file.complete("cpu_op", op, 1, 1, start, 500_000)
        if place < launches:
            file.complete("cuda_runtime", "cudaLaunchKernel", 1, 1, start + 1000, 5000, correlation=place + 1)
        counters = {ADD: adds, FMA: fmas, "dram__bytes.sum": 64.0}
        file.complete("cuda_profiler_range", kernel, 0, 7, start + 10_000, 20_000, **counters)
        file.events[-1] = re.sub('"(smsp|dram) ', r'"\1__', file.events[-1])  # elsewhere the two mean a space
    return file


def _one(path: Path) -> TraceDevice:
    (device,) = analyse([path]).devices
    return device


@pytest.mark.parametrize("name", ["t.json", "t.json.gz"])
def test_counters_are_added_up_by_operator_and_kernel(tmp_path: Path, name: str):
    rows = _one(_loop().write(tmp_path / name)).counters
    assert [(row.op, row.kernel, row.kernels, row.flop, row.moved_bytes) for row in rows] == [
        ("aten::mm", "sgemm", 2, 2 * 2 * 4096, 128),
        ("aten::add", "add_kernel", 1, 100, 64),
    ]
    assert rows[0].values == {ADD: 0, FMA: 8192, "dram__bytes.sum": 128}


def test_where_launches_and_kernels_differ_no_operator_is_named(written: Write):
    assert {row.op for row in _one(written(_loop(launches=2))).counters} == {""}


def test_times_of_a_counted_run_are_said_to_be_none(written: Write):
    assert (
        "3 kernels were counted one by one (CUPTI): times are no times of the program" in _one(written(_loop())).notes
    )
