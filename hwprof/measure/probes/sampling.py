"""How often must work be timed until its time is known? Rounds of samples, until one round is steady or time is up."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace

from hwprof.measure.host.contention import waited_fraction
from hwprof.measure.timing import Mark, Timer
from hwprof.specs.measurement import MAX_WAITED_FRACTION, STABLE_SPREAD, quantile

Work = Callable[[], object]
"""Something to time; what it returns is dropped."""


_CALLS_BETWEEN_LOOKS = 32
"""Calls in a sample between two looks at the clock, so that the looks cost about 10 ns a call."""

WaitClock = Callable[[], float | None]
"""Thread-seconds so far that other processes kept the work waiting, or another reading; None where it is unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """Timings of one piece of work, and how they were taken.

    Attributes:
        seconds: time of one call of the work, one value a sample.
        warmups: calls before the first sample, untimed or timed only to find ``repeats``.
        repeats: calls inside one sample.
        discarded: samples of other rounds, which were not steady or were disturbed.
        waited_fraction: thread-seconds that the work waited for a CPU over the samples' wall time; None if unknown.
        clock_hz: of the device while it was at work; None if unknown.
    """

    seconds: tuple[float, ...]
    warmups: int
    repeats: int
    discarded: int
    waited_fraction: float | None = None
    clock_hz: float | None = None

    @property
    def undisturbed(self) -> bool:
        """Whether no other process is known to have taken the CPU meanwhile."""
        return self.waited_fraction is None or self.waited_fraction <= MAX_WAITED_FRACTION


def sample_s(
    timer: Timer,
    work: Work,
    *,
    warmups: int,
    samples: int,
    deadline_s: float,
    minimum_sample_s: float = 0.0,
    prepare: Work | None = None,
    waited_s: WaitClock = lambda: None,
    clock_hz: WaitClock = lambda: None,
) -> Samples:
    """Time ``work`` in rounds of ``samples`` samples.

    The first round whose spread (interquartile range over median) is at most ``STABLE_SPREAD``, and which did not wait
    for a CPU, is the result. When ``deadline_s`` passes first, the complete round with the least median is: the one
    least disturbed by whatever else the machine does, unsteady as it is. A deadline inside the first round cuts it
    short; one sample is always taken. A round is enqueued whole before it is read, so that a device that works while
    the host goes on never waits.

    Args:
        timer: the clock of the device that does the work.
        work: what to time.
        warmups: calls before the first sample.
        samples: samples in a round.
        deadline_s: seconds on the host's clock, warm-ups included, after which no sample is begun and one under way is
            cut short.
        minimum_sample_s: work shorter than this is repeated inside a sample until the sample is as long.
        prepare: called before each sample, outside the timed region (flush a cache, drain a queue).
        waited_s: how long other processes have kept the work waiting.
        clock_hz: the device's clock at present; asked while it works on what is enqueued.
    """
    began_s = timer.mark().host_s
    for _ in range(warmups):
        work()
    plan = _Plan(
        timer=timer,
        work=work,
        samples=samples,
        stop_at_s=began_s + deadline_s,
        prepare=prepare,
        waited_s=waited_s,
        clock_hz=clock_hz,
    )
    repeats, calls = plan.find_repeats(minimum_sample_s)
    rounds = [plan.round(repeats, warmups + calls)]
    while not _good(rounds[-1], samples) and timer.mark().host_s < plan.stop_at_s:
        rounds.append(plan.round(repeats, warmups + calls))
    chosen = rounds[-1] if _good(rounds[-1], samples) else _least_disturbed(rounds)
    return replace(chosen, discarded=sum(len(one.seconds) for one in rounds) - len(chosen.seconds))


@dataclass(frozen=True, slots=True)
class _Sample:
    start: Mark
    stop: Mark
    calls: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    timer: Timer
    work: Work
    samples: int
    stop_at_s: float
    prepare: Work | None
    waited_s: WaitClock
    clock_hz: WaitClock

    def round(self, repeats: int, warmups: int) -> Samples:
        """Seconds of one call, for each sample that begins before the deadline, and for one at least."""
        taken: list[_Sample] = []
        waited_before_s = self.waited_s()
        while len(taken) < self.samples and not (taken and taken[-1].stop.host_s >= self.stop_at_s):
            taken.append(self._sample(repeats))
        clock_hz = self.clock_hz()
        elapsed_s = [self.timer.elapsed_s(sample.start, sample.stop) for sample in taken]
        waited_s = self.waited_s()
        return Samples(
            seconds=tuple(elapsed / sample.calls for elapsed, sample in zip(elapsed_s, taken, strict=True)),
            warmups=warmups,
            repeats=repeats,
            discarded=0,
            waited_fraction=waited_fraction(waited_before_s, waited_s, sum(elapsed_s)),
            clock_hz=clock_hz,
        )

    def find_repeats(self, minimum_sample_s: float) -> tuple[int, int]:
        """How many calls make a sample of ``minimum_sample_s``, and how many calls it took to find out."""
        repeats, calls = 1, 0
        while minimum_sample_s > 0:
            sample = self._sample(repeats)
            elapsed_s = self.timer.elapsed_s(sample.start, sample.stop)
            calls += sample.calls
            if elapsed_s >= minimum_sample_s or self.timer.mark().host_s >= self.stop_at_s:
                break
            wanted = math.ceil(repeats * minimum_sample_s / elapsed_s) if elapsed_s > 0 else 0
            repeats = max(2 * repeats, wanted)
        return repeats, calls

    def _sample(self, repeats: int) -> _Sample:
        """One sample of ``repeats`` calls, or of fewer where the deadline passes meanwhile."""
        if self.prepare is not None:
            self.prepare()
        start = self.timer.mark()
        calls = 0
        while calls < repeats and not (calls and self.timer.mark().host_s >= self.stop_at_s):
            piece = min(_CALLS_BETWEEN_LOOKS, repeats - calls)
            for _ in range(piece):
                self.work()
            calls += piece
        return _Sample(start, self.timer.mark(), calls)


def _good(one: Samples, samples: int) -> bool:
    return len(one.seconds) == samples and _spread(one.seconds) <= STABLE_SPREAD and one.undisturbed


def _least_disturbed(rounds: list[Samples]) -> Samples:
    complete = [one for one in rounds if len(one.seconds) == len(rounds[0].seconds)]
    return min(complete, key=lambda one: statistics.median(one.seconds))


def _spread(seconds: tuple[float, ...]) -> float:
    """Interquartile range over median, a fraction."""
    return (quantile(seconds, 0.75) - quantile(seconds, 0.25)) / statistics.median(seconds)
