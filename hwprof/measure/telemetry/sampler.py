"""What does the machine do beside the run? Samples counters in a thread; a reader that cannot go on says why."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Any, Self

import pynvml
import torch

from hwprof.measure.telemetry.readers import Reader, gpu_readers, host_readers
from hwprof.specs.measurement import Skipped
from hwprof.specs.record.run import Series

Point = tuple[float, tuple[float, ...]]
"""Seconds since the start, and one value for each quantity of a reader."""


class Telemetry:
    """Samples the host, and a GPU if there is one, from entering the context until leaving it.

    Args:
        device_index: torch's index of the accelerator; None when the run uses none.
        period_s: seconds between two samples; costly counters are read less often.
        nvml: the NVML binding.
        kind: of the accelerator.
    """

    def __init__(
        self, device_index: int | None, period_s: float = 0.2, *, nvml: Any = pynvml, kind: str = "cuda"
    ) -> None:
        self._period_s = period_s
        gpu, skipped = gpu_readers(nvml, device_index, kind)
        self._active: list[Reader] = [*host_readers(), *gpu]
        self._points: dict[Reader, list[Point]] = {reader: [] for reader in self._active}
        self._skipped: list[Skipped] = list(skipped)
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="hwprof-telemetry", daemon=True)
        self._start_s = time.perf_counter()

    @classmethod
    def of(cls, device: torch.device) -> Self:
        """Of a device; of an accelerator whose counters no library here reads the host's alone, which it says."""
        return cls(None) if device.type == "cpu" else cls(device.index or 0, kind=device.type)

    def __enter__(self) -> Self:
        self._start_s = time.perf_counter()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def series(self) -> tuple[Series, ...]:
        """What was sampled so far, one series a quantity; a quantity without a sample is among ``skipped``."""
        with self._lock:
            return tuple(
                Series(
                    name=quantity,
                    unit=reader.unit,
                    times_s=tuple(at_s for at_s, _ in points),
                    values=tuple(values[place] for _, values in points),
                )
                for reader, points in self._points.items()
                if points
                for place, quantity in enumerate(reader.quantities)
            )

    def means(self, start_s: float, end_s: float) -> dict[str, float]:
        """The mean of each quantity between two moments of the host's clock, as far as it was sampled there."""
        start_s, end_s = start_s - self._start_s, end_s - self._start_s
        found: dict[str, float] = {}
        for one in self.series:
            inside = [value for at_s, value in zip(one.times_s, one.values, strict=True) if start_s <= at_s <= end_s]
            if inside:
                found[one.name] = sum(inside) / len(inside)
        return found

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """The readers that could not run, or stopped on the way, and why."""
        with self._lock:
            return tuple(self._skipped)

    def _loop(self) -> None:
        tick = 0
        while not self._stop.wait(self._period_s):
            self._sample(tick)
            tick += 1
        if tick == 0:
            self._sample(tick)

    def _sample(self, tick: int) -> None:
        for reader in tuple(self._active):
            if tick % reader.every:
                continue
            at_s = time.perf_counter() - self._start_s
            try:
                values = tuple(reader.read())
            except Exception as error:  # noqa: BLE001 (whatever stops a reader is kept as its reason)
                self._give_up(reader, error)
            else:
                with self._lock:
                    self._points[reader].append((at_s, values))

    def _give_up(self, reader: Reader, error: Exception) -> None:
        self._active.remove(reader)
        with self._lock:
            taken = len(self._points[reader])
            after = f"stopped after {taken} samples: " if taken else ""
            reason = f"{after}{str(error) or type(error).__name__}"
            self._skipped.extend(Skipped(name=quantity, reason=reason) for quantity in reader.quantities)
