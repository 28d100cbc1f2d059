"""Is a Perfetto trace of rocprofv3 read? By hand, in the words of trace_packet.proto, with both kinds of clocks."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("google.protobuf")

from wire import message

from hwprof.errors import InputError
from hwprof.trace.analysis import analyse

US = 1e-6
BEGIN, END = 1, 2
NAMES = {1: "gemm", 2: "hipLaunchKernel", 3: "MEMORY_COPY_HOST_TO_DEVICE"}
CATEGORIES = {1: "kernel_dispatch", 2: "hip_api", 3: "memory_copy"}
ARGUMENTS = {1: "corr_id", 2: "agent", 3: "copy_bytes", 4: "tid"}
INTERNED = message(
    *((1, message((1, iid), (2, name))) for iid, name in CATEGORIES.items()),
    *((2, message((1, iid), (2, name))) for iid, name in NAMES.items()),
    *((3, message((1, iid), (2, name))) for iid, name in ARGUMENTS.items()),
)
LOOP = [
    (0, BEGIN, 5, 2, 2, {1: 11, 4: 9}), (5, END, 5, 0, 0, {}),
    (10, BEGIN, 7, 1, 1, {1: 11, 2: 4}), (110, END, 7, 0, 0, {}),
    (120, BEGIN, 8, 3, 3, {1: 12, 3: 4000}), (130, END, 8, 0, 0, {}),
    (140, BEGIN, 5, 2, 2, {1: 13, 4: 9}), (145, END, 5, 0, 0, {}),
    (160, BEGIN, 7, 1, 1, {1: 13, 2: 4}), (260, END, 7, 0, 0, {}),
]  # fmt: skip
"""Times in microseconds, what happens, on which track, category, name, arguments."""


def _event(kind: int, track: int, category: int, name: int, said: dict[int, int]) -> bytes:
    words = [(4, message((1, key), (3, value))) for key, value in said.items()]
    both = [(3, category), (10, name)] if kind == BEGIN else []
    return message(*both, *words, (9, kind), (11, track))


def _trace(path: Path, *, incremental: bool) -> Path:
    clock = message((1, 64), (2, 5_000_000), (3, 1), (4, 1000))
    first = [(6, message((1, clock)))] if incremental else []
    defaults = [(59, message((58, 64)))] if incremental else []
    packets = [(1, message(*first, (10, 1), (12, INTERNED), (13, 1), *defaults))]
    before = 0
    for time, *event in LOOP:
        stamp = time - before if incremental else 5_000_000_000 + time * 1000
        before = time
        packets.append((1, message((8, stamp), (10, 1), (11, _event(*event)))))
    path.write_bytes(message(*packets))
    return path


@pytest.mark.parametrize("incremental", [False, True])
def test_kernels_copies_and_calls_are_read(tmp_path: Path, incremental: bool):
    """Kernels 10-110 and 160-260, called for at 0 and 140, a copy 120-130 between them."""
    (device,) = analyse([_trace(tmp_path / "1_results.pftrace", incremental=incremental)]).devices
    assert device.breakdown.compute_s == pytest.approx(200 * US)
    assert device.breakdown.exposed_copy_s == pytest.approx(10 * US)
    assert (device.breakdown.idle.launch_s, device.breakdown.idle.queued_s) == pytest.approx((20 * US, 0), abs=20 * US)
    assert device.breakdown.idle_s == pytest.approx(40 * US)
    (copy,) = device.copies
    assert (copy.name, copy.bytes) == ("Memcpy HtoD", 4000)
    assert [(kernel.name, kernel.calls) for kernel in device.kernels if kernel.kind == "compute"] == [("gemm", 2)]


def test_a_trace_of_something_else_is_refused(tmp_path: Path):
    path = tmp_path / "phone.pftrace"
    path.write_bytes(message((1, message((8, 5), (10, 1)))))
    with pytest.raises(InputError, match="has no kernels"):
        analyse([path])
