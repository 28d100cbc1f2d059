"""What do the recorded samples say? Step and phase times with intervals, MFU and HFU against a named peak."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hwprof.count.ops.cost import Cost
from hwprof.predict.ceilings.roofs import best_ceilings
from hwprof.predict.work import Work
from hwprof.specs.measurement import MAX_WAITED_FRACTION, STABLE_SPREAD, Ceiling, median_interval, quantile
from hwprof.specs.record.loop import SeenDtype
from hwprof.specs.record.run import (
    BoundClass,
    Confidence,
    Dtype,
    PhaseName,
    PhaseTime,
    Recording,
    StepTime,
    WorkSummary,
)
from hwprof.units import format_change, format_fraction, number

_OUTSIDE_STEP: frozenset[PhaseName] = frozenset({"evaluation", "checkpoint"})


def relative_spread(samples: tuple[float, ...]) -> float:
    """Interquartile range over median, a fraction."""
    median = statistics.median(samples)
    return (quantile(samples, 0.75) - quantile(samples, 0.25)) / median if median else 0.0


def mfu_peak(ceilings: Sequence[Ceiling], dtype: Dtype | SeenDtype) -> tuple[float | None, str]:
    """The peak that MFU is measured against, in flop_per_s, and its name: the datasheet's, else the measured one."""
    name = f"matmul.{dtype}"
    datasheet = next((c for c in ceilings if c.name == name and c.origin == "datasheet"), None)
    peak = datasheet or best_ceilings(ceilings).get(name)
    if peak is None:
        return None, f"no {name} peak is known"
    return peak.value, f"{peak.origin} {name}: {peak.source}"


def step_time(
    recording: Recording,
    work: WorkSummary,
    *,
    warmups: int,
    peak_flop_per_s: float | None,
    peak_basis: str,
    samples: int | None = None,
) -> StepTime:
    """The unprofiled step, of so many tokens and, where that is known, samples.

    MFU = training matmul FLOP without recompute / (step time x peak) (PaLM, appendix B: full attention;
    ``mfu_causal`` halves attention); HFU adds the recomputed FLOP (Korthikanti et al. 2022, section 6).
    """
    samples_s = recording.step_samples_s
    median_s = statistics.median(samples_s)

    def utilisation(flop: float) -> float | None:
        return flop / (median_s * peak_flop_per_s) if peak_flop_per_s else None

    return StepTime(
        median_s=median_s,
        interval_s=median_interval(samples_s),
        samples_s=samples_s,
        spread=relative_spread(samples_s),
        stable=relative_spread(samples_s) <= STABLE_SPREAD and not _disturbed(recording),
        waited_fraction=recording.waited_fraction,
        warmups=warmups,
        tokens_per_s=work.tokens / median_s if work.tokens else None,
        samples_per_s=samples / median_s if samples else None,
        mfu=utilisation(work.train_flop_full),
        hfu=utilisation(work.train_flop_full + work.recompute_flop_full),
        mfu_causal=utilisation(work.train_flop_causal),
        mfu_peak_flop_per_s=peak_flop_per_s,
        mfu_basis=peak_basis,
    )


def phase_times(
    recording: Recording,
    *,
    step_s: float,
    bounds: Mapping[PhaseName, BoundClass],
    predicted_s: Mapping[PhaseName, float],
    roof_s: Mapping[PhaseName, float],
) -> tuple[PhaseTime, ...]:
    """Every phase in the order it ran, with its share of the median step."""
    return tuple(
        PhaseTime(
            name=name,
            median_s=statistics.median(samples),
            interval_s=median_interval(samples),
            share=0.0 if name in _OUTSIDE_STEP else statistics.median(samples) / step_s,
            in_step=name not in _OUTSIDE_STEP,
            samples_s=samples,
            bound=bounds.get(name, "unknown"),
            predicted_s=predicted_s.get(name),
            roof_s=roof_s.get(name),
        )
        for name, samples in recording.phase_samples_s.items()
    )


def profiler_overhead_fraction(recording: Recording) -> float | None:
    """How much slower a step runs under the profiler: profiled median over unprofiled median, minus 1."""
    if not recording.profiled_step_samples_s or not recording.step_samples_s:
        return None
    unprofiled_s = statistics.median(recording.step_samples_s)
    return statistics.median(recording.profiled_step_samples_s) / unprofiled_s - 1


def recorded_fields(recording: Recording) -> dict[str, Any]:
    """What a record takes over from its recording, and what recording and profiling cost."""
    return {
        "kernels": recording.kernels,
        "attribution": recording.attribution,
        "recorder_overhead_fraction": recording.recorder_overhead_fraction,
        "marked_over_bare_interval": recording.marked_over_bare_interval,
        "profiler_overhead_fraction": profiler_overhead_fraction(recording),
        "profiler_own_fraction": recording.profiler_own_fraction,
    }


WINDOW_DIFFERS = 0.15
"""Above this difference between profiled and unprofiled step, shares from the window are called into question."""


def recording_notes(recording: Recording) -> tuple[str, ...]:
    """Warnings where other processes took the CPU, or the profiled window ran at another speed than the timed steps."""
    notes = []
    if _disturbed(recording):
        notes.append(
            f"other processes used the CPU: this one's threads waited for it {number(recording.waited_fraction)} s in "
            "each second of the timed steps, so step and phase times may be too long; close other programs and run "
            "again"
        )
    if _window_differs(recording):
        notes.append(_window_note(recording))
    return tuple(notes)


def _window_note(recording: Recording) -> str:
    """A profiler slows a step and never speeds it up; a faster window is the work of other programs."""
    overhead = profiler_overhead_fraction(recording)
    assert overhead is not None
    slower = "other programs ran, or the profiler slows the host" + _own_cost(recording)
    why = slower if overhead > 0 else "other programs ran meanwhile"
    return (
        f"the profiled window's steps took {format_change(overhead)} against the unprofiled ones, so shares of "
        f"operations, which come from the window, are less sure than phase times: {why}"
    )


def _own_cost(recording: Recording) -> str:
    own = recording.profiler_own_fraction
    return "" if own is None else f" (its events, one by one, account for {format_fraction(own)})"


def confidence_in(recording: Recording) -> Confidence:
    """The most that may be said with: low after a disturbance, medium where the steps themselves differ."""
    if _disturbed(recording) or _window_differs(recording):
        return "low"
    return "high" if relative_spread(recording.step_samples_s) <= STABLE_SPREAD else "medium"


def _disturbed(recording: Recording) -> bool:
    return recording.waited_fraction is not None and recording.waited_fraction > MAX_WAITED_FRACTION


def _window_differs(recording: Recording) -> bool:
    overhead = profiler_overhead_fraction(recording)
    return overhead is not None and abs(overhead) > WINDOW_DIFFERS


def ceiling_notes(ceilings: Sequence[Ceiling], step: StepTime) -> tuple[str, ...]:
    """Warnings where ceilings can't be trusted: measured unsteadily, or below what the step itself reached."""
    unstable = [c.name for c in ceilings if c.origin == "measured" and c.stable is False]
    notes = []
    if unstable:
        notes.append(
            f"{len(unstable)} of the measured ceilings {'was' if len(unstable) == 1 else 'were'} unsteady "
            f"({', '.join(unstable[:4])}{', ...' if len(unstable) > 4 else ''}): "
            "what is held against them is less sure; probe on a quiet machine"
        )
    if step.hfu is not None and step.hfu > 1:
        notes.append("HFU above 100 %: the peak that it is held against was measured too low; probe on a quiet machine")
    return tuple(notes)


def work_summary(
    full: Sequence[Work], causal: Sequence[Work], *, parameters: int, active_parameters: int | None, tokens: int | None
) -> WorkSummary:
    """Totals of one step from its ops, counted in both attention conventions."""
    everything = sum((item.total for item in full), Cost.ZERO)
    return WorkSummary(
        parameters=parameters,
        active_parameters=active_parameters,
        train_flop_full=_matmul_flop(full, recomputed=False),
        train_flop_causal=_matmul_flop(causal, recomputed=False),
        recompute_flop_full=_matmul_flop(full, recomputed=True),
        vector_flop=everything.vector_flop,
        moved_bytes=everything.moved_bytes,
        tokens=tokens,
    )


def _matmul_flop(work: Iterable[Work], *, recomputed: bool) -> float:
    return sum(item.total.matmul_flop for item in work if (item.direction == "recompute") == recomputed)
