"""What does a reader need first? The verdict, the key numbers, where the time goes, what is lost and what to change."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import get_args

from hwprof.report import palette
from hwprof.report.cells import finite
from hwprof.report.pictures import BOUND_WORDS, Card, Segment, segment
from hwprof.report.run.absence import absence
from hwprof.report.run.settings_words import batch_words, rate_text
from hwprof.specs.measurement import FEWEST_FOR_INTERVAL, MAX_WAITED_FRACTION
from hwprof.specs.record.generation import GenerationResult, TokenTime
from hwprof.specs.record.run import (
    BoundClass,
    Interval,
    MemoryResult,
    OpResult,
    PhaseName,
    PhaseTime,
    Prediction,
    Recommendation,
    RunRecord,
    StepTime,
)
from hwprof.units import (
    format_bytes,
    format_estimate,
    format_flop_per_s,
    format_fraction,
    format_quantity,
    format_seconds,
    format_span,
    number,
)

TOP_LOSSES = 5
TOP_RECOMMENDATIONS = 4
_NO_REST = 5e-4
"""Shares that miss one by less than this are rounding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """One operation that stays under its roof: time lost, and what to do."""

    label: str
    direction: str
    where: str
    lost: str
    lost_share: str
    bound: BoundClass
    advice: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Headline:
    """The first screen of a report.

    ``caution`` says what makes its numbers unsure, and is empty where nothing does; each recommendation has its gain
    in words beside it.
    """

    sentence: str
    caution: str
    bound: BoundClass
    confidence: str
    cards: tuple[Card, ...]
    phases: tuple[Segment, ...]
    bounds: tuple[Segment, ...]
    losses: tuple[Loss, ...]
    recommendations: tuple[tuple[Recommendation, str], ...]
    more_recommendations: int


def build_headline(record: RunRecord) -> Headline:
    """The first screen of ``record``; parts that it lacks are empty and the sentence says why."""
    verdict = record.verdict
    ranked = ranked_recommendations(record)
    return Headline(
        sentence=_sentence(record),
        caution=_caution(record.step),
        bound=verdict.bound if verdict else record.bound,
        confidence=verdict.confidence if verdict else "",
        cards=_cards(record),
        phases=phase_segments(record),
        bounds=bound_segments(record),
        losses=top_losses(record.ops),
        recommendations=tuple((item, gain_words(item.gain_fraction)) for item in ranked[:TOP_RECOMMENDATIONS]),
        more_recommendations=max(len(ranked) - TOP_RECOMMENDATIONS, 0),
    )


def _sentence(record: RunRecord) -> str:
    """The verdict, and of several ranks the one that the others wait for."""
    said = record.verdict.sentence if record.verdict else absence(record, "verdict")
    found = [said, *([record.stragglers.sentence] if record.stragglers else [])]
    return " ".join([*found, *([record.goodput.sentence] if record.goodput else [])]).strip()


def _caution(step: StepTime | None) -> str:
    if step is None or step.stable:
        return ""
    busy = step.waited_fraction is not None and step.waited_fraction > MAX_WAITED_FRACTION
    why = (
        f"Measured while other processes used the CPU: this run's threads waited {number(step.waited_fraction)} s "
        "for it in each second of the timed steps"
        if busy
        else f"The steps differ: their times spread by {format_fraction(step.spread)}"
    )
    return f"{why}. Close other programs and run again before you trust these numbers."


def ranked_recommendations(record: RunRecord) -> list[Recommendation]:
    """Settings before layouts, each by the middle of its predicted gain, largest first."""
    return sorted(record.recommendations, key=lambda item: (item.kind == "layout", -sum(item.gain_fraction)))


def gain_words(gain_fraction: Interval) -> str:
    """A predicted gain in words; nothing is promised where the interval ends at zero."""
    low, high = gain_fraction
    if high <= 0:
        return "no saving expected"
    if low <= 0:
        return f"saves up to {format_estimate(high)} of the step"
    return f"saves {format_span((low, high), 'estimate')} of the step"


def top_losses(ops: Sequence[OpResult]) -> tuple[Loss, ...]:
    """The operations that lose most time against their roof."""
    losing = sorted((op for op in ops if op.lost_s > 0), key=lambda op: -op.lost_s)
    return tuple(_loss(op) for op in losing[:TOP_LOSSES])


def _loss(op: OpResult) -> Loss:
    share = op.share * op.lost_s / op.time_s if op.time_s else None
    reached = f", reaches {format_fraction(op.roof_fraction)} of {op.roof_name}" if finite(op.roof_fraction) else ""
    return Loss(
        label=op.label,
        direction=op.direction,
        where=f"{op.layer_kind}, takes {format_seconds(op.time_s)} per step{reached}",
        lost=format_seconds(op.lost_s),
        lost_share=format_fraction(share),
        bound=op.bound,
        advice=op.advice or "No setting is known to help.",
    )


def _segments(parts: Sequence[tuple[str, float, str, str]], rest_label: str) -> tuple[Segment, ...]:
    """A bar of (label, share, detail, colour); what the shares miss is a grey rest, what they exceed is scaled down."""
    parts = [part for part in parts if part[1] > 0]
    total = math.fsum(part[1] for part in parts)
    if not parts:
        return ()
    rest = 1 - total
    if rest > _NO_REST:
        parts = [*parts, (rest_label, rest, "", palette.LIGHT_GREY)]
    whole = max(total, 1.0) if rest > _NO_REST else total
    return tuple(segment(label, share, colour, detail=detail, whole=whole) for label, share, detail, colour in parts)


def phases_in_order(record: RunRecord) -> list[PhaseTime]:
    """The phases inside the step, in the order in which they run."""
    order = get_args(PhaseName)
    return sorted((phase for phase in record.phases if phase.in_step), key=lambda phase: order.index(phase.name))


def phase_segments(record: RunRecord) -> tuple[Segment, ...]:
    """The bar of the phases inside the step, in the order in which they run."""
    parts = []
    for phase in phases_in_order(record):
        bound = ("" if phase.bound == "unknown" else "bound by ") + _bound_words(record, phase.bound)
        detail = f"{format_seconds(phase.median_s)}, {bound}"
        parts.append((phase.name.replace("_", " "), phase.share, detail, palette.PHASE_COLOURS[phase.name]))
    return _segments(parts, "between phases")


def _bound_words(record: RunRecord, bound: BoundClass) -> str:
    """What a class means; without a ceiling nothing is far below one."""
    roofs = any(ceiling.kind in {"compute", "memory"} for ceiling in record.ceilings)
    return BOUND_WORDS[bound] if roofs or bound != "unknown" else "no roof is known"


def bound_segments(record: RunRecord) -> tuple[Segment, ...]:
    """The bar of the step's time by bound class, largest first."""
    if record.verdict is None:
        return ()
    shares = sorted(record.verdict.shares.items(), key=lambda item: -item[1])
    parts = [(bound, share, _bound_words(record, bound), palette.BOUND_COLOURS[bound]) for bound, share in shares]
    return _segments(parts, "not classified")


def _cards(record: RunRecord) -> tuple[Card, ...]:
    step = record.step
    if step is None:
        return ()
    brief, detail = batch_words(record.settings)
    cards = [
        _step_card(step),
        Card(title="Throughput", value=rate_text(step), brief=brief, detail=detail),
        *(_token_cards(record.generation) if record.generation else ()),
        _mfu_card(step),
        *(() if record.generation else (_hfu_card(record, step),)),
    ]
    if record.prediction is not None:
        cards.append(_prediction_card(record.prediction, step))
    if record.memory is not None:
        cards.append(_memory_card(record.memory))
    return tuple(cards)


def _step_card(step: StepTime) -> Card:
    kind = "95 % interval" if len(step.samples_s) >= FEWEST_FOR_INTERVAL else "range"
    between, spread = f"{kind} {format_span(step.interval_s, 's')}", f"spread {format_fraction(step.spread)}"
    verdict = "stable" if step.stable else "unstable"
    detail = f"median of {len(step.samples_s)} unprofiled steps; {between}; {spread} ({verdict})"
    return Card(title="Step time", value=format_seconds(step.median_s), brief=f"{between}, {spread}", detail=detail)


def _token_cards(found: GenerationResult) -> Iterator[Card]:
    """The first token, and each after it: measured, predicted, and the least that the roofs allow."""
    prompts = f"{format_quantity(found.prompt_token_per_s, 'count')} tokens of prompts a second"
    yield _token_card("First token", found.ttft, prompts)
    if found.tpot:
        made = f"{format_quantity(found.new_token_per_s, 'count')} new tokens a second while decoding"
        yield _token_card("Next token", found.tpot, made)


def _token_card(title: str, time: TokenTime, rate: str) -> Card:
    predicted = "not predicted" if time.predicted_s is None else f"predicted {format_seconds(time.predicted_s)}"
    least = "" if time.roof_s is None else f", at the roofs {format_seconds(time.roof_s)}"
    brief = f"{predicted}{least}"
    between = f"median's interval {format_span(time.interval_s, 's')}"
    return Card(title=title, value=format_seconds(time.median_s), brief=brief, detail=f"{brief}; {between}; {rate}")


def _mfu_card(step: StepTime) -> Card:
    causal = f" Counting causal attention only: {format_fraction(step.mfu_causal)}." if finite(step.mfu_causal) else ""
    detail = f"model FLOP utilisation: recompute excluded, full attention{_peak_words(step)}." + causal
    brief = "model FLOP utilisation, recompute excluded"
    return Card(title="MFU", value=format_fraction(step.mfu), brief=brief, detail=detail)


def _peak_words(step: StepTime) -> str:
    """Which rate the utilisation is a share of, and where that rate is from."""
    if step.mfu_peak_flop_per_s is None:
        return f"; {step.mfu_basis or 'no compute peak is known'}"
    basis = f" ({step.mfu_basis})" if step.mfu_basis else ""
    return f", of {format_flop_per_s(step.mfu_peak_flop_per_s)}{basis}"


def _hfu_card(record: RunRecord, step: StepTime) -> Card:
    recompute = record.settings.recompute
    same = "nothing is recomputed, so it equals MFU" if recompute == "none" else f"recompute: {recompute}"
    detail = f"hardware FLOP utilisation: everything executed, recompute included ({same})."
    brief = "hardware FLOP utilisation, recompute included"
    return Card(title="HFU", value=format_fraction(step.hfu), brief=brief, detail=detail)


def _prediction_card(prediction: Prediction, step: StepTime) -> Card:
    low, high = prediction.interval_s
    inside = "inside" if low <= step.median_s <= high else "outside"
    error = prediction.step_s / step.median_s - 1
    off, measured = format_fraction(abs(error)), format_seconds(step.median_s)
    brief = f"{off} above the measured {measured}" if error >= 0 else f"{off} below the measured {measured}"
    detail = f"{brief}, which is {inside} the predicted interval {format_span(prediction.interval_s, 's')}"
    return Card(title="Predicted step", value=format_seconds(prediction.step_s), brief=brief, detail=detail)


def _memory_card(memory: MemoryResult) -> Card:
    peak, predicted, capacity = memory.measured_peak_bytes, memory.predicted_peak_bytes, memory.capacity_bytes
    if peak is None:
        detail = "predicted; the peak could not be measured"
    else:
        detail = "measured" if predicted is None else f"measured; predicted {format_bytes(predicted)}"
        detail += f"; {format_fraction(peak / capacity)} of {format_bytes(capacity)}" if capacity else ""
    value = format_bytes(predicted if peak is None else peak)
    return Card(title="Peak memory", value=value, brief=detail, detail=detail)
