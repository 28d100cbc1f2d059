"""What would a little more of each resource gain? The best layout again, with 10 % more of one of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from hwprof.plan.space.search import Found, times_of
from hwprof.predict.machine import Machine

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


def _best_s(found: Found, change: Callable[[Machine], Machine]) -> float:
    """The shortest step of the leading layouts on the changed machine."""
    places = found.order[:CANDIDATES]
    question = replace(found.question, machine=change(found.question.machine))
    return float(np.min(times_of(found.space.at(places), question).step_s))


def _faster_products(machine: Machine) -> Machine:
    peaks = machine.device.peaks
    rates = {name: rate * MORE for name, rate in peaks.dense if rate is not None}
    dense = peaks.dense.model_copy(update=rates)
    return replace(
        machine, device=machine.device.model_copy(update={"peaks": peaks.model_copy(update={"dense": dense})})
    )


def _faster_memory(machine: Machine) -> Machine:
    memory = machine.device.memory
    faster = memory.model_copy(update={"bandwidth_byte_per_s": memory.bandwidth_byte_per_s * MORE})
    return replace(machine, device=machine.device.model_copy(update={"memory": faster}))


_CHANGES: dict[str, Callable[[Machine], Machine]] = {
    "matrix-multiply rate": _faster_products,
    "memory bandwidth": _faster_memory,
    "links inside a domain": lambda machine: replace(machine, inside_byte_per_s=machine.inside_byte_per_s * MORE),
    "network between domains": lambda machine: replace(machine, between_byte_per_s=machine.between_byte_per_s * MORE),
}
