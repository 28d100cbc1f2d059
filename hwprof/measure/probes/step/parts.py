"""What of a model's step is probed, and for how long? What takes most of the step at the roofs comes first."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from hwprof.measure.probes.attention import AttentionPass
from hwprof.measure.probes.bench import Bench
from hwprof.measure.probes.matmul import MatmulShape
from hwprof.measure.timing import Timer
from hwprof.specs.job.settings import Dtype
from hwprof.specs.job.step_kernels import StepKernel
from hwprof.units import format_fraction, format_seconds

LEAST_CALLS = 3
"""What a part takes at least: a call that is checked, one that warms up, one that is timed."""

ROUND_S = 0.25
"""A part whose samples are short gets enough time for a round of them, or so much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A product, a pass of attention or another kernel of a step.

    Attributes:
        work: what is called.
        calls: how often in a step.
        flop: of the products of one call.
        moved_bytes: of one call, as counted.
        swept_bytes: that the step touches before this part meets the same tensors again.
    """

    work: MatmulShape | AttentionPass | StepKernel
    calls: float
    flop: float = 0.0
    moved_bytes: float = 0.0
    swept_bytes: float = math.inf

    def name(self, dtype: Dtype) -> str:
        """Of its ceiling in a run of so many bits."""
        if isinstance(self.work, MatmulShape):
            return f"matmul.{dtype}.{self.work}"
        if isinstance(self.work, AttentionPass):
            return f"attention.{dtype}.{self.work}"
        return str(self.work)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """A part with its time at the roofs.

    Attributes:
        part: the part.
        call_s: one call at the roofs.
        share: of the time of all parts of the step at the roofs.
        need_s: the least time that is worth setting aside for it.
    """

    part: Part
    call_s: float
    share: float
    need_s: float


def ranked(parts: Iterable[Part], bench: Bench, *, flop_per_s: float, byte_per_s: float) -> tuple[Ranked, ...]:
    """The parts, those first that the step spends most on.

    Args:
        parts: of a step.
        bench: how they will be sampled.
        flop_per_s: the roof of products, as measured.
        byte_per_s: the roof of the last level of memory.
    """
    timed = [(part, max(part.flop / flop_per_s, part.moved_bytes / byte_per_s)) for part in parts]
    whole_s = sum(part.calls * call_s for part, call_s in timed)
    found = [
        Ranked(
            part=part,
            call_s=call_s,
            share=part.calls * call_s / whole_s if whole_s else 0.0,
            need_s=_need_s(bench, call_s),
        )
        for part, call_s in timed
    ]
    return tuple(sorted(found, key=lambda one: -one.share))


def _need_s(bench: Bench, call_s: float) -> float:
    round_s = (bench.warmups + bench.samples) * max(call_s, bench.minimum_sample_s)
    return max(LEAST_CALLS * call_s, min(round_s, ROUND_S))


class Shares:
    """Time for ranked parts in turn: each gets what it needs, and of the rest its share of what is still to come.

    Parts are chosen from the first on, as long as what they need fits; the first is always chosen.

    Args:
        timer: its host clock is read.
        parts: ranked.
        total_s: time for all of them, from the first call of ``next_s``.
    """

    def __init__(self, timer: Timer, parts: Sequence[Ranked], *, total_s: float) -> None:
        self._timer = timer
        self._total_s = total_s
        self._began_s: float | None = None
        self._left = list(_fitting(parts, total_s))
        self._chosen = frozenset(id(one) for one in self._left)

    def reason(self, one: Ranked) -> str:
        """Why a part is left out; empty where it is not."""
        if id(one) in self._chosen:
            return ""
        return (
            f"left out: it is {format_fraction(one.share)} of the step at the roofs, a call takes at least "
            f"{format_seconds(one.call_s)}, and the {format_seconds(self._total_s)} for the parts of the step go to "
            "larger ones first"
        )

    def next_s(self, one: Ranked) -> float:
        """Seconds for a chosen part; the parts before it are done."""
        now_s = self._timer.mark().host_s
        if self._began_s is None:
            self._began_s = now_s
        while self._left and self._left[0] is not one:
            self._left.pop(0)
        needed_s = sum(each.need_s for each in self._left)
        weight = sum(each.share for each in self._left)
        spare_s = max(self._total_s - (now_s - self._began_s) - needed_s, 0.0)
        return one.need_s + spare_s * (one.share / weight if weight else 1.0)


def _fitting(parts: Sequence[Ranked], total_s: float) -> Iterator[Ranked]:
    left_s = total_s
    for number, one in enumerate(parts):
        if number == 0 or one.need_s <= left_s:
            left_s -= one.need_s
            yield one
