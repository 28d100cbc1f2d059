"""Where does the step go, and where could it be? Its waterfall, and measured, predicted and best possible by phase."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import get_args

from hwprof.report import palette
from hwprof.report.pictures import Bar, Picture
from hwprof.report.run.absence import absence
from hwprof.report.run.headline import phases_in_order
from hwprof.specs.record.run import Attribution, Interval, PhaseName, RunRecord
from hwprof.units import format_fraction, format_seconds, format_span, scale

_LABEL_SHARE = 0.08
"""A part smaller than this share of the longest row has no room for its label; pointing at it tells it."""
_ORDER = get_args(PhaseName)


def waterfall_picture(record: RunRecord) -> Picture:
    """The profiled step from zero to its end: compute at and above its roofs, what is exposed or idle, the residue."""
    attribution = record.attribution
    title = "Where the step goes"
    if attribution is None:
        return Picture(name="waterfall", title=title, empty=absence(record, "attribution of the step"))
    factor, unit = scale("s", [attribution.step_s])
    bars, end_s = [], 0.0
    for label, part_s, colour in _waterfall_parts(attribution, _at_roof_s(record, attribution)):
        start_s, end_s = end_s, end_s + part_s
        share = format_fraction(part_s / attribution.step_s) if attribution.step_s else ""
        text = f"{format_seconds(part_s)} ({share})"
        bars.append(Bar(label=label, start=start_s * factor, length=part_s * factor, text=text, colour=colour))
    whole = Bar(
        label="step",
        start=0.0,
        length=attribution.step_s * factor,
        text=format_seconds(attribution.step_s),
        colour=palette.SLATE,
    )
    return Picture(
        name="waterfall",
        title=title,
        x_title=f"time in the profiled step [{unit}]",
        bars=(*bars, whole),
        note=_attribution_note(attribution),
    )


def _at_roof_s(record: RunRecord, attribution: Attribution) -> float | None:
    """What the operations would take at their roofs; None where no roof is known. Never more than compute took."""
    if not any(op.roof_name for op in record.ops):
        return None
    return min(math.fsum(min(op.time_s, op.roof_s) for op in record.ops), attribution.compute_s)


def _waterfall_parts(attribution: Attribution, at_roof_s: float | None) -> tuple[tuple[str, float, str], ...]:
    compute = (
        (("compute", attribution.compute_s, palette.BLUE),)
        if at_roof_s is None
        else (
            ("compute: least time (roofs)", at_roof_s, palette.BLUE),
            ("compute: above its roofs", attribution.compute_s - at_roof_s, palette.SKY),
        )
    )
    return (
        *compute,
        ("exposed communication", attribution.exposed_communication_s, palette.BOUND_COLOURS["communication"]),
        ("exposed copies", attribution.exposed_copy_s, palette.BOUND_COLOURS["transfer"]),
        ("idle: waits for host", attribution.idle_host_s, palette.BOUND_COLOURS["host"]),
        ("idle: waits for input", attribution.idle_input_s, palette.GREEN),
        ("residue (unexplained)", attribution.residue_s, palette.GREY),
    )


def _attribution_note(attribution: Attribution) -> str:
    explained = (
        f"{format_fraction(attribution.explained_fraction)} of the step has a cause and a place; "
        f"{format_fraction(attribution.attributed_op_fraction)} of the operation time belongs to a named module."
    )
    return f"{explained} {attribution.note}".strip()


@dataclass(frozen=True, slots=True)
class _Row:
    """One way to take the step: its phases, the whole, and how sure that is."""

    name: str
    parts_s: Mapping[PhaseName, float]
    whole_s: float
    interval_s: Interval | None


def targets_picture(record: RunRecord) -> Picture:
    """The step by phase, once as measured, once as predicted, and once as short as the roofs allow."""
    step = record.step
    title = "Measured, predicted and best possible step"
    phases = phases_in_order(record)
    if step is None or not phases:
        return Picture(name="targets", title=title, empty=absence(record, "step and phase times"))
    prediction = record.prediction
    roofs_s = {phase.name: phase.roof_s for phase in phases if phase.roof_s is not None}
    measured_s = {phase.name: phase.median_s for phase in phases}
    ends_s = [step.median_s, step.interval_s[1]]
    rows = [_Row("measured", measured_s, step.median_s, step.interval_s)]
    if prediction is not None:
        predicted_s = dict(sorted(prediction.phase_s.items(), key=lambda item: _ORDER.index(item[0])))
        rows.append(_Row("predicted", predicted_s, prediction.step_s, prediction.interval_s))
        ends_s += [prediction.step_s, prediction.interval_s[1]]
    if roofs_s:
        rows.append(_Row("best possible", roofs_s, math.fsum(roofs_s.values()), None))
    factor, unit = scale("s", ends_s)
    return Picture(
        name="targets",
        title=title,
        x_title=f"time of a step, profiler off [{unit}]",
        bars=tuple(bar for row in rows for bar in _bars(row, factor, max(ends_s))),
        note=_targets_note(record, roofs_s),
    )


def _bars(row: _Row, factor: float, longest_s: float) -> Iterable[Bar]:
    """The parts of one row, what they leave of the whole, and the whole with its interval at the end."""
    name, whole_s, interval_s = row.name, row.whole_s, row.interval_s
    label, end_s = f"{name}\n{format_seconds(whole_s)}", 0.0
    parts = [(phase.replace("_", " "), part_s, palette.PHASE_COLOURS[phase]) for phase, part_s in row.parts_s.items()]
    rest = ("between phases", max(whole_s - math.fsum(row.parts_s.values()), 0.0), palette.LIGHT_GREY)
    for title, part_s, colour in (*parts, rest):
        if not part_s:
            continue
        words = f"{title} {format_seconds(part_s)}"
        yield Bar(
            label=label,
            start=end_s * factor,
            length=part_s * factor,
            text=words if part_s >= _LABEL_SHARE * longest_s else "",
            colour=colour,
            detail=f"{name}: {words}",
            inside=True,
        )
        end_s += part_s
    spread = f", interval {format_span(interval_s, 's')}" if interval_s else ""
    yield Bar(
        label=label,
        start=whole_s * factor,
        length=0.0,
        text="",
        colour=palette.BLACK,
        detail=f"{name}: {format_seconds(whole_s)} in all{spread}",
        inside=True,
        interval=(interval_s[0] * factor, interval_s[1] * factor) if interval_s else None,
    )


def _targets_note(record: RunRecord, roofs_s: Mapping[PhaseName, float]) -> str:
    step, prediction = record.step, record.prediction
    assert step is not None
    measured = f"Whiskers are intervals: measured {format_span(step.interval_s, 's')}"
    predicted = f", predicted {format_span(prediction.interval_s, 's')}" if prediction else ""
    if not roofs_s:
        return f"{measured}{predicted}. Best possible is not known: no phase has counted work under a ceiling."
    best_s = math.fsum(roofs_s.values())
    free = [phase.name.replace("_", " ") for phase in record.phases if phase.in_step and phase.roof_s is None]
    nothing = f"; {', '.join(free)} and the gaps between phases count as nothing there" if free else ""
    return (
        f"{measured}{predicted}. Best possible: the counted work at the ceilings, "
        f"{format_fraction(best_s / step.median_s)} of the measured step{nothing}."
    )
