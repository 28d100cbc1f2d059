"""How far are predictions from what others measured? Every published run predicted, and the errors summed up."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hwprof.predict.kernels.op_time import micro_batch_times
from hwprof.predict.parameters import NAMES, Parameters, parameters_for
from hwprof.simulate.error_model import circumstances, interval, known_of
from hwprof.simulate.jobs import jobs_of, work_of
from hwprof.simulate.published.case import Case, RefusedError, case_of
from hwprof.simulate.published.memory import published_memory
from hwprof.simulate.whole_step import step_times
from hwprof.specs.catalogue.published import PublishedRun, UnreadableRun
from hwprof.specs.catalogue.simulator import SimulatorParameters
from hwprof.specs.record.run import Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationRow:
    """One published run next to its prediction. Blank in the source, or refused: None."""

    id: str
    accelerator: str = ""
    source: str = ""
    kinds: tuple[str, ...] = ()
    measured_step_s: float | None = None
    predicted_step_s: float | None = None
    interval_s: Interval | None = None
    measured_memory_gib: float | None = None
    predicted_memory_gib: float | None = None
    memory_interval_gib: Interval | None = None
    assumptions: tuple[str, ...] = ()
    refused: str = ""

    @property
    def step_error(self) -> float | None:
        """Predicted over measured step time, less 1."""
        if self.predicted_step_s is None or self.measured_step_s is None:
            return None
        return self.predicted_step_s / self.measured_step_s - 1

    @property
    def memory_error(self) -> float | None:
        """Predicted over measured peak memory, less 1."""
        if self.predicted_memory_gib is None or self.measured_memory_gib is None:
            return None
        return self.predicted_memory_gib / self.measured_memory_gib - 1

    @property
    def memory_inside(self) -> bool | None:
        """Whether the measured peak lies in the predicted interval."""
        if self.memory_interval_gib is None or self.measured_memory_gib is None:
            return None
        return self.memory_interval_gib[0] <= self.measured_memory_gib <= self.memory_interval_gib[1]

    @property
    def inside(self) -> bool | None:
        """Whether the measured step lies in the predicted interval."""
        if self.interval_s is None or self.measured_step_s is None:
            return None
        return self.interval_s[0] <= self.measured_step_s <= self.interval_s[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Errors:
    """Sizes of errors in percent; ``bias_pct`` is the median error with its sign."""

    count: int
    median_abs_pct: float
    p90_abs_pct: float
    max_abs_pct: float
    bias_pct: float

    @classmethod
    def of(cls, errors: Sequence[float]) -> Errors | None:
        """None without any."""
        if not errors:
            return None
        sizes = np.abs(errors) * 100
        return cls(
            count=len(errors),
            median_abs_pct=float(np.median(sizes)),
            p90_abs_pct=float(np.percentile(sizes, 90)),
            max_abs_pct=float(sizes.max()),
            bias_pct=100 * statistics.median(errors),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """All rows, in the order of the table."""

    rows: tuple[ValidationRow, ...]

    @property
    def predicted(self) -> tuple[ValidationRow, ...]:
        """Rows with a prediction."""
        return tuple(row for row in self.rows if not row.refused)

    @property
    def coverage(self) -> float:
        """Share of the rows that were predicted."""
        return len(self.predicted) / len(self.rows)

    @property
    def step_time(self) -> Errors | None:
        """Errors of step time."""
        return _step_errors(self.rows)

    @property
    def interval_coverage(self) -> float | None:
        """Share of the measured steps that lie in their predicted interval."""
        inside = [row.inside for row in self.rows if row.inside is not None]
        return sum(inside) / len(inside) if inside else None

    @property
    def memory(self) -> Errors | None:
        """Errors of peak memory."""
        return Errors.of([row.memory_error for row in self.rows if row.memory_error is not None])

    @property
    def memory_interval_coverage(self) -> float | None:
        """Share of the measured peaks that lie in their predicted interval."""
        inside = [row.memory_inside for row in self.rows if row.memory_inside is not None]
        return sum(inside) / len(inside) if inside else None

    @property
    def refused(self) -> Mapping[str, int]:
        """How many rows were refused for each reason."""
        return Counter(row.refused for row in self.rows if row.refused)

    def by(self, kind: str) -> dict[str, Errors]:
        """Errors of step time by "accelerator", "source" or "kind"; a row may be of several kinds."""
        groups: dict[str, list[ValidationRow]] = defaultdict(list)
        for row in self.predicted:
            keys = row.kinds if kind == "kind" else (getattr(row, kind),)
            for key in keys:
                groups[key].append(row)
        found = {key: _step_errors(groups[key]) for key in sorted(groups)}
        return {key: errors for key, errors in found.items() if errors}


def _step_errors(rows: Iterable[ValidationRow]) -> Errors | None:
    return Errors.of([row.step_error for row in rows if row.step_error is not None])


def validate(runs: Sequence[PublishedRun | UnreadableRun], table: SimulatorParameters) -> Validation:
    """Predict every run from its configuration alone; what it measured is only compared."""
    cases: dict[int, Case] = {}
    rows: dict[int, ValidationRow] = {}
    for number, run in enumerate(runs):
        if isinstance(run, UnreadableRun):
            rows[number] = ValidationRow(id=run.id, refused=run.reason)
            continue
        try:
            cases[number] = case_of(run)
        except RefusedError as error:
            rows[number] = ValidationRow(
                id=run.id, accelerator=run.accelerator, source=_source(run), refused=str(error)
            )
    for number, step_s in zip(cases, _steps_s(list(cases.values()), table), strict=True):
        run = runs[number]
        assert isinstance(run, PublishedRun)
        rows[number] = _row(run, cases[number], step_s, table)
    return Validation(rows=tuple(rows[number] for number in range(len(runs))))


def _source(run: PublishedRun) -> str:
    return run.source_title or run.id.split("-")[0]


def _steps_s(cases: Sequence[Case], table: SimulatorParameters) -> list[float]:
    """Step times of all cases at once."""
    if not cases:
        return []
    placed = [(case.job, case.machine, case.stack) for case in cases]
    each = [parameters_for(table, machine, stack)[0] for _, machine, stack in placed]
    values: dict[str, Any] = {name: np.array([getattr(one, name) for one in each]) for name in NAMES}
    p = Parameters(**values)
    work = micro_batch_times(work_of(placed, [one.measured for one in each])[0], p)
    return [float(step) for step in step_times(jobs_of(placed), work, p).step_s]


def _row(run: PublishedRun, case: Case, step_s: float, table: SimulatorParameters) -> ValidationRow:
    known = known_of(case.machine, case.stack, table, recompute=case.recompute_stated, network=case.network_stated)
    names = circumstances(case.job, case.machine, known)
    memory = published_memory(case, table.memory)
    return ValidationRow(
        id=run.id,
        accelerator=run.accelerator,
        source=_source(run),
        kinds=kinds_of(case),
        measured_step_s=run.step_s,
        predicted_step_s=step_s,
        interval_s=interval(step_s, table.step_time, names),
        measured_memory_gib=run.peak_mem_gib_per_device,
        predicted_memory_gib=memory.gib,
        memory_interval_gib=memory.interval_gib,
        assumptions=(*case.assumptions, *([memory.note] if memory.note else [])),
    )


def kinds_of(case: Case) -> tuple[str, ...]:
    """Sorts of jobs by which errors are shown."""
    layout = case.job.layout
    holds = {
        "dense": case.job.model.moe is None,
        "experts": case.job.model.moe is not None,
        "tensor parallel": layout.tensor_parallel > 1,
        "pipeline parallel": layout.pipeline_parallel > 1,
        "context parallel": layout.context_parallel > 1,
        "expert parallel": layout.expert_parallel > 1,
        "FSDP": layout.zero_stage == 3,
        "fp8 or fp4": case.job.dtype in {"fp8", "fp4"},
        "one node": layout.devices <= case.machine.domain,
    }
    return tuple(name for name, held in holds.items() if held)
