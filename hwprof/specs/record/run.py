"""What is one profiled run? The versioned schema of ``run.json``: what was asked, measured, counted, concluded."""

from __future__ import annotations

import statistics
from typing import Literal, Self

from pydantic import Field, model_validator

from hwprof.specs.frozen import Record
from hwprof.specs.job.settings import (
    BoundClass,
    Direction,
    Dtype,
    LayerKind,
    OptimizerImplementation,
    OptimizerName,
    PhaseName,
    Recompute,
    RunSettings,
)
from hwprof.specs.measurement import Ceiling, Skipped, median_interval
from hwprof.specs.model.spec import ModelSpec
from hwprof.specs.record.counters import CountersResult
from hwprof.specs.record.generation import GenerationResult
from hwprof.specs.record.goodput import BookedTime
from hwprof.specs.record.loop import LoopSettings, ModuleSpec
from hwprof.specs.record.memory import MemoryPart, MemoryResult
from hwprof.specs.record.ranks import RanksResult
from hwprof.specs.record.stragglers import Stragglers
from hwprof.specs.record.whole_run import WholeRun

__all__ = [
    "SCHEMA_VERSION",
    "Attribution",
    "BoundClass",
    "Confidence",
    "DeviceIdentity",
    "Direction",
    "Dtype",
    "Interval",
    "KernelTime",
    "KindResult",
    "LayerKind",
    "LayoutRow",
    "MemoryPart",
    "MemoryResult",
    "OpResult",
    "OpTime",
    "OptimizerImplementation",
    "OptimizerName",
    "PhaseName",
    "PhaseTime",
    "Prediction",
    "Recommendation",
    "Recompute",
    "Recording",
    "RunRecord",
    "RunSettings",
    "Series",
    "Status",
    "StepTime",
    "Verdict",
    "WorkSummary",
]

SCHEMA_VERSION = 1

Confidence = Literal["high", "medium", "low"]
Status = Literal["complete", "partial", "interrupted", "out_of_memory", "failed"]
Interval = tuple[float, float]


class StepTime(Record):
    """Wall time of one optimizer step with the profiler off.

    ``stable``: the spread is small and no other process is known to have kept this one's threads off the CPU;
    ``waited_fraction`` is how long they waited for one, thread-seconds over wall time.
    """

    median_s: float
    interval_s: Interval
    samples_s: tuple[float, ...]
    spread: float
    stable: bool
    waited_fraction: float | None = None
    warmups: int
    tokens_per_s: float | None = None
    samples_per_s: float | None = None
    mfu: float | None = None
    hfu: float | None = None
    mfu_causal: float | None = None
    mfu_peak_flop_per_s: float | None = None
    mfu_basis: str = ""


class PhaseTime(Record):
    """Time of one named phase of the step with the profiler off; evaluation and checkpoint stand outside the step."""

    name: PhaseName
    median_s: float
    interval_s: Interval
    share: float
    in_step: bool
    samples_s: tuple[float, ...]
    bound: BoundClass = "unknown"
    predicted_s: float | None = None
    roof_s: float | None = None


class OpTime(Record):
    """Profiled time of one operation of the model: all its kernels, all layers, per step."""

    label: str
    layer_kind: LayerKind
    phase: PhaseName
    direction: Direction
    calls: float
    time_s: float


class KernelTime(Record):
    """Profiled time of one kernel (CPU: one torch operator, its own time without the operators it calls), per step."""

    name: str
    label: str
    phase: PhaseName
    direction: Direction
    calls: float
    time_s: float


class OpResult(OpTime):
    """An operation placed under the roofs. Rates are work over ``time_s``; ``roof_s`` is the least possible time."""

    share: float
    matmul_flop: float
    vector_flop: float
    read_bytes: float
    write_bytes: float
    intensity_flop_per_byte: float | None
    flop_per_s: float
    byte_per_s: float
    roof_name: str
    roof_s: float
    roof_fraction: float | None
    bound: BoundClass
    margin: float | None
    confidence: Confidence
    lost_s: float
    advice: str = ""


class KindResult(Record):
    """All operations of one layer kind together."""

    layer_kind: LayerKind
    time_s: float
    share: float
    roof_s: float
    lost_s: float
    bound: BoundClass


class Attribution(Record):
    """Where the profiled step's wall time went; the parts and the residue add up to ``step_s``.

    ``idle_host_s`` is time in which the device waits for the host program between operations, ``idle_input_s`` for the
    next batch. ``explained_fraction`` is the share of the step with both a cause and a place (an operation of a
    module, a copy, a collective, or a named idle in a named phase). ``communication_s`` is the time in which a
    collective was under way, hidden behind computation or exposed. Of a GPU's ``idle_host_s``, in ``late_host_s`` the
    host had not called for the next kernel, in ``dependency_s`` the kernel stood in its queue and waited for something
    else, and ``other_s`` is the launch itself or unknown; on a CPU all of it is the host's.
    """

    step_s: float
    compute_s: float
    communication_s: float = 0.0
    exposed_communication_s: float
    exposed_copy_s: float
    idle_host_s: float
    idle_input_s: float
    late_host_s: float = 0.0
    dependency_s: float = 0.0
    other_s: float = 0.0
    residue_s: float
    explained_fraction: float
    attributed_op_fraction: float
    note: str = ""


class Recording(Record):
    """What the step recorder saw; all that ``predict`` gets from ``measure`` besides the ceilings.

    ``counters`` are means over the timed steps, by telemetry quantity.
    """

    step_samples_s: tuple[float, ...]
    phase_samples_s: dict[PhaseName, tuple[float, ...]]
    bare_step_samples_s: tuple[float, ...] = ()
    waited_fraction: float | None = None
    counters: dict[str, float] = Field(default_factory=dict)
    marking_s: float | None = None
    profiling_s: float | None = None
    profiled_step_samples_s: tuple[float, ...] = ()
    losses: tuple[float, ...] = ()
    eval_loss: float | None = None
    ops: tuple[OpTime, ...] = ()
    kernels: tuple[KernelTime, ...] = ()
    attribution: Attribution | None = None
    memory_timeline: tuple[tuple[float, float], ...] = ()
    memory_peak_bytes: float | None = None
    memory_reserved_bytes: float | None = None
    memory_outside_bytes: float | None = None
    memory_peak_source: str = ""
    notes: tuple[str, ...] = ()

    @property
    def recorder_overhead_fraction(self) -> float | None:
        """What phase marks cost with the profiler off: host time of a step's marks over the median step."""
        if self.marking_s is None or not self.step_samples_s:
            return None
        return self.marking_s / statistics.median(self.step_samples_s)

    @property
    def profiler_own_fraction(self) -> float | None:
        """What the profiler's own events take in its window: a step's events at their cost over the median step."""
        if self.profiling_s is None or not self.step_samples_s:
            return None
        return self.profiling_s / statistics.median(self.step_samples_s)

    @property
    def marked_over_bare_interval(self) -> Interval | None:
        """The same from outside, as a 95 % confidence interval: median over pairs of (marked step / bare step) - 1.

        It sees effects beside the marks' own time, as finely as the steps are steady.
        """
        pairs = zip(self.step_samples_s, self.bare_step_samples_s, strict=False)
        ratios = tuple(marked / bare - 1 for marked, bare in pairs)
        return median_interval(ratios) if ratios else None


class Prediction(Record):
    """Step time from counts and ceilings alone, before looking at the measured step."""

    step_s: float
    interval_s: Interval
    basis: str
    phase_s: dict[PhaseName, float]
    residual_fraction: float | None = None
    residual_note: str = ""


class Verdict(Record):
    """What holds the step back, in one sentence and in shares of its time by bound class."""

    sentence: str
    bound: BoundClass
    confidence: Confidence
    shares: dict[BoundClass, float]
    lost_s: float


class Recommendation(Record):
    """A change, why, what it should gain (fraction of step time saved, lo to hi), and on what evidence."""

    title: str
    change: str
    reason: str
    gain_fraction: Interval
    evidence: str
    basis: Literal["measured", "calibrated", "roofline", "assumed"]
    kind: Literal["setting", "layout"] = "setting"


class LayoutRow(Record):
    """One parallel layout on a cluster, as the planner predicts it, or why it does not fit."""

    rank: int
    cluster: str
    devices: int
    data_parallel: int
    tensor_parallel: int
    pipeline_parallel: int
    zero_stage: int
    micro_batch: int
    gradient_accumulation: int
    recompute: Recompute
    fits: bool
    reason: str
    memory_bytes: float
    capacity_bytes: float
    step_s: float | None = None
    step_lo_s: float | None = None
    step_hi_s: float | None = None
    tokens_per_s_per_device: float | None = None
    mfu: float | None = None
    compute_s: float | None = None
    communication_s: float | None = None
    bubble_s: float | None = None
    bound: BoundClass = "unknown"


class Series(Record):
    """Telemetry of one quantity over the run: seconds since the start, and values in ``unit``."""

    name: str
    unit: str
    times_s: tuple[float, ...]
    values: tuple[float, ...]

    @model_validator(mode="after")
    def _one_value_a_time(self) -> Self:
        if len(self.times_s) != len(self.values):
            raise ValueError(f"{len(self.values)} values at {len(self.times_s)} times")
        return self


class DeviceIdentity(Record):
    """The device that ran, and the catalogue entry that it matches, if any."""

    name: str
    catalogue_id: str | None
    note: str
    memory_bytes: float | None = None
    memory_source: str = ""


class WorkSummary(Record):
    """Analytical totals of one step on this rank, both attention conventions."""

    parameters: int
    active_parameters: int | None = None
    train_flop_full: float
    train_flop_causal: float
    recompute_flop_full: float
    vector_flop: float
    moved_bytes: float
    tokens: int | None = None


class RunRecord(Record):
    """The whole of ``run.json``. What a killed run did not reach is None or empty, and ``status`` says so.

    ``settings``, ``model``: ``hwprof run``'s, or as seen of a loop. With ``generation`` forward passes are the step.
    """

    schema_version: int = SCHEMA_VERSION
    hwprof_version: str
    status: Status
    status_note: str = ""
    created: str
    command: str
    settings: RunSettings | LoopSettings
    model: ModelSpec | ModuleSpec
    world_size: int = 1
    rank: int = 0
    environment: dict[str, str]
    device: DeviceIdentity
    ceilings: tuple[Ceiling, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    work: WorkSummary | None = None
    step: StepTime | None = None
    phases: tuple[PhaseTime, ...] = ()
    ops: tuple[OpResult, ...] = ()
    layer_kinds: tuple[KindResult, ...] = ()
    kernels: tuple[KernelTime, ...] = ()
    attribution: Attribution | None = None
    recorder_overhead_fraction: float | None = None
    marked_over_bare_interval: Interval | None = None
    profiler_overhead_fraction: float | None = None
    profiler_own_fraction: float | None = None
    losses: tuple[float, ...] = ()
    eval_loss: float | None = None
    memory: MemoryResult | None = None
    prediction: Prediction | None = None
    bound: BoundClass = "unknown"
    verdict: Verdict | None = None
    recommendations: tuple[Recommendation, ...] = ()
    layouts: tuple[LayoutRow, ...] = ()
    telemetry: tuple[Series, ...] = ()
    ranks: RanksResult | None = None
    stragglers: Stragglers | None = None
    whole_run: WholeRun | None = None
    goodput: BookedTime | None = None
    counters: CountersResult | None = None
    generation: GenerationResult | None = None
    notes: tuple[str, ...] = ()

    @property
    def run_settings(self) -> RunSettings:
        """The settings of a run of ``hwprof run``; asked for nowhere else."""
        assert isinstance(self.settings, RunSettings), "a loop that somebody else wrote has no run settings"
        return self.settings

    @property
    def spec(self) -> ModelSpec:
        """The model of a run of ``hwprof run``; asked for nowhere else."""
        assert isinstance(self.model, ModelSpec), "a module that somebody else wrote has no model spec"
        return self.model
