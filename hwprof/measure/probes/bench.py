"""How does timed work become a ceiling? Work over time for each sample, the median as the value, all evidence kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from hwprof.measure.probes.sampling import Samples, WaitClock, Work, sample_s
from hwprof.measure.timing import Timer
from hwprof.specs.measurement import STABLE_SPREAD, Ceiling, CeilingKind, Measurement, Skipped, Unit

MIN_STABLE_SAMPLES = 5
"""With fewer samples than this no spread is called stable."""

FEW_LONG_SAMPLES, LONG_SAMPLE_S = 3, 0.1
"""So few are enough if each is as long as this: it spans many time slices of the scheduler."""

SPIN_FACTOR, MOST_SPIN_S = 2.0, 5e-3
"""A device is kept busy for so many times what enqueueing takes, and so long at most."""

Conditions = dict[str, str | int | float]


class CannotRunError(Exception):
    """A probe has no meaning, or no time, on this machine; becomes a ``Skipped``."""

    def __init__(self, reason: str, *, remedy: str = "") -> None:
        self.reason = reason
        self.remedy = remedy
        super().__init__(reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Where and how thoroughly to measure.

    Attributes:
        device: the device under test.
        device_name: its exact name, for the provenance of each ceiling.
        timer: the clock on its timeline.
        warmups: untimed calls before the first sample.
        samples: samples in a round.
        probe_s: seconds that one probe may take.
        minimum_sample_s: shortest sample; shorter work is repeated inside one. 0 on a device whose caches are flushed
            before each sample.
        waited_s: how long other processes have kept this one off the CPU.
        clock_hz: the device's clock at present; None where it is unknown.
        spin: keeps a device busy for so many seconds, so that what is enqueued meanwhile is timed without the time that
            enqueueing takes; None where the host itself works.
        thorough: try more shapes.
    """

    device: torch.device
    device_name: str
    timer: Timer
    warmups: int
    samples: int
    probe_s: float
    minimum_sample_s: float
    waited_s: WaitClock
    thorough: bool = False
    clock_hz: WaitClock = lambda: None
    spin: Callable[[float], object] | None = None

    def time(self, work: Work, *, deadline_s: float, prepare: Work | None = None) -> Samples:
        """Time ``work`` within ``deadline_s``."""
        return sample_s(
            self.timer,
            work,
            warmups=self.warmups,
            samples=self.samples,
            deadline_s=deadline_s,
            minimum_sample_s=0.0 if prepare else self.minimum_sample_s,
            prepare=self._held_up(work, prepare),
            waited_s=self.waited_s,
            clock_hz=self.clock_hz,
        )

    def _held_up(self, work: Work, prepare: Work | None) -> Work | None:
        """Before each sample the device gets something to do for as long as the host takes to enqueue the work."""
        if self.spin is None or prepare is None:
            return prepare
        spin = self.spin
        work()  # loads what it needs
        began_s = time.perf_counter()
        work()
        enqueue_s = min(time.perf_counter() - began_s, MOST_SPIN_S / SPIN_FACTOR)

        def prepared() -> None:
            prepare()
            spin(SPIN_FACTOR * enqueue_s)

        return prepared

    def ceiling(
        self,
        name: str,
        kind: CeilingKind,
        timed: Samples,
        *,
        work_per_call: float | None = None,
        dtype: str = "",
        level: str = "",
        level_bytes: float | None = None,
        conditions: Conditions | None = None,
    ) -> Ceiling:
        """A ceiling from samples: the median rate (FLOP/s, or B/s), or the median time for a latency.

        Args:
            name: as ``Ceiling`` lists them.
            kind: what the ceiling bounds.
            timed: seconds per call.
            work_per_call: FLOP or bytes of one call; None for a latency.
            dtype: the number format, for compute.
            level: the memory level, for memory.
            level_bytes: that level's capacity.
            conditions: what else was the case; how it was sampled is added.
        """
        units: dict[CeilingKind, Unit] = {"compute": "flop_per_s", "latency": "s"}
        measurement = Measurement(
            name=name,
            unit=units.get(kind, "byte_per_s"),
            samples=timed.seconds if work_per_call is None else tuple(work_per_call / s for s in timed.seconds),
            warmups=timed.warmups,
            conditions=(conditions or {}) | self._how(timed),
        )
        return Ceiling(
            name=name,
            kind=kind,
            value=measurement.median,
            unit=measurement.unit,
            origin="measured",
            source=f"median of {len(measurement.samples)} samples on this machine's {self.device_name}",
            dtype=dtype,
            level=level,
            level_bytes=level_bytes,
            samples=measurement.samples,
            spread=measurement.spread,
            stable=measurement.stable and timed.undisturbed and len(measurement.samples) >= _fewest(timed),
            conditions=measurement.conditions,
        )

    def _how(self, timed: Samples) -> Conditions:
        how: Conditions = {
            "warmups": timed.warmups,
            "calls_per_sample": timed.repeats,
            "discarded_samples": timed.discarded,
            "torch": torch.__version__,
        }
        if timed.clock_hz is not None:
            how["sm_clock_hz"] = timed.clock_hz
        if self.device.type == "cpu":
            how["threads"] = torch.get_num_threads()
            how["waited_for_cpu_fraction"] = "unknown" if timed.waited_fraction is None else timed.waited_fraction
        return how


def _fewest(timed: Samples) -> int:
    long = min(timed.seconds) * timed.repeats >= LONG_SAMPLE_S
    return FEW_LONG_SAMPLES if long else MIN_STABLE_SAMPLES


class Budget:
    """Time for several pieces of work in turn: each may take its part of what the earlier ones left.

    A piece that finds less than half of an equal part, because an earlier one overran, gets that half all the same.

    Args:
        timer: its host clock is read.
        total_s: time for all pieces, from the first call of ``next_s``.
        pieces: how many there are.
    """

    def __init__(self, timer: Timer, *, total_s: float, pieces: int) -> None:
        self._timer = timer
        self._total_s = total_s
        self._pieces = pieces
        self._least_s = total_s / pieces / 2 if pieces else 0.0
        self._began_s: float | None = None

    def next_s(self) -> float:
        """Seconds that the next piece may take."""
        now_s = self._timer.mark().host_s
        if self._began_s is None:
            self._began_s = now_s
        left_s = max(self._total_s - (now_s - self._began_s), 0.0)
        pieces, self._pieces = self._pieces, max(self._pieces - 1, 1)
        return max(left_s / pieces, self._least_s)


def best_ceiling(candidates: Sequence[Ceiling]) -> Ceiling:
    """The highest rate; a stable one within ``STABLE_SPREAD`` below it is preferred where it is not stable itself."""
    highest = max(candidates, key=lambda one: one.value)
    stable = [one for one in candidates if one.stable and one.value >= (1 - STABLE_SPREAD) * highest.value]
    return max(stable or [highest], key=lambda one: one.value)


def attempt(name: str, probe: Callable[[], Ceiling]) -> Ceiling | Skipped:
    """Run one probe; what stops it becomes the reason why it is missing."""
    try:
        return probe()
    except CannotRunError as stop:
        return Skipped(name=name, reason=stop.reason, remedy=stop.remedy)
    except Exception as error:  # noqa: BLE001 (one probe's failure must not cost the others; its text is kept)
        text = next(iter(str(error).splitlines()), "no error text")
        return Skipped(name=name, reason=f"failed with {type(error).__name__}: {text}")
