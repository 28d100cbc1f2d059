"""No layout has the degrees that were asked for: which of them does not divide what, and which nearby would?"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import fields, replace
from itertools import combinations

import numpy as np

from hwprof.plan.space.columns import divisors
from hwprof.plan.space.question import Choices, Question
from hwprof.plan.space.search import Found, search

DEGREES = {
    "tensor": "--tp",
    "context": "--cp",
    "pipeline": "--pp",
    "data": "--dp",
    "expert": "--ep",
    "virtual": "--vp",
    "micro_batch": "--micro-batch",
}
"""Choices that were typed as numbers -> their options."""


def undivided(question: Question) -> str:
    """Which degrees divide nothing, in words, and what they must divide; empty where each does."""
    facts = [*_facts(question), *_of_schedule(question)]
    return "; ".join(facts or _together(question))


def _facts(question: Question) -> Iterator[str]:
    devices, choices, model = question.machine.devices, question.choices, question.base.model
    for name in ("tensor", "context", "pipeline", "data"):
        given = getattr(choices, name)
        if given and not any(devices % degree == 0 for degree in given):
            yield f"{_typed(name, given)} does not divide {devices} devices{_near(given, devices)}"
    experts, *_ = model.routed
    if choices.expert and not any(experts % degree == 0 for degree in choices.expert):
        has = f"{experts} experts" if experts > 1 else "no experts"
        yield f"{_typed('expert', choices.expert)}: {model.name} has {has}{_near(choices.expert, experts)}"


def _of_schedule(question: Question) -> Iterator[str]:
    choices, layers, batch = question.choices, question.base.model.layers, question.base.global_batch
    stages = choices.pipeline or tuple(degree for degree in divisors(question.machine.devices) if degree > 1)
    chunks = [virtual * stage for virtual in choices.virtual for stage in stages]
    if chunks and all(layers % each and (layers + 2) % each for each in chunks):
        yield f"{_typed('virtual', choices.virtual)}: {layers} layers do not divide by {min(chunks)} pipeline chunks"
    if choices.micro_batch and not any(batch % size == 0 for size in choices.micro_batch):
        yield f"{_typed('micro_batch', choices.micro_batch)} does not divide {batch} sequences a step"


def _together(question: Question) -> Iterator[str]:
    fixed = [getattr(question.choices, name) for name in ("tensor", "context", "pipeline", "data")]
    product, devices = math.prod(given[0] for given in fixed if given), question.machine.devices
    if all(len(given) <= 1 for given in fixed) and (devices % product or (all(fixed) and product != devices)):
        yield f"degrees that make {product} together do not make up {devices} devices"


def _typed(name: str, given: tuple[int, ...]) -> str:
    return f"{DEGREES[name]} {','.join(map(str, given))}"


def _near(given: tuple[int, ...], whole: int) -> str:
    """The divisors beside what was given."""
    below = [degree for degree in divisors(whole) if degree < given[0]]
    above = [degree for degree in divisors(whole) if degree > given[0]]
    near = [*below[-1:], *above[:1]]
    return f" (nearest: {' and '.join(map(str, near))})" if whole > 1 else ""


def nearest_degrees(question: Question) -> tuple[tuple[str, ...], Found, int] | None:
    """Fewest degrees changed to the nearest with which a layout fits: what to type, the search, the layout's place."""
    given = {name: getattr(question.choices, name) for name in DEGREES if getattr(question.choices, name)}
    for count in range(1, len(given) + 1):
        near = [found for names in combinations(given, count) if (found := _freed(question, names)) is not None]
        if near:
            return min(near, key=lambda one: one[0])[1:]
    return None


def _freed(question: Question, names: tuple[str, ...]) -> tuple[float, tuple[str, ...], Found, int] | None:
    """The nearest with other values of these alone; how far they are, as logarithms of ratios, before all else."""
    given = {each.name: getattr(question.choices, each.name) for each in fields(question.choices)}
    found = search(replace(question, choices=Choices(**given | dict.fromkeys(names, ()))))
    if not len(found.order):
        return None
    values = {name: getattr(found.space, name)[found.order] for name in names}
    ratios = [np.abs(np.log(values[name][:, None] / getattr(question.choices, name))).min(axis=1) for name in names]
    far = np.sum(ratios, axis=0)
    best = int(np.lexsort((found.times.step_s[found.order], far))[0])
    words = tuple(f"{DEGREES[name]} {values[name][best]}" for name in names)
    return float(far[best]), words, found, int(found.order[best])
