"""Which layouts are there? Every way to divide the devices, then every way to shard, schedule and batch on each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hwprof.plan.space.columns import Columns, Numbers, Truths, divisors, only, widened
from hwprof.plan.space.constraints import OF_DEGREES, OF_SETTINGS, Constraint
from hwprof.plan.space.question import Question
from hwprof.specs.job.schedules import PLAIN, SCHEDULES, TRAITS
from hwprof.specs.job.settings import RECOMPUTE

DEGREES = ("tensor", "context", "pipeline", "data", "expert")
"""What a family of layouts shares."""


@dataclass(slots=True)
class Tally:
    """What was looked at and what became of it; the one thing here that grows as a search goes on.

    Attributes:
        evaluated: rows that a constraint, the memory formula or the step formula was applied to, the last time only.
        rejected: how many of them each constraint ruled out.
        examples: of each constraint, one row that broke it.
        family_bytes: the least memory that each family of degrees was seen to need, where it was too much.
        nearest_bytes: the least memory of those that need too much.
        nearest_host_bytes: the least host memory of a device of those whose offload needs too much.
        nearest_s: the shortest step of those that take too long.
    """

    evaluated: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    examples: dict[str, dict[str, int]] = field(default_factory=dict)
    family_bytes: dict[tuple[int, ...], float] = field(default_factory=dict)
    nearest_bytes: float = float("inf")
    nearest_host_bytes: float = float("inf")
    nearest_s: float = float("inf")

    def refuse(self, name: str, columns: Columns, broken: Truths) -> None:
        """Book the broken rows under a constraint."""
        count = int(np.count_nonzero(broken))
        if count:
            self.rejected[name] += count
            self.evaluated += count
            if name not in self.examples:
                first = int(np.argmax(broken))
                self.examples[name] = {key: int(values[first]) for key, values in columns.items()}

    def note_need(self, columns: Columns, need_bytes: NDArray[np.float64], usable_bytes: float) -> None:
        """Keep how near to fitting those came that need too much, and the families of degrees that never fit."""
        over = need_bytes[need_bytes > usable_bytes]
        self.nearest_bytes = float(over.min(initial=self.nearest_bytes))
        if not len(need_bytes):
            return
        keys, place = np.unique(np.stack([columns[name] for name in DEGREES]), axis=1, return_inverse=True)
        least = np.full(keys.shape[1], np.inf)
        np.minimum.at(least, place.reshape(-1), need_bytes)
        self.family_bytes |= {
            tuple(map(int, keys[:, i])): float(least[i]) for i in np.flatnonzero(least > usable_bytes)
        }


def layouts(question: Question, tally: Tally) -> Columns:
    """Every layout that can run, if memory lets it: first the ways to divide the devices, then all settings of each."""
    columns = _asked(every_division(question), OF_DEGREES, question, tally)
    columns = _with_micro_batches(_with_recompute(_with_schedules(columns, question), question), question)
    return _asked(columns, OF_SETTINGS, question, tally)


def every_division(question: Question) -> Columns:
    """Every (tensor, context, pipeline, data) whose product is the number of devices, with each expert degree."""
    chosen, devices = question.choices, question.machine.devices
    parts = divisors(devices)
    grids = np.meshgrid(
        *(np.array(chosen_of(given, parts)) for given in (chosen.tensor, chosen.context, chosen.pipeline)),
        indexing="ij",
    )
    tensor, context, pipeline = (grid.reshape(-1).astype(np.int64) for grid in grids)
    of_replica = devices // tensor  # one factor at a time: the product of three may exceed 64 bits
    of_stage = of_replica // context
    columns = {"tensor": tensor, "context": context, "pipeline": pipeline, "data": of_stage // pipeline}
    columns = only(columns, (of_replica % context == 0) & (of_stage % pipeline == 0) & (columns["data"] > 0))
    if chosen.data:
        columns = only(columns, np.isin(columns["data"], chosen.data))
    experts, *_ = question.base.model.routed
    columns = widened(
        columns, columns["data"], ("expert",), lambda _: [(e,) for e in chosen_of(chosen.expert, divisors(experts))]
    )
    usual = np.where(columns["data"] * columns["context"] % columns["expert"] == 0, columns["tensor"], 1)
    key = usual * (experts + 1) + columns["expert"]
    return widened(columns, key, ("expert_tensor",), lambda k: _expert_tensors(k, experts, question))


def _expert_tensors(key: int, experts: int, question: Question) -> list[tuple[int]]:
    """Devices that share one expert: as asked, else one where experts are spread.

    ``ep`` x ``etp`` ranks hold as much of a layer as one of ``ep`` x ``etp`` experts, whose products are larger and
    whose tokens need no gathering: experts are shared only where that many do not divide them, or nothing else is.
    """
    usual, spread = divmod(key, experts + 1)
    if question.choices.expert_tensor and experts > 1:
        return [(degree,) for degree in question.choices.expert_tensor]
    if spread == 1 or question.stack.shares_experts:
        return [(usual,)]
    return [(1,), (usual,)] if usual > 1 and experts % (spread * usual) else [(1,)]


def chosen_of(given: Sequence[int], possible: Sequence[int]) -> list[int]:
    """What is possible, of what was asked for."""
    return [value for value in possible if not given or value in given]


def _with_schedules(columns: Columns, question: Question) -> Columns:
    """Each division with every schedule and every way to shard."""
    columns = widened(
        columns, columns["pipeline"], ("schedule", "virtual", "chunks"), lambda p: _schedules(p, question)
    )
    replicas, inside = columns["data"] * columns["context"], _near(columns, question)
    key = replicas * (question.machine.domain + 1) + inside
    return widened(columns, key, ("zero_stage", "shard_ranks"), lambda k: _shardings(k, question))


def _near(columns: Columns, question: Question) -> Numbers:
    """Replicas of a device that are in its scale-up domain."""
    near: Numbers = np.maximum(
        np.minimum(question.machine.domain // columns["tensor"], columns["data"] * columns["context"]), 1
    )
    return near


def _schedules(stages: int, question: Question) -> list[tuple[int, int, int]]:
    """(schedule, virtual stages, chunks the layers are cut into for each stage)."""
    if stages == 1:
        return [(PLAIN, 1, 1)]
    layers, found = question.base.model.layers, []
    for name in question.schedules:
        code = SCHEDULES.index(name)
        if TRAITS[name].virtual:
            possible = [
                v
                for v in range(2, layers // stages + 2)
                if (layers % (stages * v)) * ((layers + 2) % (stages * v)) == 0
            ]
            found += [(code, v, v) for v in chosen_of(question.choices.virtual, possible)]
        elif not question.choices.virtual or 1 in question.choices.virtual:
            found.append((code, 1, 2 if TRAITS[name].turns_back else 1))  # two-way: two copies of a stage
    return found


def _shardings(key: int, question: Question) -> list[tuple[int, int]]:
    """(ZeRO stage, ranks it shards over): all replicas, or hybrid: so many as are near, or a multiple of that."""
    replicas, near = divmod(key, question.machine.domain + 1)
    ranks = [r for r in divisors(replicas) if r > 1 and (r == replicas or (question.choices.hybrid and r >= near))]
    stages = [stage for stage in question.choices.zero if stage == 0 or replicas > 1]
    found = [(stage, r) for stage in stages if stage for r in ranks]
    return ([(0, replicas)] if 0 in question.choices.zero or replicas == 1 else []) + found


def _with_recompute(columns: Columns, question: Question) -> Columns:
    """Each with every recompute mode, with and without sequence parallelism and overlap.

    Selective recompute spares the stored scores (Korthikanti et al. 2022, section 5). Flash attention has none, so
    there it would cost time and save nothing; it is looked at only where nothing else may be chosen.
    """
    flash = question.base.attention != "materialised"
    worth = [mode for mode in question.choices.recompute if not (flash and mode == "selective")]
    modes = [RECOMPUTE.index(mode) for mode in worth or question.choices.recompute]
    columns = widened(
        columns, columns["tensor"], ("recompute", "sequence_parallel"), lambda t: _splits(t, modes, question)
    )
    overlaps = [(int(value),) for value in question.choices.overlap]
    return widened(columns, columns["tensor"], ("overlap",), lambda _: overlaps)


def _splits(tensor: int, modes: Sequence[int], question: Question) -> list[tuple[int, int]]:
    split = [int(value) for value in question.choices.sequence_parallel] if tensor > 1 else [1]
    return [(mode, value) for mode in modes for value in split]


def _with_micro_batches(columns: Columns, question: Question) -> Columns:
    """Each with every micro-batch that divides the sequences of a data rank."""
    given, shares = question.choices.micro_batch, question.base.global_batch // columns["data"]
    return widened(columns, shares, ("micro_batch",), lambda share: [(b,) for b in chosen_of(given, divisors(share))])


def _asked(columns: Columns, constraints: Sequence[Constraint], question: Question, tally: Tally) -> Columns:
    for constraint in constraints:
        broken = constraint.broken(columns, question)
        tally.refuse(constraint.name, columns, broken)
        columns = only(columns, ~broken)
    return columns
