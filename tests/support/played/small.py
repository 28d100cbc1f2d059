"""What makes probes of a played device end soon? Few and small shapes, short samples."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hwprof.measure.probes import beside_copies, device, matmul, memory, transfer
from hwprof.measure.probes.matmul import MatmulShape
from hwprof.measure.probes.norm import NormShape
from hwprof.measure.probes.step import parts


def small_probes(monkeypatch: Any, *, probe_s: float = 0.02) -> None:
    """Sizes that a CPU gets done; what is done with them stays the same."""
    shape = MatmulShape(128, 128, 128)
    whole = device.bench_for
    for place, name, value in (
        (parts, "_fitting", lambda all_parts, _total_s: iter(all_parts)),
        (matmul, "_CUDA_SWEEP", (shape, MatmulShape(256, 128, 128))),
        (matmul, "_CUDA_MORE", (MatmulShape(128, 256, 128),)),
        (matmul, "_PILOT_SIDES", (128,)),
        (matmul, "_CUDA_PILOT_S", 0.01),
        (matmul, "PILOT_LIMIT_S", 60.0),
        (matmul, "FLUSH_BYTES", 2**16),
        (matmul, "_SUSTAINED_S", 0.002),
        (matmul, "_HEAT_S", 1e-4),
        (memory, "_MIN_DRAM_ARRAY_BYTES", {"cpu": 2**22, "cuda": 2**18}),
        (memory, "DRAM_ARRAY_PER_CACHE", 1),
        (memory, "MAX_OVERHEAD", 0.9),
        (transfer, "TRANSFER_BYTES", 2**16),
        (beside_copies, "TRANSFER_BYTES", 2**16),
        (beside_copies, "SHAPE", shape),
        (device, "NORM_WITHOUT_MODEL", {"cuda": NormShape(kind="rmsnorm", tokens=64, width=32)}),
    ):
        monkeypatch.setattr(place, name, value)
    monkeypatch.setattr(
        device, "bench_for", lambda *a, **k: replace(whole(*a, **k), probe_s=probe_s, samples=3, warmups=1)
    )
