"""Which tables show several ranks? Each rank's step, its phases, the collectives against the probe, the links."""

from __future__ import annotations

from collections.abc import Callable

from hwprof.report.cells import Field, Table, build_sheet, build_table, chosen, yes
from hwprof.specs.record.collective import CollectiveCurve
from hwprof.specs.record.ranks import CollectiveResult, RankResult, RanksResult
from hwprof.units import format_seconds, number


def _place(result: RankResult) -> str:
    place = result.place
    return f"data {place.data}, tensor {place.tensor}, stage {place.stage}"


_RANKS: tuple[Field[RankResult], ...] = (
    Field("rank", "Rank", lambda one: one.place.rank, "count"),
    Field("node", "Node", lambda one: one.place.node, "count"),
    Field("host", "Machine", lambda one: one.place.host),
    Field("device", "Device", lambda one: one.place.device),
    Field("place", "Place", _place, meaning="along the axes of the layout"),
    Field("data", "Data", lambda one: one.place.data, "count"),
    Field("tensor", "Tensor", lambda one: one.place.tensor, "count"),
    Field("stage", "Stage", lambda one: one.place.stage, "count"),
    Field("step_s", "Step", lambda one: one.step_s, "s", meaning="median, profiler off"),
    Field("compute_s", "Compute", lambda one: one.compute_s, "s", meaning="profiled, per step"),
    Field("communication_s", "Communication", lambda one: one.communication_s, "s"),
    Field(
        "exposed_communication_s",
        "Exposed communication",
        lambda one: one.exposed_s,
        "s",
        meaning="with no computation beside it",
    ),
    Field(
        "hidden_communication_s", "Hidden communication", lambda one: one.hidden_s, "s", meaning="beside computation"
    ),
    Field("idle_s", "Idle", lambda one: one.idle_s, "s", meaning="waiting for the host program or the next batch"),
    Field(
        "wait_s", "Waits", lambda one: one.wait_s, "s", meaning="in collectives that other ranks had not entered yet"
    ),
    Field("late_s", "Holds up", lambda one: one.late_s, "s", meaning="all others waited for this rank"),
    Field(
        "last_fraction", "Last", lambda one: one.last_fraction, "fraction", meaning="share of collectives entered last"
    ),
    Field("memory_peak_bytes", "Peak memory", lambda one: one.memory_peak_bytes, "byte"),
)
_IN_FILES_ONLY = {"node", "data", "tensor", "stage", "communication_s"}
_ON_PAGES_ONLY = {"device", "place"}

_COLLECTIVES: tuple[Field[CollectiveResult], ...] = (
    Field("collective", "Collective", lambda one: one.collective, style="code"),
    Field("axis", "Axis", lambda one: one.axis, meaning="of the layout, along which ranks talk"),
    Field("ranks", "Ranks", lambda one: one.ranks, "count", meaning="in one group"),
    Field("calls_per_step", "Calls", lambda one: one.calls, "count", meaning="per step and rank"),
    Field(
        "size_bytes", "Size", lambda one: one.size_bytes, "byte", meaning="of a call, median; as nccl-tests counts it"
    ),
    Field("largest_bytes", "Largest", lambda one: one.largest_bytes, "byte", meaning="of a call"),
    Field("time_s", "Time", lambda one: one.time_s, "s", meaning="per step, waiting for late ranks included"),
    Field("exposed_s", "Exposed", lambda one: one.exposed_s, "s", meaning="with no computation beside it"),
    Field("hidden_s", "Hidden", lambda one: one.hidden_s, "s", meaning="beside computation"),
    Field("transfer_s", "Transfer", lambda one: one.transfer_s, "s", meaning="of a call, after the last rank entered"),
    Field("bus_byte_per_s", "Bus bandwidth", lambda one: one.bus_byte_per_s, "byte_per_s", meaning="nccl-tests' busbw"),
    Field(
        "probe_bus_byte_per_s",
        "Probe",
        lambda one: one.probe_bus_byte_per_s,
        "byte_per_s",
        meaning="busbw at this size, alone",
    ),
    Field("probe_fraction", "Of probe", lambda one: one.probe_fraction, "fraction"),
)

_LINKS: tuple[Field[CollectiveCurve], ...] = (
    Field("collective", "Collective", lambda one: one.collective, style="code"),
    Field("axis", "Axis", lambda one: str(one.conditions.get("axis", one.scope))),
    Field("ranks", "Ranks", lambda one: one.ranks, "count"),
    Field("backend", "Backend", lambda one: one.backend),
    Field(
        "latency", "Alpha", lambda one: one.fit.latency_s if one.fit else None, "s", meaning="time of an empty vector"
    ),
    Field("rate", "1 / beta", lambda one: one.fit.byte_per_s if one.fit else None, "byte_per_s", meaning="algbw"),
    Field("best", "Best busbw", lambda one: one.best_bus_byte_per_s, "byte_per_s"),
    Field("error", "Typical error", lambda one: one.fit.typical_error if one.fit else None, "fraction"),
    Field("worst", "Worst error", lambda one: one.fit.worst_error if one.fit else None, "fraction"),
    Field("stable", "Stable", lambda one: yes(answer=one.stable)),
)


def rank_table(ranks: RanksResult) -> Table:
    """One row a rank."""
    note = ranks.sentence
    if ranks.missing:
        note = f"{note} Nothing came from rank {', '.join(map(str, ranks.missing))}.".strip()
    fields = [field for field in _RANKS if field.name not in _IN_FILES_ONLY]
    return build_table("ranks", "Ranks", fields, ranks.ranks, note=note)


def rank_phase_table(ranks: RanksResult) -> Table:
    """Phases of each rank: one row a rank, one column a phase."""
    names = dict.fromkeys(name for one in ranks.ranks for name in one.phases_s)
    fields = (*chosen(_RANKS, "rank"), *(Field(name, name.replace("_", " "), _phase_s(name), "s") for name in names))
    items = ranks.ranks if names else ()
    return build_table("rank_phases", "Phases by rank", fields, items, empty="No rank timed a phase.")


def _phase_s(name: str) -> Callable[[RankResult], float | None]:
    return lambda one: one.phases_s.get(name)


def collective_table(ranks: RanksResult) -> Table:
    """Collectives of the step, most time first."""
    known = ranks.collectives and ranks.skew_s is not None
    note = f"Ranks enter a collective {format_seconds(ranks.skew_s)} apart, on average." if known else ""
    empty = "The profiled window has no collective."
    return build_table("collectives", "Collectives", _COLLECTIVES, ranks.collectives, note=note, empty=empty)


def link_table(ranks: RanksResult) -> Table:
    """The links of the layout as they were probed before the run, and what overlap costs."""
    notes = [
        f"At the same time, computation takes {number(slow.work_factor)} times as long, communication "
        f"{number(slow.beside_factor)} times."
        for slow in ranks.slowdowns
    ]
    notes += [
        f"Work of {format_seconds(each.piece_s)} takes {number(each.factor)} times as long where all ranks then meet."
        for each in ranks.meetings
    ]
    empty = "The links were not probed before this run."
    return build_table("links", "Links", _LINKS, ranks.links, note=" ".join(notes), empty=empty)


def rank_sheets(ranks: RanksResult) -> tuple[Table, ...]:
    """The tables behind ``ranks.csv`` and ``collectives.csv``."""
    fields = [field for field in _RANKS if field.name not in _ON_PAGES_ONLY]
    return (
        build_sheet("ranks", "Ranks", fields, ranks.ranks),
        build_sheet("collectives", "Collectives", _COLLECTIVES, ranks.collectives),
    )
