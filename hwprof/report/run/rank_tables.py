"""Which tables show several ranks? Each rank's step, its phases, the collectives against the probe, the links."""

from __future__ import annotations

from collections.abc import Callable

from hwprof.report.cells import Field, Table, build_sheet, build_table, quantity_text
from hwprof.specs.record.collective import CollectiveCurve
from hwprof.specs.record.ranks import CollectiveResult, RankResult
from hwprof.specs.record.run import RunRecord

_ALONE = "One process ran: there are no other ranks."


def _place(result: RankResult) -> str:
    place = result.place
    return f"data {place.data}, tensor {place.tensor}, stage {place.stage}"


_RANKS: tuple[Field[RankResult], ...] = (
    Field("rank", "Rank", lambda one: one.place.rank, "count"),
    Field("host", "Machine", lambda one: one.place.host),
    Field("device", "Device", lambda one: one.place.device),
    Field("place", "Place", _place, meaning="along the axes of the layout"),
    Field("step", "Step", lambda one: one.step_s, "s", meaning="median, profiler off"),
    Field("compute", "Compute", lambda one: one.compute_s, "s", meaning="profiled, per step"),
    Field("exposed", "Exposed communication", lambda one: one.exposed_s, "s", meaning="with no computation beside it"),
    Field("hidden", "Hidden communication", lambda one: one.hidden_s, "s", meaning="beside computation"),
    Field("idle", "Idle", lambda one: one.idle_s, "s", meaning="waiting for the host program or the next batch"),
    Field("wait", "Waits", lambda one: one.wait_s, "s", meaning="in collectives that other ranks had not entered yet"),
    Field("late", "Holds up", lambda one: one.late_s, "s", meaning="all others waited for this rank"),
    Field("last", "Last", lambda one: one.last_fraction, "fraction", meaning="share of collectives entered last"),
    Field("memory", "Peak memory", lambda one: one.memory_peak_bytes, "byte"),
)

_COLLECTIVES: tuple[Field[CollectiveResult], ...] = (
    Field("collective", "Collective", lambda one: one.collective, style="code"),
    Field("axis", "Axis", lambda one: one.axis, meaning="of the layout, along which ranks talk"),
    Field("ranks", "Ranks", lambda one: one.ranks, "count", meaning="in one group"),
    Field("calls", "Calls", lambda one: one.calls, "count", meaning="per step and rank"),
    Field("size", "Size", lambda one: one.size_bytes, "byte", meaning="of a call, median; as nccl-tests counts it"),
    Field("largest", "Largest", lambda one: one.largest_bytes, "byte", meaning="of a call"),
    Field("time", "Time", lambda one: one.time_s, "s", meaning="per step, waiting for late ranks included"),
    Field("exposed", "Exposed", lambda one: one.exposed_s, "s", meaning="with no computation beside it"),
    Field("hidden", "Hidden", lambda one: one.hidden_s, "s", meaning="beside computation"),
    Field("transfer", "Transfer", lambda one: one.transfer_s, "s", meaning="of a call, after the last rank entered"),
    Field("rate", "Bus bandwidth", lambda one: one.bus_byte_per_s, "byte_per_s", meaning="nccl-tests' busbw"),
    Field("probe", "Probe", lambda one: one.probe_bus_byte_per_s, "byte_per_s", meaning="busbw at this size, alone"),
    Field("fraction", "Of probe", lambda one: one.probe_fraction, "fraction"),
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
    Field("stable", "Stable", lambda one: "yes" if one.stable else "no"),
)


def rank_table(record: RunRecord) -> Table:
    """One row a rank."""
    ranks = record.ranks
    note = ranks.sentence if ranks else ""
    if ranks and ranks.missing:
        note = f"{note} Nothing came from rank {', '.join(map(str, ranks.missing))}.".strip()
    return build_table("ranks", "Ranks", _RANKS, ranks.ranks if ranks else (), note=note, empty=_ALONE)


def rank_phase_table(record: RunRecord) -> Table:
    """Phases of each rank: one row a rank, one column a phase."""
    results = record.ranks.ranks if record.ranks else ()
    names = dict.fromkeys(name for result in results for name in result.phases_s)
    rank: Field[RankResult] = Field("rank", "Rank", lambda one: one.place.rank, "count")
    fields = (rank, *(Field(name, name.replace("_", " "), _phase_s(name), "s") for name in names))
    empty = _ALONE if record.ranks is None else "No rank timed a phase."
    return build_table("rank_phases", "Phases by rank", fields, results if names else (), empty=empty)


def _phase_s(name: str) -> Callable[[RankResult], float | None]:
    return lambda result: result.phases_s.get(name)


def collective_table(record: RunRecord) -> Table:
    """Collectives of the step, most time first."""
    ranks = record.ranks
    skew = f"Ranks enter a collective {quantity_text(ranks.skew_s, 's')} apart, on average." if ranks else ""
    note = skew if ranks and ranks.skew_s is not None else ""
    items = ranks.collectives if ranks else ()
    empty = _ALONE if ranks is None else "The profiled window has no collective."
    return build_table("collectives", "Collectives", _COLLECTIVES, items, note=note if items else "", empty=empty)


def link_table(record: RunRecord) -> Table:
    """The links of the layout as they were probed before the run, and what overlap costs."""
    ranks = record.ranks
    note = " ".join(
        f"At the same time, computation takes {slow.work_factor:.2f} times as long, communication "
        f"{slow.beside_factor:.2f} times."
        for slow in (ranks.slowdowns if ranks else ())
    )
    met = " ".join(
        f"Work of {quantity_text(each.piece_s, 's')} takes {each.factor:.2f} times as long where all ranks then meet."
        for each in (ranks.meetings if ranks else ())
    )
    whole = " ".join(part for part in (note, met) if part)
    empty = _ALONE if ranks is None else "The links were not probed before this run."
    return build_table("links", "Links", _LINKS, ranks.links if ranks else (), note=whole, empty=empty)


_RANK_SHEET: tuple[Field[RankResult], ...] = (
    Field("rank", "Rank", lambda one: one.place.rank, "count"),
    Field("node", "Node", lambda one: one.place.node, "count"),
    Field("host", "Machine", lambda one: one.place.host),
    Field("data", "Data", lambda one: one.place.data, "count"),
    Field("tensor", "Tensor", lambda one: one.place.tensor, "count"),
    Field("stage", "Stage", lambda one: one.place.stage, "count"),
    Field("step_s", "Step", lambda one: one.step_s, "s"),
    Field("compute_s", "Compute", lambda one: one.compute_s, "s"),
    Field("communication_s", "Communication", lambda one: one.communication_s, "s"),
    Field("exposed_communication_s", "Exposed", lambda one: one.exposed_s, "s"),
    Field("hidden_communication_s", "Hidden", lambda one: one.hidden_s, "s"),
    Field("idle_s", "Idle", lambda one: one.idle_s, "s"),
    Field("wait_s", "Waits", lambda one: one.wait_s, "s"),
    Field("late_s", "Holds up", lambda one: one.late_s, "s"),
    Field("last_fraction", "Last", lambda one: one.last_fraction, "fraction"),
    Field("memory_peak_bytes", "Peak memory", lambda one: one.memory_peak_bytes, "byte"),
)

_COLLECTIVE_SHEET: tuple[Field[CollectiveResult], ...] = (
    Field("collective", "Collective", lambda one: one.collective),
    Field("axis", "Axis", lambda one: one.axis),
    Field("ranks", "Ranks", lambda one: one.ranks, "count"),
    Field("calls_per_step", "Calls", lambda one: one.calls, "count"),
    Field("size_bytes", "Size", lambda one: one.size_bytes, "byte"),
    Field("largest_bytes", "Largest", lambda one: one.largest_bytes, "byte"),
    Field("time_s", "Time", lambda one: one.time_s, "s"),
    Field("exposed_s", "Exposed", lambda one: one.exposed_s, "s"),
    Field("hidden_s", "Hidden", lambda one: one.hidden_s, "s"),
    Field("transfer_s", "Transfer", lambda one: one.transfer_s, "s"),
    Field("bus_byte_per_s", "Bus bandwidth", lambda one: one.bus_byte_per_s, "byte_per_s"),
    Field("probe_bus_byte_per_s", "Probe", lambda one: one.probe_bus_byte_per_s, "byte_per_s"),
    Field("probe_fraction", "Of probe", lambda one: one.probe_fraction, "fraction"),
)


def rank_sheets(record: RunRecord) -> dict[str, Table]:
    """File name -> its table; none where one process ran."""
    if record.ranks is None:
        return {}
    return {
        "ranks.csv": build_sheet("ranks", "Ranks", _RANK_SHEET, record.ranks.ranks),
        "collectives.csv": build_sheet("collectives", "Collectives", _COLLECTIVE_SHEET, record.ranks.collectives),
    }
