"""Which parallel layouts of a training step fit a cluster, and how fast is each by a first estimate?

Every data, tensor and pipeline degree whose product is the number of devices is tried with each ZeRO stage, recompute
mode and power-of-two micro-batch. A layout that can't run is counted under its reason. This module is the seam for a
simulator and a search: they return the same ``LayoutSurvey``.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from hwprof.count.memory import training_memory
from hwprof.errors import InputError
from hwprof.plan.constraints import broken_constraint, memory_fits
from hwprof.plan.layout import Degrees, Layout, Problem
from hwprof.plan.layout_cost import Efficiency, MicroBatchWork, StepEstimate, estimate_step, micro_batch_work
from hwprof.plan.machine import ASSUMED_LATENCIES, Latencies, Machine, machine_of
from hwprof.specs.hardware import ClusterSpec
from hwprof.specs.model import ModelSpec
from hwprof.specs.run import Interval, LayoutRow, Recompute, RunSettings
from hwprof.units import format_bytes, format_flop_per_s, format_fraction, format_seconds

MEMORY_MARGIN = 0.1
"""Share of a device's memory kept free for the CUDA context, NCCL's buffers and the allocator's fragmentation."""

ASSUMED_MATMUL_EFFICIENCY: Interval = (0.35, 0.65)
"""Share of the dense datasheet peak that matrix products reach: published MFU of large runs lies in this range."""

ASSUMED_MEMORY_EFFICIENCY: Interval = (0.7, 0.95)
ASSUMED_LINK_EFFICIENCY: Interval = (0.7, 1.0)

FEASIBLE_ROWS = 20
INFEASIBLE_ROWS = 10

_RECOMPUTE: tuple[Recompute, ...] = ("none", "selective", "full")


@dataclass(frozen=True, slots=True, kw_only=True)
class LayoutSurvey:
    """What was looked at, and what is worth showing.

    Attributes:
        rows: the best feasible layouts by step time, then infeasible ones with their reasons.
        evaluated: candidates looked at.
        rejected: how many of them broke each constraint.
        assumptions: every number that is neither counted nor from the cluster's data, in words.
    """

    rows: tuple[LayoutRow, ...]
    evaluated: int
    rejected: dict[str, int]
    assumptions: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidate:
    layout: Layout
    need_bytes: float
    low: StepEstimate
    middle: StepEstimate
    high: StepEstimate


@dataclass(frozen=True, slots=True, kw_only=True)
class _Refused:
    layout: Layout
    kind: str
    reason: str
    need_bytes: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Estimator:
    """Memory needs and work, each counted once."""

    problem: Problem
    low: Efficiency
    middle: Efficiency
    high: Efficiency
    _work: dict[tuple[int, Recompute], MicroBatchWork] = field(default_factory=dict)

    def work(self, layout: Layout) -> MicroBatchWork:
        key = layout.micro_batch, layout.recompute
        if key not in self._work:
            self._work[key] = micro_batch_work(self.problem.spec, self.problem.settings_of(layout))
        return self._work[key]

    def need_bytes(self, layout: Layout) -> float:
        degrees = layout.degrees
        need = training_memory(
            self.problem.spec,
            self.problem.settings_of(layout),
            data_parallel=degrees.data_parallel,
            tensor_parallel=degrees.tensor_parallel,
            pipeline_parallel=degrees.pipeline_parallel,
            zero_stage=layout.zero_stage,
        )
        return need.peak_bytes

    def candidate(self, layout: Layout) -> _Candidate | _Refused:
        need_bytes = self.need_bytes(layout)
        reason = memory_fits(need_bytes, self.problem)
        if reason is not None:
            return _Refused(layout=layout, kind=memory_fits.__name__, reason=reason, need_bytes=need_bytes)
        work = self.work(layout)
        low, middle, high = (
            estimate_step(layout, self.problem, work, efficiency) for efficiency in (self.low, self.middle, self.high)
        )
        return _Candidate(layout=layout, need_bytes=need_bytes, low=low, middle=middle, high=high)


def estimate_layouts(
    spec: ModelSpec,
    settings: RunSettings,
    cluster: ClusterSpec,
    *,
    global_batch_tokens: int | None = None,
    matmul_efficiency: Interval | None = None,
    latencies: Latencies = ASSUMED_LATENCIES,
    margin: float = MEMORY_MARGIN,
) -> LayoutSurvey:
    """A first estimate of every layout of ``settings`` on ``cluster``.

    Args:
        spec: the model.
        settings: dtype, sequence length, optimizer; micro-batch, accumulation and recompute are chosen here.
        cluster: the devices.
        global_batch_tokens: tokens of one step over all devices; the run's tokens a step on each device by default.
        matmul_efficiency: share of the dense peak that matrix products reach, lo to hi, as measured on this device;
            an assumption by default.
        latencies: times of empty messages.
        margin: share of each device's memory kept free.

    Raises:
        InputError: the global batch holds no whole sequence.
        SpecError: the cluster lacks a number that the estimate needs.
    """
    machine = machine_of(cluster, settings.dtype, latencies)
    on_device = settings.model_copy(update={"device": "cuda"})
    sequences = _sequences(settings, machine, global_batch_tokens)
    problem = Problem(spec=spec, settings=on_device, machine=machine, sequences=sequences, margin=margin)
    estimator = _estimator(problem, matmul_efficiency or ASSUMED_MATMUL_EFFICIENCY)
    outcomes = list(_outcomes(estimator))
    refused = [outcome for outcome in outcomes if isinstance(outcome, _Refused)]
    fitting = [outcome for outcome in outcomes if isinstance(outcome, _Candidate)]
    shown = [*_best(fitting), *_representative(refused)]
    return LayoutSurvey(
        rows=tuple(_row(item, rank, estimator) for rank, item in enumerate(shown, start=1)),
        evaluated=len(outcomes),
        rejected=dict(Counter(item.kind for item in refused)),
        assumptions=_assumptions(problem, latencies, matmul_efficiency),
    )


def _sequences(settings: RunSettings, machine: Machine, global_batch_tokens: int | None) -> int:
    tokens = global_batch_tokens or settings.tokens_per_step * machine.devices
    if tokens < settings.seq_len:
        raise InputError(
            f"a global batch of {tokens} tokens holds no sequence of {settings.seq_len}",
            remedy=f"give at least {settings.seq_len} tokens",
        )
    return tokens // settings.seq_len


def _estimator(problem: Problem, matmul: Interval) -> _Estimator:
    """Fast, middling and slow assumptions; the middle is halfway in each."""
    memory, link, overlap = ASSUMED_MEMORY_EFFICIENCY, ASSUMED_LINK_EFFICIENCY, (0.0, 1.0)
    slow, fast = (
        Efficiency(matmul=matmul[end], memory=memory[end], link=link[end], overlap=overlap[end]) for end in (0, 1)
    )
    middle = Efficiency(matmul=sum(matmul) / 2, memory=sum(memory) / 2, link=sum(link) / 2, overlap=sum(overlap) / 2)
    return _Estimator(problem=problem, low=fast, middle=middle, high=slow)


def _outcomes(estimator: _Estimator) -> Iterator[_Candidate | _Refused]:
    """Every candidate, up to the smallest micro-batch that no longer fits."""
    for degrees in factorisations(estimator.problem.machine.devices):
        broken = broken_constraint(degrees, estimator.problem)
        if broken is not None:
            kind, reason = broken
            layout = Layout(degrees=degrees, zero_stage=0, micro_batch=1, gradient_accumulation=1, recompute="none")
            yield _Refused(layout=layout, kind=kind, reason=reason, need_bytes=0.0)
            continue
        for zero_stage, recompute in itertools.product(range(4 if degrees.data_parallel > 1 else 1), _RECOMPUTE):
            yield from _growing_micro_batches(degrees, zero_stage, recompute, estimator)


def _growing_micro_batches(
    degrees: Degrees, zero_stage: int, recompute: Recompute, estimator: _Estimator
) -> Iterator[_Candidate | _Refused]:
    per_rank = estimator.problem.sequences // degrees.data_parallel
    micro_batch = 1
    while per_rank % micro_batch == 0:
        outcome = estimator.candidate(
            Layout(
                degrees=degrees,
                zero_stage=zero_stage,
                micro_batch=micro_batch,
                gradient_accumulation=per_rank // micro_batch,
                recompute=recompute,
            )
        )
        yield outcome
        if isinstance(outcome, _Refused):
            return
        micro_batch *= 2


def factorisations(devices: int) -> Iterator[Degrees]:
    """Every (data, tensor, pipeline) whose product is ``devices``."""
    for tensor in range(1, devices + 1):
        if devices % tensor == 0:
            for pipeline in range(1, devices // tensor + 1):
                if devices // tensor % pipeline == 0:
                    data = devices // tensor // pipeline
                    yield Degrees(data_parallel=data, tensor_parallel=tensor, pipeline_parallel=pipeline)


def _best(fitting: list[_Candidate]) -> list[_Candidate]:
    """The fastest of each choice of degrees and ZeRO stage, fastest first; of equals, the one with less to manage."""
    ordered = sorted(fitting, key=_order)
    best: dict[tuple[Degrees, int], _Candidate] = {}
    for item in ordered:
        best.setdefault((item.layout.degrees, item.layout.zero_stage), item)
    return list(best.values())[:FEASIBLE_ROWS]


def _order(item: _Candidate) -> tuple[float, int, int, int, float]:
    layout = item.layout
    degrees = layout.degrees
    return (
        item.middle.step_s,
        layout.zero_stage,
        degrees.pipeline_parallel,
        degrees.tensor_parallel,
        item.need_bytes,
    )


def _representative(refused: list[_Refused]) -> list[_Refused]:
    """One layout for each distinct reason on the degrees, then those nearest to fitting, one for each choice of them."""
    ordered = sorted(refused, key=lambda item: item.need_bytes)
    kinds: dict[str, _Refused] = {}
    degrees: dict[Degrees, _Refused] = {}
    for item in ordered:
        if item.kind == memory_fits.__name__:
            degrees.setdefault(item.layout.degrees, item)
        else:
            kinds.setdefault(item.kind, item)
    return [*kinds.values(), *degrees.values()][:INFEASIBLE_ROWS]


def _row(item: _Candidate | _Refused, rank: int, estimator: _Estimator) -> LayoutRow:
    layout, problem = item.layout, estimator.problem
    machine, degrees = problem.machine, layout.degrees
    row = LayoutRow(
        rank=rank,
        cluster=machine.name,
        devices=machine.devices,
        data_parallel=degrees.data_parallel,
        tensor_parallel=degrees.tensor_parallel,
        pipeline_parallel=degrees.pipeline_parallel,
        zero_stage=layout.zero_stage,
        micro_batch=layout.micro_batch,
        gradient_accumulation=layout.gradient_accumulation,
        recompute=layout.recompute,
        fits=isinstance(item, _Candidate),
        reason=item.reason if isinstance(item, _Refused) else _composition(item.middle),
        memory_bytes=item.need_bytes,
        capacity_bytes=machine.capacity_bytes,
    )
    if isinstance(item, _Refused):
        return row
    return row.model_copy(update=_times(item, problem, estimator.work(layout)))


def _times(item: _Candidate, problem: Problem, work: MicroBatchWork) -> dict[str, object]:
    middle, machine = item.middle, problem.machine
    step_flop = work.train_flop * problem.sequences / item.layout.micro_batch
    return {
        "step_s": middle.step_s,
        "step_lo_s": item.low.step_s,
        "step_hi_s": item.high.step_s,
        "tokens_per_s_per_device": problem.sequences * problem.settings.seq_len / middle.step_s / machine.devices,
        "mfu": step_flop / (middle.step_s * machine.devices * machine.peak_flop_per_s),
        "compute_s": middle.matmul_s + middle.vector_s,
        "communication_s": middle.communication_s,
        "bubble_s": middle.bubble_s,
        "bound": middle.bound,
    }


def _composition(step: StepEstimate) -> str:
    parts = (
        ("matrix products", step.matmul_s),
        ("other operations", step.vector_s),
        ("exposed communication", step.communication_s),
        ("pipeline bubble", step.bubble_s),
    )
    return ", ".join(f"{name} {format_fraction(part_s / step.step_s)}" for name, part_s in parts if part_s > 0)


def _assumptions(problem: Problem, latencies: Latencies, measured: Interval | None) -> tuple[str, ...]:
    low, high = measured or ASSUMED_MATMUL_EFFICIENCY
    origin = "measured on this device" if measured else "assumed"
    machine = problem.machine
    return (
        f"matrix products reach {format_fraction(low)} to {format_fraction(high)} of the dense {problem.settings.dtype} "
        f"peak, {format_flop_per_s(machine.peak_flop_per_s)} ({origin})",
        "other operations reach {} to {} of the memory bandwidth (assumed)".format(
            *map(format_fraction, ASSUMED_MEMORY_EFFICIENCY)
        ),
        "ring collectives reach {} to {} of the one-way link bandwidth (assumed)".format(
            *map(format_fraction, ASSUMED_LINK_EFFICIENCY)
        ),
        f"an empty message takes {format_seconds(latencies.inside_s)} inside a scale-up domain and "
        f"{format_seconds(latencies.between_s)} between them (assumed)",
        "data-parallel traffic hides behind none (slow end) to all (fast end) of the passes in which it may run",
        f"{format_fraction(problem.margin)} of {format_bytes(machine.capacity_bytes)} is kept free on each device",
        f"one step is {problem.sequences} sequences of {problem.settings.seq_len} tokens on {machine.devices} devices",
        "the slowest pipeline stage holds its share of the layers and the output head; the schedule is 1F1B",
    )
