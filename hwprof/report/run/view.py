"""What does a report show? A run record turned into plain rows and points; nothing after this does arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

from hwprof.report.cells import Table
from hwprof.report.head import Page
from hwprof.report.pictures import Picture
from hwprof.report.run import figures, provenance, rank_tables, step_figures, tables
from hwprof.report.run.absence import STATUS_WORDS, missing_parts
from hwprof.report.run.counter_table import counter_table
from hwprof.report.run.headline import Headline, build_headline
from hwprof.report.run.module_table import module_table
from hwprof.report.run.roofline import RooflineFigure, build_roofline
from hwprof.report.run.settings_words import setting_words
from hwprof.specs.record.run import RunRecord
from hwprof.units import format_count

_RANK_TABLES = (
    rank_tables.rank_table,
    rank_tables.rank_phase_table,
    rank_tables.collective_table,
    rank_tables.link_table,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class View(Page):
    """One report.

    ``tables`` has: phases, kinds, modules, ops, kernels, memory, ceilings, skipped, environment, telemetry; of training
    recommendations, layouts, losses; where several ranks ran ranks, rank_phases, collectives, links; with a GPU's
    counters counters.
    """

    created: str
    command: str
    status: str
    status_text: str
    missing: tuple[str, ...]
    notes: tuple[str, ...]
    headline: Headline
    roofline: RooflineFigure
    waterfall: Picture
    targets: Picture
    samples: Picture
    loss: Picture
    memory: Picture
    timeline: Picture
    telemetry: tuple[Picture, ...]
    basis: str


def build_view(record: RunRecord) -> View:
    """Everything that the reports show of ``record``, sorted, scaled, rounded and in words."""
    all_tables = (
        tables.phase_table(record),
        tables.kind_table(record),
        module_table(record),
        tables.op_table(record),
        tables.kernel_table(record),
        tables.memory_table(record),
        *(() if record.generation else _of_training(record)),
        provenance.ceiling_table(record),
        provenance.skipped_table(record),
        provenance.environment_table(record),
        provenance.telemetry_table(record),
        *((build(record.ranks) for build in _RANK_TABLES) if record.ranks else ()),
        *((counter_table(record.counters),) if record.counters else ()),
    )
    return View(
        title=f"{record.model.name} on {record.device.name}",
        subtitle=_subtitle(record),
        created=record.created,
        version=record.hwprof_version,
        command=record.command,
        status=record.status,
        status_text=_status_text(record),
        missing=missing_parts(record),
        notes=record.notes,
        headline=build_headline(record),
        roofline=build_roofline(record),
        waterfall=step_figures.waterfall_picture(record),
        targets=step_figures.targets_picture(record),
        samples=figures.samples_picture(record),
        loss=figures.loss_picture(record),
        memory=figures.memory_picture(record),
        timeline=figures.timeline_picture(record),
        telemetry=figures.telemetry_pictures(record),
        basis=_basis(record),
        tables={table.name: table for table in all_tables},
    )


def _of_training(record: RunRecord) -> tuple[Table, ...]:
    return (
        tables.recommendation_table(record),
        *([tables.goodput_table(record.goodput)] if record.goodput else []),
        tables.layout_table(record),
        provenance.loss_table(record),
    )


def _subtitle(record: RunRecord) -> str:
    parameters = f"{format_count(record.work.parameters)} parameters" if record.work else ""
    parts = (
        parameters,
        *setting_words(record.settings),
        f"{record.world_size} ranks" if record.world_size > 1 else "",
    )
    return ", ".join(part for part in parts if part)


def _status_text(record: RunRecord) -> str:
    if record.status == "complete":
        return ""
    note = f" ({record.status_note.rstrip('.')})" if record.status_note else ""
    return f"This run is {STATUS_WORDS[record.status]}{note}."


def _basis(record: RunRecord) -> str:
    """What the prediction rests on, and the residual that it does not explain."""
    prediction = record.prediction
    if prediction is None:
        return ""
    return f"Basis of the prediction: {prediction.basis.rstrip('.')}. {prediction.residual_note}".strip()
