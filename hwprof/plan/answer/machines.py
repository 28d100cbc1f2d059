"""What does the planner answer? For each machine the plans that fit or why none does; over all machines a ranking."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from hwprof.plan.answer.cost import RunningRates
from hwprof.plan.answer.pareto import front
from hwprof.plan.answer.plans import Plan, compared, plans_of
from hwprof.plan.answer.scaling import ScalingPoint
from hwprof.plan.answer.sensitivity import Gain, gains
from hwprof.plan.goodput.reliability import Reliability
from hwprof.plan.space.constraints import (
    HOST_MEMORY_FITS,
    MEMORY_FITS,
    OF_DEGREES,
    OF_SETTINGS,
    host_reason,
    limit_reason,
    memory_reason,
)
from hwprof.plan.space.question import Question
from hwprof.plan.space.search import Found, search
from hwprof.plan.space.undivided import undivided

if TYPE_CHECKING:
    from hwprof.plan.answer.fleet import Fleet
    from hwprof.plan.answer.nearest import Change

Objective = Literal["time", "throughput", "cost", "energy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A rule that ruled layouts out: how many, and one of them with its numbers."""

    rule: str
    count: int
    example: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One machine: a device and how many of it.

    Attributes:
        question: what was asked of it.
        rates: of its devices.
        founds: what the search of each format, offload and context kind found; the one with the best plan first.
        plans: best first; empty where nothing fits.
        refusals: why layouts were ruled out, most frequent first.
        gains: what more of each resource would give the best plan.
        reason: why there is no plan, else empty.
        beyond: where nothing but a limit of time or money stands against it, the fastest plan.
    """

    question: Question
    rates: RunningRates
    founds: tuple[Found, ...]
    plans: tuple[Plan, ...]
    refusals: tuple[Refusal, ...]
    gains: tuple[Gain, ...]
    reason: str = ""
    beyond: Plan | None = None

    @property
    def name(self) -> str:
        """Devices and how many: ``8 x h100-sxm5-80gb``."""
        return f"{self.question.machine.devices} x {self.question.machine.device.id}"

    @property
    def evaluated(self) -> int:
        """Layouts looked at one by one: by a rule, the memory formula or the step formula."""
        return sum(found.tally.evaluated for found in self.founds)

    @property
    def search_s(self) -> float:
        """Time of the searches."""
        return sum(found.search_s for found in self.founds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unable:
    """A machine that could not even be searched, and why: it is not defined, or a number of it is not known."""

    hardware: str
    devices: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """All options, and all plans of all of them ranked by the objective.

    Attributes:
        objective: what is best.
        options: in the order in which they were asked for.
        fleets: where a deadline or a budget was given in place of a number, what it takes of each hardware.
        plans: best first.
        change: where nothing keeps to what was asked, the nearest change that works.
        front: of them, those that none beats in time, devices, memory and cost together.
        unable: machines beside the options that could not be searched.
        scaling: of the first plan's job on more and fewer of its devices; empty where nobody asked.
    """

    objective: Objective
    options: tuple[Option, ...]
    plans: tuple[Plan, ...]
    front: tuple[Plan, ...]
    unable: tuple[Unable, ...] = ()
    fleets: tuple[Fleet, ...] = ()
    change: Change | None = None
    scaling: tuple[ScalingPoint, ...] = ()

    @property
    def chosen(self) -> Plan | None:
        """What to take; None = nothing keeps to what was asked."""
        kept = not self.fleets or any(fleet.smallest for fleet in self.fleets)
        return self.plans[0] if self.plans and kept else None

    @property
    def evaluated(self) -> int:
        """Layouts looked at one by one: by a rule, the memory formula or the step formula."""
        return sum(option.evaluated for option in self.options)

    @property
    def search_s(self) -> float:
        """Time of all searches."""
        return sum(option.search_s for option in self.options)

    @property
    def rejected(self) -> dict[str, int]:
        """How many layouts each rule ruled out."""
        total: dict[str, int] = {}
        for option in self.options:
            for refusal in option.refusals:
                total[refusal.rule] = total.get(refusal.rule, 0) + refusal.count
        return total


def option_of(
    question: Question,
    rates: RunningRates,
    *,
    tokens: float | None = None,
    reliability: Reliability | None = None,
) -> Option:
    """Search one machine.

    Raises:
        SpecError: the machine lacks a number that memory or time need.
        InputError: the model's positions end before the sequence does.
    """
    founds = [search(each) for each in question.variants]
    own = [(plan, found) for found in founds for plan in plans_of(found, rates, tokens=tokens, reliability=reliability)]
    own.sort(key=lambda pair: pair[0].prediction.step_s)
    plans = compared([replace(plan, rank=place) for place, (plan, _) in enumerate(own, start=1)])
    best = own[0][1] if own else _nearest(founds)
    beyond = None
    if not own and any(found.tally.rejected.get("inside_limits") for found in founds):
        free = option_of(replace(question, longest_step_s=None), rates, tokens=tokens, reliability=reliability)
        beyond = free.plans[0]
    return Option(
        question=question,
        rates=rates,
        founds=tuple(sorted(founds, key=lambda found: found is not best)),
        plans=tuple(plans),
        refusals=_refusals(founds),
        gains=gains(best),
        reason="" if plans else _why_none(best, beyond),
        beyond=beyond,
    )


def _nearest(founds: Sequence[Found]) -> Found:
    """Of searches without a plan, the one that came nearest to fitting."""
    return min(founds, key=lambda found: found.tally.nearest_bytes)


def answer_of(
    options: Sequence[Option],
    objective: Objective,
    unable: Sequence[Unable] = (),
    *,
    fleets: Sequence[Fleet] = (),
    first: Plan | None = None,
) -> Answer:
    """All options side by side; ``first`` is what was chosen by more than the objective."""
    key = _KEYS[objective]
    ranked = sorted(
        (plan for option in options for plan in option.plans), key=lambda plan: (plan is not first, *key(plan))
    )
    plans = [replace(plan, rank=place, ahead=None) for place, plan in enumerate(ranked, start=1)]
    if objective == "time":  # what is known of the errors is known of steps
        plans = compared(plans)
    return Answer(
        objective=objective,
        options=tuple(options),
        plans=tuple(plans),
        front=_front(plans),
        unable=tuple(unable),
        fleets=tuple(fleets),
    )


def _cost(plan: Plan) -> float:
    return float("inf") if plan.bill.mean_usd is None else plan.bill.mean_usd


_KEYS: dict[Objective, Callable[[Plan], tuple[float, ...]]] = {
    "time": lambda plan: (plan.bill.time_s, plan.devices),
    "throughput": lambda plan: (-plan.prediction.tokens_per_s_per_device, plan.devices),
    "cost": lambda plan: (_cost(plan), plan.bill.time_s),
    "energy": lambda plan: (
        float("inf") if plan.bill.energy_kwh is None else plan.bill.energy_kwh,
        plan.bill.time_s,
    ),
}


def _front(plans: Sequence[Plan]) -> tuple[Plan, ...]:
    if not plans:
        return ()
    largest = 1e300
    points = np.array(
        [
            (plan.bill.time_s, plan.devices, plan.prediction.memory.device_bytes, min(_cost(plan), largest))
            for plan in plans
        ]
    )
    return tuple(plans[place] for place in front(points))


def _refusals(founds: Sequence[Found]) -> tuple[Refusal, ...]:
    """Each rule once, with what it ruled out in all searches and an example of the first that has one."""
    told: dict[str, Refusal] = {}
    for found in founds:
        for one in _told(found):
            before = told.get(one.rule)
            told[one.rule] = one if before is None else replace(before, count=before.count + one.count)
    return tuple(sorted(told.values(), key=lambda refusal: -refusal.count))


def _told(found: Found) -> list[Refusal]:
    tally, question = found.tally, found.question
    reasons = {rule.name: rule.reason for rule in (*OF_DEGREES, *OF_SETTINGS)}
    return [
        Refusal(
            rule=name,
            count=count,
            example=reasons[name](tally.examples[name], question) if name in reasons else _example(found, name),
        )
        for name, count in tally.rejected.items()
    ]


def _example(found: Found, rule: str) -> str:
    """Of memory and limits, the layout that was nearest to fitting."""
    tally, question = found.tally, found.question
    if rule == MEMORY_FITS:
        return memory_reason(tally.nearest_bytes, question)
    if rule == HOST_MEMORY_FITS:
        return host_reason(tally.nearest_host_bytes, question)
    return limit_reason(tally.nearest_s, question)


def _why_none(found: Found, beyond: Plan | None) -> str:
    tally, question = found.tally, found.question
    if beyond is not None:
        return limit_reason(beyond.prediction.step_s, question)
    if tally.rejected.get(MEMORY_FITS):
        return "the leanest layout " + memory_reason(tally.nearest_bytes, question)
    if tally.rejected.get(HOST_MEMORY_FITS):
        return host_reason(tally.nearest_host_bytes, question)
    refusals = _refusals([found])
    return undivided(question) or (refusals[0].example if refusals else "no layout divides so many devices")
