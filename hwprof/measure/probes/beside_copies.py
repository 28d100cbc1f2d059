"""How fast are matrix products while copies go on between host and GPU, as they do where activations are offloaded?"""

from __future__ import annotations

import math
import statistics

import torch

from hwprof.measure.host.accelerator import synchronize
from hwprof.measure.probes.bench import Bench, Conditions
from hwprof.measure.probes.matmul import MatmulShape, l2_flush, matmul_precision, product, require_support
from hwprof.measure.probes.sampling import Work
from hwprof.measure.probes.transfer import TRANSFER_BYTES, streams_of
from hwprof.specs.job.settings import Dtype
from hwprof.specs.measurement import Ceiling

SHAPE = MatmulShape(8192, 8192, 4096)
_OUTLASTS = 2
"""The copies beside are so many times as long as the product, so that they do not end before it."""


def beside_copies_ceiling(bench: Bench, dtype: Dtype) -> Ceiling:
    """``matmul.<dtype>.beside_copies``: one shape with copies both ways all the while; its conditions have it alone.

    Raises:
        CannotRunError: the device does not compute in ``dtype``.
        WorkError: the product is wrong.
    """
    require_support(bench.device, dtype)
    with matmul_precision(dtype):
        work = product(bench, dtype, SHAPE)
        alone = bench.time(work, deadline_s=bench.probe_s / 4, prepare=l2_flush(bench.device))
        alone_s = statistics.median(alone.seconds)
        copies = _Copies(bench)
        count = math.ceil(_OUTLASTS * alone_s / copies.one_s)
        together = bench.time(work, deadline_s=bench.probe_s / 4, prepare=lambda: copies.start(count))
        synchronize(bench.device)
    conditions: Conditions = {
        "shape_mxnxk": str(SHAPE),
        "beside": f"{count} copies of {TRANSFER_BYTES} bytes each way, pinned",
        "alone_flop_per_s": SHAPE.flop / alone_s,
        "slowdown": statistics.median(together.seconds) / alone_s,
    }
    return bench.ceiling(
        f"matmul.{dtype}.beside_copies",
        "compute",
        together,
        work_per_call=SHAPE.flop,
        dtype=dtype,
        conditions=conditions,
    )


class _Copies:
    """Copies both ways on two streams of their own.

    Attributes:
        one_s: how long a copy each way takes.
    """

    def __init__(self, bench: Bench) -> None:
        self._device = bench.device
        self._host = [torch.zeros(TRANSFER_BYTES, dtype=torch.uint8).pin_memory() for _ in range(2)]
        self._there = [torch.zeros(TRANSFER_BYTES, dtype=torch.uint8, device=bench.device) for _ in range(2)]
        self._up, self._down = (streams_of(bench.device).Stream(bench.device) for _ in range(2))
        self._flush: Work = l2_flush(bench.device) or (lambda: None)
        self.one_s = self._time(bench)

    def start(self, count: int) -> None:
        """Begin so many copies each way, once all that came before is done; the product follows a flushed cache."""
        synchronize(self._device)
        for _ in range(count):
            with streams_of(self._device).stream(self._up):
                self._there[0].copy_(self._host[0], non_blocking=True)
            with streams_of(self._device).stream(self._down):
                self._host[1].copy_(self._there[1], non_blocking=True)
        self._flush()

    def _time(self, bench: Bench) -> float:
        """The host's time for one copy each way, from the second on."""
        self.start(1)
        synchronize(self._device)
        began_s = bench.timer.mark().host_s
        self.start(1)
        synchronize(self._device)
        return bench.timer.mark().host_s - began_s
