"""Which layouts of a problem are there, which fit, and how long does each take? Memory needs are counted sparingly."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field

from hwprof.count.memory import run_pieces, training_memory
from hwprof.plan.constraints import broken_constraint, memory_fits
from hwprof.plan.layout import Degrees, Layout, Problem
from hwprof.plan.layout_cost import Efficiency, MicroBatchWork, StepEstimate, estimate_step, micro_batch_work
from hwprof.specs.run import Recompute

_RECOMPUTE: tuple[Recompute, ...] = ("none", "selective", "full")


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A layout that fits: its step under fast, middling and slow assumptions."""

    layout: Layout
    fast: StepEstimate
    middle: StepEstimate
    slow: StepEstimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A layout that can't run: the name of the constraint, and how near it is to fitting (0 where that is no matter).

    Attributes:
        least_bytes: a lower bound of its memory need.
    """

    layout: Layout
    constraint: str
    least_bytes: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimator:
    """Counts memory and work of layouts, each of them once."""

    problem: Problem
    fast: Efficiency
    middle: Efficiency
    slow: Efficiency
    _work: dict[tuple[int, Recompute], MicroBatchWork] = field(default_factory=dict)
    _needs: dict[Layout, float] = field(default_factory=dict)
    _resident: dict[int, tuple[float, float, float]] = field(default_factory=dict)

    def work(self, layout: Layout) -> MicroBatchWork:
        """The work of one micro-batch; it depends on the micro-batch and on recompute alone."""
        key = layout.micro_batch, layout.recompute
        if key not in self._work:
            self._work[key] = micro_batch_work(self.problem.spec, self.problem.settings_of(layout))
        return self._work[key]

    def need_bytes(self, layout: Layout) -> float:
        """Peak memory of the device that needs most."""
        if layout not in self._needs:
            degrees = layout.degrees
            self._needs[layout] = training_memory(
                self.problem.spec,
                self.problem.settings_of(layout),
                data_parallel=degrees.data_parallel,
                tensor_parallel=degrees.tensor_parallel,
                pipeline_parallel=degrees.pipeline_parallel,
                zero_stage=layout.zero_stage,
            ).peak_bytes
        return self._needs[layout]

    def least_bytes(self, layout: Layout) -> float:
        """Weights, gradients and optimizer state of an average stage: less than any step needs, and quick to count."""
        degrees, stage = layout.degrees, layout.zero_stage
        own = self._resident_bytes(degrees.tensor_parallel)
        shares = [degrees.data_parallel if stage >= since else 1 for since in (3, 2, 1)]
        return sum(size / share for size, share in zip(own, shares, strict=True)) / degrees.pipeline_parallel

    def _resident_bytes(self, tensor_parallel: int) -> tuple[float, float, float]:
        """Weights, gradients and optimizer state of one tensor-parallel rank."""
        if tensor_parallel not in self._resident:
            pieces = run_pieces(self.problem.spec, self.problem.settings, tensor_parallel=tensor_parallel)
            weights, gradients, state = (float(size) for size in pieces.resident_bytes)
            self._resident[tensor_parallel] = weights, gradients, state
        return self._resident[tensor_parallel]

    def fits(self, layout: Layout) -> bool:
        """Whether the need stays inside the usable memory."""
        return memory_fits(self.need_bytes(layout), self.problem) is None

    def candidate(self, layout: Layout) -> Candidate:
        """The step of a layout that fits."""
        work = self.work(layout)
        fast, middle, slow = (
            estimate_step(layout, self.problem, work, efficiency) for efficiency in (self.fast, self.middle, self.slow)
        )
        return Candidate(layout=layout, fast=fast, middle=middle, slow=slow)


def factorisations(devices: int) -> Iterator[Degrees]:
    """Every (data, tensor, pipeline) whose product is ``devices``."""
    divisors = [number for number in range(1, devices + 1) if devices % number == 0]
    for tensor, pipeline in itertools.product(divisors, divisors):
        data, left = divmod(devices, tensor * pipeline)
        if left == 0 and data:
            yield Degrees(data_parallel=data, tensor_parallel=tensor, pipeline_parallel=pipeline)


def outcomes(estimator: Estimator) -> Iterator[Candidate | Refused]:
    """Every layout with its step, or refused; micro-batches beyond the first refused one are not tried."""
    for degrees in factorisations(estimator.problem.machine.devices):
        broken = broken_constraint(degrees, estimator.problem)
        if broken is not None:
            layout = Layout(degrees=degrees, zero_stage=0, micro_batch=1, gradient_accumulation=1, recompute="none")
            yield Refused(layout=layout, constraint=broken[0])
            continue
        for zero_stage, recompute in itertools.product(range(4 if degrees.data_parallel > 1 else 1), _RECOMPUTE):
            yield from _micro_batches(degrees, zero_stage, recompute, estimator)


def _micro_batches(
    degrees: Degrees, zero_stage: int, recompute: Recompute, estimator: Estimator
) -> Iterator[Candidate | Refused]:
    """Powers of two that divide a rank's sequences, up to the first that does not fit."""
    per_rank = estimator.problem.sequences // degrees.data_parallel
    layouts = [
        Layout(
            degrees=degrees,
            zero_stage=zero_stage,
            micro_batch=micro_batch,
            gradient_accumulation=per_rank // micro_batch,
            recompute=recompute,
        )
        for micro_batch in (2**power for power in range(per_rank.bit_length()))
        if per_rank % micro_batch == 0
    ]
    least_bytes = estimator.least_bytes(layouts[0])
    fitting = 0 if least_bytes > estimator.problem.usable_bytes else _fitting(layouts, estimator)
    yield from (estimator.candidate(layout) for layout in layouts[:fitting])
    if fitting < len(layouts):
        yield Refused(layout=layouts[fitting], constraint=memory_fits.__name__, least_bytes=least_bytes)


def _fitting(layouts: list[Layout], estimator: Estimator) -> int:
    """How many of ``layouts``, in order of growing need, fit: bisection."""
    fitting, refused = 0, len(layouts)
    while fitting < refused:
        middle = (fitting + refused) // 2
        fitting, refused = (middle + 1, refused) if estimator.fits(layouts[middle]) else (fitting, middle)
    return fitting
