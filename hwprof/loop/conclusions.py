"""Which analysis does each section of a loop's record come from? From what was seen to the record."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any

from hwprof.loop.counted import CountedStep
from hwprof.plan.advice.dtypes import faster_dtype
from hwprof.plan.advice.loops import loop_advice, recommend_loop
from hwprof.predict import classify, summary
from hwprof.predict.ceilings.clock import SM_CLOCK, at_clock, clock_notes
from hwprof.predict.ceilings.roofs import Roofs, roofs_of
from hwprof.predict.prediction import roof_by_phase
from hwprof.specs.record.loop import ModuleSpec
from hwprof.specs.record.run import MemoryPart, MemoryResult, Recording, RunRecord

UNCOUNTED = "the step was not counted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What one measurement saw.

    Attributes:
        module: the module that is trained.
        recording: times, kernels and memory.
        counted: the work of a step.
        state_bytes: what weights, gradients and optimizer state take on this rank.
    """

    module: ModuleSpec
    recording: Recording
    counted: CountedStep
    state_bytes: dict[str, float] = field(default_factory=dict)


def concluded(record: RunRecord, seen: Seen) -> RunRecord:
    """The record with every section that follows from what was seen."""
    counters = seen.recording.counters
    ceilings = at_clock(record.ceilings, counters.get(SM_CLOCK))
    roofs = roofs_of(ceilings, record.settings.dtype, device=record.settings.device)
    record = record.changed(**_recorded(record, seen))
    if seen.recording.attribution is not None:
        record = record.changed(**_classified(record, seen, roofs))
    if seen.recording.step_samples_s:
        record = record.changed(**_timed(record, seen, roofs))
    return record.changed(recommendations=recommend_loop(record))


def _recorded(record: RunRecord, seen: Seen) -> dict[str, Any]:
    recording = seen.recording
    notes = summary.recording_notes(recording) if recording.step_samples_s else ()
    notes = (*notes, *clock_notes(record.ceilings, recording.counters, record.settings.dtype))
    return {
        **summary.recorded_fields(recording),
        "notes": (*record.notes, *seen.counted.notes, *recording.notes, *notes),
        "memory": _memory(record, seen),
    }


def _memory(record: RunRecord, seen: Seen) -> MemoryResult | None:
    """What the loop holds all the time, and the rest of the measured peak."""
    state_bytes, peak_bytes = seen.state_bytes, seen.recording.memory_peak_bytes
    if not any(state_bytes.values()):
        return None
    found = [
        MemoryPart(name=name, predicted_bytes=size_bytes, note="found on this rank")
        for name, size_bytes in state_bytes.items()
    ]
    rest_bytes = 0.0 if peak_bytes is None else max(peak_bytes - sum(state_bytes.values()), 0.0)
    rest = MemoryPart(name="activations and temporaries", predicted_bytes=rest_bytes, note="the rest of the peak")
    return MemoryResult(
        parts=(*found, *((rest,) if rest_bytes else ())),
        measured_peak_bytes=peak_bytes,
        measured_source=seen.recording.memory_peak_source if peak_bytes is not None else "",
        reserved_bytes=seen.recording.memory_reserved_bytes,
        outside_bytes=seen.recording.memory_outside_bytes,
        capacity_bytes=record.device.memory_bytes,
        capacity_source=record.device.memory_source,
        timeline=seen.recording.memory_timeline,
    )


def _classified(record: RunRecord, seen: Seen, roofs: Roofs) -> dict[str, Any]:
    recording, attribution = seen.recording, seen.recording.attribution
    assert attribution is not None
    advice = functools.partial(loop_advice, faster=faster_dtype(record.ceilings, record.settings))
    ops = classify.classify_ops(recording.ops, seen.counted.causal, roofs, step_s=attribution.step_s, advice=advice)
    confidence = summary.confidence_in(recording) if recording.step_samples_s else "low"
    verdict = classify.verdict(ops, attribution, at_most=confidence)
    return {
        "ops": ops,
        "layer_kinds": classify.classify_kinds(ops, step_s=attribution.step_s),
        "verdict": verdict,
        "bound": verdict.bound,
    }


def _timed(record: RunRecord, seen: Seen, roofs: Roofs) -> dict[str, Any]:
    counted = seen.counted
    totals = summary.work_summary(
        counted.full,
        counted.causal,
        parameters=seen.module.parameters,
        active_parameters=None,
        tokens=counted.inputs.tokens,
    )
    peak_flop_per_s, basis = summary.mfu_peak(record.ceilings, record.settings.dtype)
    step = summary.step_time(
        seen.recording,
        totals,
        warmups=record.settings.warmup_steps,
        peak_flop_per_s=peak_flop_per_s if counted.full else None,
        peak_basis=basis if counted.full else UNCOUNTED,
        samples=counted.inputs.rows,
    )
    phases = summary.phase_times(
        seen.recording,
        step_s=step.median_s,
        bounds=classify.phase_bounds(record.ops, seen.recording.phase_samples_s),
        predicted_s={},
        roof_s=roof_by_phase(counted.causal, roofs),
    )
    return {
        "work": totals if counted.full else None,
        "step": step,
        "phases": phases,
        "notes": (*record.notes, *summary.ceiling_notes(record.ceilings, step)),
    }
