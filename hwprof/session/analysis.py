"""Which analysis does each section of a run come from? Glue from the recording to the record; no arithmetic here."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from hwprof.count.blocks.parameters import parameters
from hwprof.count.ops.precision import Precision
from hwprof.plan.advice.dtypes import faster_dtype
from hwprof.plan.advice.layouts import survey_for
from hwprof.plan.advice.measured_layout import measured_layout
from hwprof.plan.advice.operations import advice_for, advice_to_generate
from hwprof.plan.advice.recommend import cautions, recommend
from hwprof.predict import classify, summary
from hwprof.predict.ceilings.clock import SM_CLOCK, at_clock, clock_notes
from hwprof.predict.ceilings.roofs import Roofs, roofs_of
from hwprof.predict.generation import kernels_of, products_of, work_of
from hwprof.predict.prediction import StepFacts, predict_step, roof_by_phase, with_residual
from hwprof.predict.ranks.prediction import core_sharing, with_ranks
from hwprof.predict.work import Work
from hwprof.session.generation import generation_times
from hwprof.session.need import need_of
from hwprof.specs.catalogue.lookup import load_device
from hwprof.specs.catalogue.simulator import simulator_parameters
from hwprof.specs.hardware.spec import ClusterSpec
from hwprof.specs.model.spec import ModelSpec
from hwprof.specs.record.run import MemoryResult, Prediction, Recording, RunRecord, RunSettings, WorkSummary

TOKEN_BYTES = 8
"""A token id on its way to the device is an int64."""


def analysed(record: RunRecord, recording: Recording) -> RunRecord:
    """The record with every section that follows from what was recorded."""
    work = work_of(record.spec, record.run_settings, attention="causal")
    roofs = _roofs(record, recording)
    record = record.changed(**_recorded(record, recording))
    if recording.attribution is not None:
        record = record.changed(**_classified(record, recording, work, roofs))
    return record.changed(**_timed(record, recording, work, roofs))


def _roofs(record: RunRecord, recording: Recording | None = None) -> Roofs:
    """The roofs over a step: of products at the clock that it ran at, where that is known."""
    spec, settings = record.spec, record.run_settings
    attention = (settings.micro_batch, spec.heads, spec.kv_heads, settings.seq_len, spec.head_dim)
    ceilings = at_clock(record.ceilings, recording.counters.get(SM_CLOCK) if recording else None)
    return roofs_of(ceilings, settings.dtype, device=settings.device, attention=attention)


def _recorded(record: RunRecord, recording: Recording) -> dict[str, Any]:
    return {
        **summary.recorded_fields(recording),
        "losses": recording.losses,
        "eval_loss": recording.eval_loss,
        "notes": (*recording.notes, *summary.recording_notes(recording)),
        "memory": _memory(record, recording),
    }


def _memory(record: RunRecord, recording: Recording) -> MemoryResult:
    need = need_of(record.spec, record.run_settings)
    return MemoryResult(
        parts=need.parts,
        predicted_peak_bytes=need.peak_bytes,
        measured_peak_bytes=recording.memory_peak_bytes,
        measured_source=recording.memory_peak_source,
        reserved_bytes=recording.memory_reserved_bytes,
        outside_bytes=recording.memory_outside_bytes,
        capacity_bytes=record.device.memory_bytes,
        capacity_source=record.device.memory_source,
        timeline=recording.memory_timeline,
    )


def _classified(record: RunRecord, recording: Recording, work: Sequence[Work], roofs: Roofs) -> dict[str, Any]:
    attribution = recording.attribution
    assert attribution is not None
    settings = record.run_settings
    faster = faster_dtype(record.ceilings, settings)
    of_training = functools.partial(advice_for, faster=faster, compiled=settings.compile)
    advice = advice_to_generate if settings.new_tokens else of_training
    ops = classify.classify_ops(recording.ops, work, roofs, step_s=attribution.step_s, advice=advice)
    verdict = classify.verdict(ops, attribution, at_most=summary.confidence_in(recording))
    return {
        "ops": ops,
        "layer_kinds": classify.classify_kinds(ops, step_s=attribution.step_s),
        "verdict": verdict,
        "bound": verdict.bound,
    }


def _timed(record: RunRecord, recording: Recording, work: Sequence[Work], roofs: Roofs) -> dict[str, Any]:
    settings = record.run_settings
    totals = _work_summary(record.spec, settings, work)
    peak_flop_per_s, peak_basis = summary.mfu_peak(record.ceilings, settings.dtype)
    step = summary.step_time(
        recording, totals, warmups=settings.warmup_steps, peak_flop_per_s=peak_flop_per_s, peak_basis=peak_basis
    )
    clock = clock_notes(record.ceilings, recording.counters, settings.dtype)
    prediction = predicted(record)
    phases = summary.phase_times(
        recording,
        step_s=step.median_s,
        bounds=classify.phase_bounds(record.ops, recording.phase_samples_s),
        predicted_s=prediction.phase_s if prediction else {},
        roof_s=roof_by_phase(work, roofs),
    )
    return {
        "work": totals,
        "step": step,
        "phases": phases,
        "notes": (*record.notes, *summary.ceiling_notes(record.ceilings, step), *clock),
        "prediction": with_residual(prediction, measured_s=step.median_s) if prediction else None,
        "generation": generation_times(settings, phases) if settings.new_tokens else None,
    }


def _work_summary(spec: ModelSpec, settings: RunSettings, causal: Sequence[Work]) -> WorkSummary:
    count = parameters(spec)
    return summary.work_summary(
        work_of(spec, settings, attention="full"),
        causal,
        parameters=count.total,
        active_parameters=count.active,
        tokens=settings.tokens_per_step * settings.layout.data_parallel,
    )


def predicted(record: RunRecord) -> Prediction | None:
    """The step from counts and the record's ceilings alone; None where no ceiling is known."""
    spec, settings = record.spec, record.run_settings
    work = work_of(spec, settings, attention="causal")
    assert record.memory is not None
    assert record.memory.predicted_peak_bytes is not None
    facts = StepFacts(
        footprint_bytes=record.memory.predicted_peak_bytes,
        operand_bytes=Precision.of(settings.dtype).compute_bytes,
        input_bytes=float(settings.micro_batch * settings.gradient_accumulation * settings.seq_len * TOKEN_BYTES),
        dtype=settings.dtype,
        device=load_device(record.device.catalogue_id) if record.device.catalogue_id else None,
        micro_batches=settings.gradient_accumulation,
        stages=settings.layout.pipeline_parallel,
        decode_steps=settings.decode_steps,
        host_beside=settings.device != "cpu",
    )
    kernels = kernels_of(work, spec, settings)
    alone = predict_step(work, products_of(spec, settings), _roofs(record), facts, kernels=kernels)
    if alone is None or record.ranks is None:
        return alone
    return with_ranks(
        alone,
        record.ranks.collectives,
        settings.layout,
        micro_batches=settings.gradient_accumulation,
        device=settings.counted_as,
        meetings=record.ranks.meetings,
        sharing=core_sharing(record.environment, [rank.place for rank in record.ranks.ranks])
        if settings.device == "cpu"
        else 1.0,
    )


def planned(record: RunRecord, cluster: ClusterSpec | None) -> RunRecord:
    """The record with recommendations, and with layouts of the cluster if there is one; of training alone."""
    if record.run_settings.new_tokens:
        return record.changed(notes=(*record.notes, *cautions(record)))
    survey = survey_for(record, cluster, simulator_parameters()) if cluster else None
    return record.changed(
        recommendations=recommend(record, survey=survey),
        layouts=(measured_layout(record), *(survey.rows if survey else ())),
        notes=(*record.notes, *cautions(record), *(survey.assumptions if survey else ())),
    )
