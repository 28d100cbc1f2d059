"""Nothing keeps to what was asked: which change of devices or batch is the nearest that does?"""

from __future__ import annotations

from dataclasses import dataclass

from hwprof.errors import InputError
from hwprof.plan.answer.cost import RunningRates, bill_of
from hwprof.plan.answer.fleet import Ask, Limits, fleet_of
from hwprof.plan.goodput.reliability import Reliability
from hwprof.plan.space.constraints import MEMORY_FITS
from hwprof.plan.space.question import Question
from hwprof.plan.space.search import search
from hwprof.plan.space.undivided import nearest_degrees
from hwprof.units import format_long, format_seconds, number

MOST_TIMES = 6
"""Doublings of the asked number of devices."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What to type instead, and what comes of it."""

    words: tuple[str, ...]
    outcome: str


def nearest_change(question: Question, ask: Ask, limits: Limits | None, reliability: Reliability) -> Change | None:
    """With a limit of time or money the smallest fleet that keeps to it, else a batch that divides or more devices."""
    machine, batch = question.machine, question.base.global_batch
    if limits is not None:
        return _fleet_change(machine.device.id, machine.device.node.devices, ask, limits, reliability)
    own = search(question)
    if not own.tally.rejected.get(MEMORY_FITS):
        change = _degrees_change(question, ask)
        if change is not None:
            return change
    near = Limits(
        tokens=1.0,
        deadline_s=None,
        budget_usd=None,
        site_watt=None,
        most_devices=None,
        batch=batch,
        batch_tolerance=NEAR,
    )
    tried = [(machine.devices, other) for other in near.batches(machine.devices) if other != batch]
    for power in range(1, MOST_TIMES + 1):
        tried += [(machine.devices << power, other) for other in near.batches(machine.devices << power)]
    for devices, other in tried:
        try:
            asked, rates = ask(devices, other)
        except InputError:  # so many are not defined
            continue
        found = search(asked)
        if len(found.order):
            step_s = float(found.times.step_s[found.order[0]])
            return Change(
                words=_words(machine.devices, batch, devices, other), outcome=_outcome(step_s, devices, rates)
            )
    return _degrees_change(question, ask)


def _outcome(step_s: float, devices: int, rates: RunningRates) -> str:
    hours = bill_of(step_s, devices, 1.0, rates).device_hours
    return f"a step then takes {format_seconds(step_s)}, {number(hours)} device hours"


def _degrees_change(question: Question, ask: Ask) -> Change | None:
    """Other degrees than those that were typed."""
    devices = question.machine.devices
    near = nearest_degrees(question)
    if near is None:
        return None
    words, found, place = near
    _, rates = ask(devices, question.base.global_batch)
    return Change(words=words, outcome=_outcome(float(found.times.step_s[place]), devices, rates))


NEAR = 0.15
"""A batch that differs by less is near."""


def _words(devices: int, batch: int, new_devices: int, new_batch: int) -> tuple[str, ...]:
    changed = (
        (devices != new_devices, f"--devices {new_devices}"),
        (batch != new_batch, f"--global-batch {new_batch}"),
    )
    return tuple(words for differs, words in changed if differs)


def _fleet_change(hardware: str, node: int, ask: Ask, limits: Limits, reliability: Reliability) -> Change | None:
    found = fleet_of(hardware, node, ask, limits, reliability).smallest
    if found is None:
        return None
    plan = found.plans[0]
    return Change(
        words=_words(0, limits.batch, plan.devices, plan.job.global_batch),
        outcome=format_long(plan.bill.time_s),
    )
