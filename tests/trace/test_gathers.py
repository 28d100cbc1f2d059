"""Which gather of FSDP2 was not prefetched? By hand, in the annotations that torch writes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import kineto
import pytest

from hwprof.trace.analysis import analyse

Write = Callable[..., Path]
US = 1e-6


class Hand(kineto.KinetoFile):
    """Annotations, launches and kernels at times in microseconds."""

    def note(self, name: str, start: int, end: int) -> None:
        self.complete("user_annotation", name, 1, 1, start * 1000, (end - start) * 1000)

    def kernel(self, name: str, called: int, start: int, end: int, stream: int = 7) -> None:
        ident = len(self.events) + 1
        self.complete("cuda_runtime", "cudaLaunchKernel", 1, 1, called * 1000, 1000, correlation=ident)
        span = (start * 1000, (end - start) * 1000)
        self.complete("kernel", name, 0, stream, *span, stream=stream, device=0, correlation=ident)

    def gather(self, called: int, start: int, end: int, module: str, *inside: str) -> None:
        for depth, name in enumerate(inside):
            self.note(name, called - 9 + depth, called + 9 - depth)
        self.note(f"FSDP::all_gather ({module})", called - 3, called + 3)
        self.kernel("ncclDevKernel_AllGather_RING_LL", called, start, end, stream=20)


def test_a_gather_on_demand_is_told_from_one_that_was_asked_for_earlier(written: Write):
    """layers.0: 100 on demand, 60 of them beside nothing. layers.1: prefetched in backward, 50 all hidden."""
    hand = Hand()
    hand.kernel("gemm", 0, 10, 60)
    hand.gather(20, 20, 120, "layers.0", "FSDP::pre_forward (layers.0)")
    hand.kernel("gemm", 40, 120, 300)
    hand.gather(150, 160, 210, "layers.1", "FSDP::pre_backward (layers.2)", "FSDP::backward_prefetch for layers.1")
    (device,) = analyse([written(hand)]).devices
    rows = {(row.module, row.direction): row for row in device.gathers}
    late, early = rows["layers.0", "forward"], rows["layers.1", "backward"]
    assert (late.count, late.prefetched, early.count, early.prefetched) == (1, 0, 1, 1)
    assert (late.exposed_s, early.exposed_s) == pytest.approx((60 * US, 0))
    (found,) = [one for one in device.findings if "gathered beforehand" in one.title]
    assert "layers.0 forward (60 µs)" in found.evidence
    assert found.share == pytest.approx(60 / 290)
