"""Which layouts fit, and how long does each take? The whole space, with what was ruled out and why."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwprof.plan.space.columns import Columns, Numbers, Truths, only
from hwprof.plan.space.constraints import HOST_MEMORY_FITS, INSIDE_LIMITS, MEMORY_FITS
from hwprof.plan.space.layouts import Tally, layouts
from hwprof.plan.space.memory import PieceShelf, shelf_of
from hwprof.plan.space.question import Question
from hwprof.predict.parameters import parameters_for
from hwprof.simulate.space import Space, predict_space
from hwprof.simulate.whole_step import StepTimes

Floats = NDArray[np.float64]

NEARLY = 1.1
"""Layouts that need up to this many times the usable memory are timed too: what more memory would give."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a search found; arrays of one for each layout that fits, or nearly.

    Attributes:
        question: what was asked.
        space: the layouts.
        need_bytes: memory that the fullest device has to have.
        times: their steps.
        fits: whether memory and limits allow them.
        tally: what was looked at.
        search_s: how long it took.
    """

    question: Question
    space: Space
    need_bytes: Floats
    times: StepTimes
    fits: Truths
    tally: Tally
    search_s: float

    @property
    def order(self) -> Numbers:
        """Places of the layouts that fit, fastest first; of equals, the one with less to manage."""
        found, space = np.flatnonzero(self.fits), self.space
        simple = (space.recompute, space.zero_stage, space.virtual, space.pipeline, space.tensor, space.context)
        keys = [column[found] for column in simple]
        return found[np.lexsort((*keys, self.times.step_s[found]))]


def search(question: Question) -> Found:
    """Every layout of the question's job on its machine.

    Raises:
        SpecError: the machine lacks a number that memory or time need.
        InputError: the model's positions end before the sequence does.
    """
    start, tally, shelf = perf_counter(), Tally(), shelf_of(question.base)
    rows = _on_host(layouts(question, tally), question, shelf, tally)
    columns, needs = _in_memory(rows, question, shelf, tally)
    space = space_of(question, columns)
    times = times_of(space, question)
    fits = needs <= question.usable_bytes
    fits &= _inside_limits(columns, times, question, tally, fits)
    tally.evaluated += int(np.count_nonzero(fits))
    return Found(
        question=question,
        space=space,
        need_bytes=needs,
        times=times,
        fits=fits,
        tally=tally,
        search_s=perf_counter() - start,
    )


def _on_host(rows: Columns, question: Question, shelf: PieceShelf, tally: Tally) -> Columns:
    """Those whose offload the host has room for."""
    room = question.host_share_bytes
    if room is None or question.base.offload == "none":
        return rows
    needs = shelf.on_host(rows)
    tally.refuse(HOST_MEMORY_FITS, rows, needs > room)
    tally.nearest_host_bytes = float(needs[needs > room].min(initial=float("inf")))
    return only(rows, needs <= room)


def _in_memory(rows: Columns, question: Question, shelf: PieceShelf, tally: Tally) -> tuple[Columns, Floats]:
    """Those that fit, or nearly, and what they need."""
    needs = shelf.needs(rows, scale=question.memory_scale)
    tally.refuse(MEMORY_FITS, rows, needs > question.usable_bytes)
    tally.note_need(rows, needs, question.usable_bytes)
    near = needs <= NEARLY * question.usable_bytes
    return only(rows, near), needs[near]


def _inside_limits(columns: Columns, times: StepTimes, question: Question, tally: Tally, fits: Truths) -> Truths:
    if question.longest_step_s is None:
        return np.ones_like(fits)
    slow = times.step_s > question.longest_step_s
    tally.refuse(INSIDE_LIMITS, columns, slow & fits)
    tally.nearest_s = float(times.step_s[slow & fits].min(initial=float("inf")))
    return ~slow


def times_of(space: Space, question: Question) -> StepTimes:
    """The step of every layout of a space, which may be empty."""
    if not len(space):
        return StepTimes(step_s=np.empty(0), parts={})
    parameters, _ = parameters_for(question.table, question.machine, question.stack)
    return predict_space(space, question.machine, question.stack, parameters)


_SETTINGS = (
    "tensor",
    "context",
    "expert",
    "expert_tensor",
    "pipeline",
    "virtual",
    "data",
    "micro_batch",
    "zero_stage",
    "shard_ranks",
    "recompute",
    "schedule",
)


def space_of(question: Question, columns: Columns) -> Space:
    """The rows as the simulator's space."""
    numbers: dict[str, Any] = {name: columns[name] for name in _SETTINGS}
    truths: dict[str, Any] = {name: columns[name].astype(bool) for name in ("sequence_parallel", "overlap")}
    return Space(base=question.base, **numbers, **truths)
