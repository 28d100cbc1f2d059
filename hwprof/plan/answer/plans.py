"""Which plans are best? The fastest layout of each family through the event engine, ranked, with what each costs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

import numpy as np

from hwprof.plan.answer.confidence import chance_of_being_faster
from hwprof.plan.answer.cost import Bill, RunningRates, bill_of, steps_of
from hwprof.plan.goodput.expected import Goodput, goodput_of
from hwprof.plan.goodput.reliability import Reliability
from hwprof.plan.space.layouts import DEGREES
from hwprof.plan.space.question import Question
from hwprof.plan.space.search import Found
from hwprof.simulate.prediction import Prediction, passes_of, predict_job
from hwprof.specs.job.step import TrainingJob

FINALISTS = 12
"""Families of layouts whose fastest member is run through the engine."""

MOST_PASSES = 500_000
"""Passes through pipeline stages that the engine goes through for all finalists together: about five seconds."""

FAMILY = (*DEGREES, "virtual", "schedule")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A layout that fits, in rank order.

    Attributes:
        rank: 1 is the best.
        question: what it answers.
        job: the step.
        prediction: of the step.
        bill: of the whole training, or of one step where no number of tokens was given.
        goodput: what failures and checkpoints make of its time; None = nobody asked for a whole training.
        ahead: probability that it is faster than the next plan; None = it is the last.
    """

    rank: int
    question: Question
    job: TrainingJob
    prediction: Prediction
    bill: Bill
    goodput: Goodput | None = None
    ahead: float | None = None

    @property
    def devices(self) -> int:
        """How many it takes."""
        return self.job.layout.devices

    @property
    def tight(self) -> bool:
        """Whether the upper end of the memory interval is beyond the device."""
        high = self.prediction.memory_interval_bytes[1]
        return high * self.question.memory_scale > self.question.machine.capacity_bytes

    @property
    def tokens_per_s(self) -> float:
        """Of all devices."""
        return self.prediction.tokens_per_s_per_device * self.devices


def plans_of(
    found: Found,
    rates: RunningRates,
    *,
    tokens: float | None = None,
    reliability: Reliability | None = None,
    finalists: int = FINALISTS,
) -> list[Plan]:
    """The fastest layout of each family, as the engine sees it, fastest first.

    Args:
        found: a search.
        rates: of the device.
        tokens: of the whole training.
        reliability: of the fleet; None = nothing fails.
        finalists: so many families at most.
    """
    question = found.question
    each_once = dict.fromkeys(_least_recompute(job, question) for job in _leaders(found, finalists))
    jobs = _affordable(list(each_once))
    predicted = [(job, predict_job(job, question.machine, question.stack, question.table)) for job in jobs]
    if left := len(each_once) - len(jobs):
        said = f"{left} further layouts were not simulated: their pipelines have too many passes"
        predicted = [(job, replace(one, basis=(*one.basis, said))) for job, one in predicted]
    ranked = sorted(predicted, key=lambda pair: pair[1].step_s)
    goodput = whole_run(question, tokens, reliability)
    plans = [
        Plan(
            rank=place,
            question=question,
            job=job,
            prediction=prediction,
            bill=bill_of(
                prediction.step_s,
                job.layout.devices,
                steps_of(job, tokens),
                rates,
                interval_s=prediction.interval_s,
                goodput=goodput,
            ),
            goodput=goodput,
        )
        for place, (job, prediction) in enumerate(ranked, start=1)
    ]
    return compared(plans)


def _affordable(jobs: list[TrainingJob]) -> list[TrainingJob]:
    """The first, and those after it that the engine need not go through too many passes for."""
    totals = accumulate(passes_of(job) for job in jobs)
    return [
        job for place, (job, total) in enumerate(zip(jobs, totals, strict=True)) if not place or total <= MOST_PASSES
    ]


def whole_run(question: Question, tokens: float | None, reliability: Reliability | None) -> Goodput | None:
    """What failures make of a whole training; of one step nothing."""
    if tokens is None or reliability is None:
        return None
    return goodput_of(question.base, question.machine, reliability)


def compared(plans: list[Plan]) -> list[Plan]:
    """Each plan with the chance that it beats the next one."""
    chances: list[float | None] = [
        chance_of_being_faster(
            one.prediction.step_s, one.prediction.interval_s, other.prediction.step_s, other.prediction.interval_s
        )
        for one, other in pairwise(plans)
    ]
    return [replace(plan, ahead=chance) for plan, chance in zip(plans, [*chances, None], strict=False)]


def _leaders(found: Found, finalists: int) -> Iterable[TrainingJob]:
    """The fastest of each family, and the fastest that computes everything again where that leaves memory over."""
    space, order = found.space, found.order
    if not len(order):
        return []
    full = order[space.recompute[order] == 2]
    return [
        space.job(int(place))
        for group, most in ((order, finalists), (full, finalists // 3))
        for place in _first(found, group, most)
    ]


def _first(found: Found, order: np.ndarray, most: int) -> np.ndarray:
    keys = np.stack([getattr(found.space, name)[order] for name in FAMILY])
    _, first = np.unique(keys, axis=1, return_index=True)
    return order[np.sort(first)][:most]


def _least_recompute(job: TrainingJob, question: Question) -> TrainingJob:
    """The job with full recompute in as few layers as memory needs, with none where it needs none."""
    if job.recompute != "full":
        return job
    plain = job.changed(recompute="none")
    if question.has_room_for(plain):
        return plain

    def fits(layers: int) -> bool:
        return question.has_room_for(job.changed(recompute_layers=layers))

    layout, layers = job.layout, job.model.layers
    chunks = layout.pipeline_parallel * layout.chunks  # each takes as many: what programs can be told
    low, high = 0, -(-layers // chunks)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle * chunks) else (middle, high)
    return job if high * chunks >= layers else job.changed(recompute_layers=high * chunks)
