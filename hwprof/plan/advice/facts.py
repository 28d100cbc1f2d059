"""What do recommendations rest on? Shares of a run's step, its ceilings, and what other settings would need."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from hwprof.count.blocks.transformer import training_step_ops
from hwprof.count.job.totals import total_cost
from hwprof.count.memory.step import largest_micro_batch, training_memory
from hwprof.plan.advice.dtypes import faster_dtype, matmul_ceilings
from hwprof.specs.job.settings import RECOMPUTE
from hwprof.specs.measurement import Ceiling, Origin
from hwprof.specs.record.loop import LoopSettings
from hwprof.specs.record.run import Dtype, OpResult, PhaseName, Recompute, RunRecord, RunSettings
from hwprof.units import format_fraction

MEMORY_MARGIN = 0.1
"""Share of the device's memory that a recommended setting leaves free."""

_ORIGINS: tuple[Origin, ...] = ("measured", "calibrated", "datasheet")
_DTYPES: tuple[Dtype, ...] = ("fp32", "tf32", "bf16", "fp16")
_UPDATE_PHASES: tuple[PhaseName, ...] = ("clip", "optimizer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """A run, and what was counted beside it. Shares are fractions of the step.

    Attributes:
        usable_bytes: device memory less the margin; None where it is not known.
        largest_micro_batch: the largest that fits ``usable_bytes`` with all else unchanged; None where that is unknown.
        need_bytes: peak memory by recompute mode, and ``smallest_need_bytes`` at micro-batch 1 with full recompute;
            raised by what the run measured above its own count.
        fusion_saves_bytes: traffic of a step, without the update, that compiled kernels do not have.
        optimizer_bytes: traffic of the optimizer as it is and with the best implementation that torch has for it.
    """

    record: RunRecord
    usable_bytes: float | None
    largest_micro_batch: int | None
    need_bytes: dict[Recompute, float]
    smallest_need_bytes: float
    fusion_saves_bytes: float
    optimizer_bytes: tuple[float, float]

    @property
    def settings(self) -> RunSettings | LoopSettings:
        """What ran."""
        return self.record.settings

    @property
    def dtype(self) -> Dtype | None:
        """The format of its products; None where no ceiling is known for it."""
        return next((dtype for dtype in _DTYPES if dtype == self.settings.dtype), None)

    @property
    def run_settings(self) -> RunSettings:
        """What ``hwprof run`` ran; where memory needs are known."""
        return self.record.run_settings

    @property
    def step_s(self) -> float:
        """The profiled step, which the times of operations are shares of; 0 where no step was recorded."""
        if self.record.attribution is not None:
            return self.record.attribution.step_s
        return self.record.step.median_s if self.record.step is not None else 0.0

    @property
    def short_of_memory(self) -> bool:
        """Whether the step did not fit, or is not expected to."""
        need = self.need_bytes[self.run_settings.recompute]
        over = self.usable_bytes is not None and need > self.usable_bytes / (1 - MEMORY_MARGIN)
        return self.record.status == "out_of_memory" or over

    @property
    def dram_byte_per_s(self) -> float | None:
        """The best known rate of main memory."""
        ceiling = self._best("memory.dram")
        return ceiling.value if ceiling else None

    @property
    def host_idle_share(self) -> float:
        """Time in which the device waits for the host program."""
        attribution = self.record.attribution
        return attribution.idle_host_s / attribution.step_s if attribution else 0.0

    @property
    def input_wait_share(self) -> float:
        """Waiting for the next batch: the data phase, profiler off; without phases, idle time in the trace."""
        if self.record.phases or self.record.attribution is None:
            return self.phase_share("data")
        return self.record.attribution.idle_input_s / self.record.attribution.step_s

    @property
    def copy_share(self) -> float:
        """Copies to the device that no compute hides."""
        attribution = self.record.attribution
        exposed = attribution.exposed_copy_s / attribution.step_s if attribution else 0.0
        return max(exposed, self.phase_share("host_to_device"))

    @property
    def update_share(self) -> float:
        """Clipping and the optimizer: once a step, however many tokens it has."""
        return sum(self.phase_share(name) for name in _UPDATE_PHASES)

    def phase_share(self, name: PhaseName) -> float:
        """Share of a phase inside the step, profiler off; 0 where there is none."""
        return next((phase.share for phase in self.record.phases if phase.name == name and phase.in_step), 0.0)

    def ops(self, chosen: Callable[[OpResult], bool]) -> tuple[OpResult, ...]:
        """The operations of the model and the loss that ``chosen`` accepts; clip and optimizer are left out."""
        return tuple(op for op in self.record.ops if op.phase not in _UPDATE_PHASES and chosen(op))

    def idle_evidence(self) -> str:
        """How long the device waits for the host, in words."""
        return f"device waiting for the host {format_fraction(self.host_idle_share)} of the step"

    def share(self, ops: Iterable[OpResult]) -> float:
        """Share of the step that operations take, at most all of it."""
        return min(sum(op.time_s for op in ops) / self.step_s, 1.0) if self.step_s else 0.0

    @property
    def matmul_ceilings(self) -> dict[Dtype, Ceiling]:
        """Matrix-multiply ceilings by dtype, comparable with one another."""
        return matmul_ceilings(self.record.ceilings, self.settings.dtype)

    @property
    def faster_dtype(self) -> Dtype | None:
        """The dtype in which this device multiplies clearly faster, if there is one."""
        return faster_dtype(self.record.ceilings, self.settings)

    def _best(self, name: str) -> Ceiling | None:
        named = (ceiling for ceiling in self.record.ceilings if ceiling.name == name and ceiling.origin in _ORIGINS)
        return min(named, key=lambda ceiling: _ORIGINS.index(ceiling.origin), default=None)


def gather(record: RunRecord) -> Facts:
    """Everything that the rules look at."""
    spec, settings = record.spec, record.run_settings
    excess = _measured_over_counted(record)
    capacity_bytes = record.device.memory_bytes
    usable_bytes = None if capacity_bytes is None else capacity_bytes * (1 - MEMORY_MARGIN)

    def need_bytes(**changes: object) -> float:
        return training_memory(spec, settings.changed(**changes)).peak_bytes * excess

    return Facts(
        record=record,
        usable_bytes=usable_bytes,
        largest_micro_batch=None
        if usable_bytes is None
        else largest_micro_batch(spec, settings, usable_bytes / excess),
        need_bytes={mode: need_bytes(recompute=mode) for mode in RECOMPUTE},
        smallest_need_bytes=need_bytes(recompute="full", micro_batch=1),
        fusion_saves_bytes=max(
            _passes_bytes(record, compiled=settings.compile) - _passes_bytes(record, compiled=True), 0
        ),
        optimizer_bytes=(
            _optimizer_bytes(record, settings),
            _optimizer_bytes(record, settings.changed(optimizer_implementation="fused")),
        ),
    )


def _measured_over_counted(record: RunRecord) -> float:
    memory = record.memory
    if memory is None or not memory.measured_peak_bytes or not memory.predicted_peak_bytes:
        return 1.0
    return max(memory.measured_peak_bytes / memory.predicted_peak_bytes, 1.0)


def _passes_bytes(record: RunRecord, *, compiled: bool) -> float:
    """Traffic of all passes of a step, without its update."""
    ops = training_step_ops(record.spec, record.run_settings.changed(compile=compiled))
    return total_cost(ops, "forward", "backward", "recompute").moved_bytes


def _optimizer_bytes(record: RunRecord, settings: RunSettings) -> float:
    ops = training_step_ops(record.spec, settings)
    return sum(op.cost("update").moved_bytes for op in ops if op.label == "optimizer")
