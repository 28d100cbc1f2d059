"""Which parallel layouts of a training step fit a cluster, and how fast is each by a first estimate?

Every data, tensor and pipeline degree whose product is the number of devices is tried with each ZeRO stage, recompute
mode and power-of-two micro-batch. A layout that can't run is counted under its reason. This module is the seam for a
simulator and a search: they return the same ``LayoutSurvey``.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from hwprof.errors import InputError
from hwprof.plan.candidates import Candidate, Estimator, Refused, outcomes
from hwprof.plan.constraints import memory_fits
from hwprof.plan.layout import Degrees, Problem
from hwprof.plan.layout_cost import Efficiency
from hwprof.plan.layout_rows import feasible_row, infeasible_row
from hwprof.plan.machine import ASSUMED_LATENCIES, Latencies, Machine, machine_of
from hwprof.specs.hardware import ClusterSpec
from hwprof.specs.model import ModelSpec
from hwprof.specs.run import Interval, LayoutRow, RunSettings
from hwprof.units import format_bytes, format_flop_per_s, format_fraction, format_seconds

MEMORY_MARGIN = 0.1
"""Share of a device's memory kept free for the CUDA context, NCCL's buffers and the allocator's fragmentation."""

ASSUMED_MATMUL_EFFICIENCY: Interval = (0.35, 0.65)
"""Share of the dense datasheet peak that matrix products reach: published MFU of large runs lies in this range."""

ASSUMED_MEMORY_EFFICIENCY: Interval = (0.7, 0.95)
"""Share of the datasheet's memory bandwidth that operations without matrix products reach."""

ASSUMED_LINK_EFFICIENCY: Interval = (0.7, 1.0)
"""Share of the one-way link bandwidth that rings reach (all-reduce bus bandwidth over link bandwidth)."""

FEASIBLE_ROWS = 20
INFEASIBLE_ROWS = 10


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
    problem = Problem(
        spec=spec,
        settings=settings.model_copy(update={"device": "cuda"}),
        machine=machine,
        sequences=_sequences(settings, machine, global_batch_tokens),
        margin=margin,
    )
    estimator = _estimator(problem, matmul_efficiency or ASSUMED_MATMUL_EFFICIENCY)
    found = list(outcomes(estimator))
    refused = [outcome for outcome in found if isinstance(outcome, Refused)]
    best = _best([outcome for outcome in found if isinstance(outcome, Candidate)])
    feasible = [feasible_row(item, rank, estimator) for rank, item in enumerate(best, start=1)]
    infeasible = [
        infeasible_row(item, rank, estimator) for rank, item in enumerate(_representative(refused), len(best) + 1)
    ]
    return LayoutSurvey(
        rows=(*feasible, *infeasible),
        evaluated=len(found),
        rejected=dict(Counter(item.constraint for item in refused)),
        assumptions=_assumptions(problem, latencies, matmul_efficiency),
    )


def _sequences(settings: RunSettings, machine: Machine, global_batch_tokens: int | None) -> int:
    tokens = settings.tokens_per_step * machine.devices if global_batch_tokens is None else global_batch_tokens
    if tokens < settings.seq_len:
        raise InputError(
            f"a global batch of {tokens} tokens holds no sequence of {settings.seq_len}",
            remedy=f"give at least {settings.seq_len} tokens",
        )
    return tokens // settings.seq_len


def _estimator(problem: Problem, matmul: Interval) -> Estimator:
    """Fast, middling and slow assumptions; the middle is halfway in each."""
    shares = (matmul, ASSUMED_MEMORY_EFFICIENCY, ASSUMED_LINK_EFFICIENCY, (0.0, 1.0))

    def efficiency(weight: float) -> Efficiency:
        chosen = [low + weight * (high - low) for low, high in shares]
        return Efficiency(matmul=chosen[0], memory=chosen[1], link=chosen[2], overlap=chosen[3])

    return Estimator(problem=problem, fast=efficiency(1.0), middle=efficiency(0.5), slow=efficiency(0.0))


def _best(fitting: list[Candidate]) -> list[Candidate]:
    """The fastest of each choice of degrees and ZeRO stage, fastest first; of equals, the one with less to manage."""
    best: dict[tuple[Degrees, int], Candidate] = {}
    for item in sorted(fitting, key=_order):
        best.setdefault((item.layout.degrees, item.layout.zero_stage), item)
    return list(best.values())[:FEASIBLE_ROWS]


def _order(item: Candidate) -> tuple[float, int, int, int, int]:
    layout, degrees = item.layout, item.layout.degrees
    return (
        item.middle.step_s,
        layout.zero_stage,
        degrees.pipeline_parallel,
        degrees.tensor_parallel,
        layout.micro_batch,
    )


def _representative(refused: list[Refused]) -> list[Refused]:
    """One layout for each broken constraint on the degrees, then the leanest too big one of each choice of degrees."""
    constraints: dict[str, Refused] = {}
    degrees: dict[Degrees, Refused] = {}
    for item in sorted(refused, key=lambda item: item.least_bytes):
        if item.constraint == memory_fits.__name__:
            degrees.setdefault(item.layout.degrees, item)
        else:
            constraints.setdefault(item.constraint, item)
    return [*constraints.values(), *degrees.values()][:INFEASIBLE_ROWS]


def _assumptions(problem: Problem, latencies: Latencies, measured: Interval | None) -> tuple[str, ...]:
    """Every number that was neither counted nor read from the cluster's data."""
    machine, dtype = problem.machine, problem.settings.dtype
    origin = "measured on this device" if measured else "assumed"
    matmul, memory, link = (
        f"{format_fraction(low)} to {format_fraction(high)}"
        for low, high in (measured or ASSUMED_MATMUL_EFFICIENCY, ASSUMED_MEMORY_EFFICIENCY, ASSUMED_LINK_EFFICIENCY)
    )
    peak = format_flop_per_s(machine.peak_flop_per_s)
    inside, between = format_seconds(latencies.inside_s), format_seconds(latencies.between_s)
    kept, capacity = format_fraction(problem.margin), format_bytes(machine.capacity_bytes)
    return (
        f"matrix products reach {matmul} of the dense {dtype} peak, {peak} ({origin})",
        f"other operations reach {memory} of the memory bandwidth (assumed)",
        f"ring collectives reach {link} of the one-way link bandwidth (assumed)",
        f"an empty message takes {inside} inside a scale-up domain and {between} between them (assumed)",
        "data-parallel traffic hides behind none (slow end) to all (fast end) of the passes in which it may run",
        f"{kept} of the {capacity} on each device is kept free",
        f"one step is {problem.sequences} sequences of {problem.settings.seq_len} tokens on {machine.devices} devices",
        "the slowest pipeline stage holds its share of the layers and the output head; the schedule is 1F1B",
    )
