"""What would a little more of each resource gain? The best layout again, with 10 % more of one of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from hwprof.plan.space.question import Question
from hwprof.plan.space.search import Found, times_of
from hwprof.predict.ceilings.calibrated import with_device
from hwprof.predict.parameters import parameters_for

MORE = 1.1
CANDIDATES = 2000
"""So many of the fastest layouts are timed again; which of them is the best may change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """How much shorter the best step becomes with 10 % more of a resource; a fraction of the step."""

    resource: str
    saved_fraction: float


def gains(found: Found) -> tuple[Gain, ...]:
    """The gain from each resource, by the closed form; largest first. Empty where nothing fits."""
    order = found.order
    if not len(order):
        return ()
    before_s = float(found.times.step_s[order[0]])
    after_s = {name: _best_s(found, change) for name, change in _CHANGES.items()}
    usable = found.question.usable_bytes * MORE
    limit = found.question.longest_step_s
    roomy = (found.need_bytes <= usable) & (True if limit is None else found.times.step_s <= limit)
    after_s["memory capacity"] = float(np.min(found.times.step_s[roomy]))
    shares = {name: max(1 - step_s / before_s, 0.0) for name, step_s in after_s.items()}
    return tuple(Gain(resource=name, saved_fraction=shares[name]) for name in sorted(shares, key=lambda n: -shares[n]))


def _best_s(found: Found, change: Callable[[Question], Question]) -> float:
    """The shortest step of the leading layouts where something is changed."""
    places = found.order[:CANDIDATES]
    return float(np.min(times_of(found.space.at(places), change(found.question)).step_s))


def _with_more(*names: str) -> Callable[[Question], Question]:
    """The question with 10 % more of these shares of its device: kernels stay those that were measured on it."""

    def change(question: Question) -> Question:
        known, _ = parameters_for(question.table, question.machine, question.stack)
        values = {name: MORE * getattr(known, name) for name in names}
        table = with_device(question.table, question.machine, values, known.measured)
        return replace(question, table=table)

    return change


def _with_network(question: Question) -> Question:
    machine = question.machine
    return replace(question, machine=replace(machine, between_byte_per_s=machine.between_byte_per_s * MORE))


_CHANGES: dict[str, Callable[[Question], Question]] = {
    "matrix-multiply rate": _with_more("sustained_share", "narrow_share"),
    "memory bandwidth": _with_more("memory_share"),
    "links inside a domain": _with_more("link_share"),
    "network between domains": _with_network,
}
