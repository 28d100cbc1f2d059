"""In which order does each stage of a pipeline work? Schedules as data: a list of items per stage, and routes.

A stage works through its list and starts the next item as soon as what it waits for has arrived. A *route* is the way
of a micro-batch through the model chunks of the stages, and all that different stages wait for follows from it: a
forward pass waits for the one before it on its route, a backward pass for the one after it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from hwprof.errors import InputError, UnknownNameError
from hwprof.simulate.pipeline.bidirectional import dualpipe_order
from hwprof.simulate.pipeline.passes import Item, backward, forward
from hwprof.simulate.pipeline.zero_bubble import zb_h1_order, zb_v_order
from hwprof.specs.job.schedules import SCHEDULES, TRAITS, Schedule

Place = tuple[int, int]
"""A stage and one of its chunks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineOrder:
    """A schedule for given numbers of stages, chunks and micro-batches.

    Attributes:
        schedule: its name.
        stages: pipeline stages p.
        chunks: model chunks v on each stage.
        micro_batches: micro-batches m of a step, over both directions of DualPipe.
        items: what each stage runs, in order. [stages][items]
        routes: the places that a micro-batch visits; every chunk is on one route. [routes][places]
    """

    schedule: Schedule
    stages: int
    chunks: int
    micro_batches: int
    items: tuple[tuple[Item, ...], ...]
    routes: tuple[tuple[Place, ...], ...]


def schedule_refusal(schedule: Schedule, *, stages: int, chunks: int, micro_batches: int) -> str | None:
    """Why the schedule can't run like this, or None where it can.

    Raises:
        UnknownNameError: there is no such schedule.
    """
    if schedule not in TRAITS:
        raise UnknownNameError(kind="schedule", name=schedule, known=SCHEDULES, remedy="choose one of these")
    traits = TRAITS[schedule]
    refusals = {
        f"{stages} stages, {chunks} chunks and {micro_batches} micro-batches must be positive": (
            min(stages, chunks, micro_batches) < 1
        ),
        f"{schedule} puts 2 chunks on each stage, not {chunks}": traits.two_chunks and chunks != 2,
        f"{schedule} puts 1 chunk on each stage, not {chunks}": traits.one_chunk and chunks != 1,
        f"{schedule} needs at least 2 stages": traits.virtual and chunks > 1 and stages == 1,
        f"{schedule} needs an even number of stages, not {stages}": traits.two_way and stages % 2,
        f"{schedule} needs an even number of micro-batches from {traits.fewest * stages} on, not {micro_batches}": (
            traits.two_way and (micro_batches % 2 or micro_batches < traits.fewest * stages)
        ),
    }
    return next((reason for reason, refused in refusals.items() if refused), None)


@lru_cache(maxsize=128)
def pipeline_order(schedule: Schedule, *, stages: int, chunks: int, micro_batches: int) -> PipelineOrder:
    """The schedule by its name.

    Raises:
        UnknownNameError: there is no such schedule.
        InputError: the schedule can't run with these numbers.
    """
    if reason := schedule_refusal(schedule, stages=stages, chunks=chunks, micro_batches=micro_batches):
        raise InputError(reason, remedy="change the pipeline's degrees or its schedule")
    if TRAITS[schedule].virtual and chunks > 1:
        items = [
            interleaved_order(stages=stages, chunks=chunks, micro_batches=micro_batches, stage=stage)
            for stage in range(stages)
        ]
    else:
        order = _ORDERS[schedule]
        items = [order(stages=stages, micro_batches=micro_batches, stage=stage) for stage in range(stages)]
    return PipelineOrder(
        schedule=schedule,
        stages=stages,
        chunks=chunks,
        micro_batches=micro_batches,
        items=tuple(tuple(of_stage) for of_stage in items),
        routes=routes(schedule, stages=stages, chunks=chunks),
    )


def routes(schedule: Schedule, *, stages: int, chunks: int) -> tuple[tuple[Place, ...], ...]:
    """The ways of micro-batches through the stages: chunk after chunk, in a V, or one from each end."""
    down = tuple((stage, 0) for stage in range(stages))
    up = tuple((stage, 1) for stage in reversed(range(stages)))
    if TRAITS[schedule].turns_back:
        return (down + up,)
    if TRAITS[schedule].two_way:
        return (down, up)
    return (tuple((stage, chunk) for chunk in range(chunks) for stage in range(stages)),)


def gpipe_order(*, stages: int, micro_batches: int, stage: int) -> list[Item]:
    """All forward passes, then all backward passes (Huang et al. 2019); every stage keeps all micro-batches."""
    del stages, stage  # the same on each
    return [forward(0, k) for k in range(micro_batches)] + [backward(0, k) for k in range(micro_batches)]


def one_forward_one_backward_order(*, stages: int, micro_batches: int, stage: int) -> list[Item]:
    """1F1B (PipeDream-flush, Narayanan et al. 2021, section 2.2.1): stage i keeps min(p - i, m) micro-batches."""
    warm_up = min(stages - 1 - stage, micro_batches)
    items = [forward(0, k) for k in range(warm_up)]
    for k in range(micro_batches):
        if warm_up + k < micro_batches:
            items.append(forward(0, warm_up + k))
        items.append(backward(0, k))
    return items


def interleaved_order(*, stages: int, chunks: int, micro_batches: int, stage: int) -> list[Item]:
    """Interleaved 1F1B (Narayanan et al. 2021, section 2.2.2) in Megatron-LM's order.

    Groups of micro-batches pass chunk 0, then chunk 1 ...; backward passes go through the chunks in reverse. Warm-up is
    2(p - i - 1) passes beyond all but the last chunk of the first group. A group holds p micro-batches; where they do
    not divide, the groups are as equal as can be with at least p in each, or one group where there are fewer.
    """
    sizes = group_sizes(stages=stages, micro_batches=micro_batches)
    forwards: list[Item] = []
    backwards: list[Item] = []
    first = 0
    for size in sizes:
        members = range(first, first + size)
        forwards += [forward(chunk, k) for chunk in range(chunks) for k in members]
        backwards += [backward(chunk, k) for chunk in reversed(range(chunks)) for k in members]
        first += size
    warm_up = min(2 * (stages - 1 - stage) + (chunks - 1) * sizes[0], len(forwards))
    items = forwards[:warm_up]
    for k, item in enumerate(backwards):
        items += forwards[warm_up + k : warm_up + k + 1]
        items.append(item)
    return items


def group_sizes(*, stages: int, micro_batches: int) -> list[int]:
    """How many micro-batches the interleaved schedule sends through a chunk before the next chunk; larger first."""
    groups = max(micro_batches // stages, 1)
    size, larger = divmod(micro_batches, groups)
    return [size + 1] * larger + [size] * (groups - larger)


_ORDERS: dict[Schedule, Callable[..., list[Item]]] = {
    "gpipe": gpipe_order,
    "1f1b": one_forward_one_backward_order,
    "interleaved": one_forward_one_backward_order,  # with one chunk there is nothing to interleave
    "zb-h1": zb_h1_order,
    "zb-v": zb_v_order,
    "dualpipe": dualpipe_order,
}
