"""Who waits for whom, what of the communication is hidden, and how fast is it against the probe?

Ranks enter a collective one after another and leave it together: the time before the last one's entry is waiting, the
time after it is transfer. Clocks of different machines are aligned by the ends of their common collectives.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from hwprof.predict.ranks.lateness import MATTERS, STANDS_OUT
from hwprof.specs.job.parallel import ParallelLayout
from hwprof.specs.record.collective import CollectiveCurve, CollectiveName, bus_factor
from hwprof.specs.record.rank import RankRecord
from hwprof.specs.record.ranks import Axis, CollectiveCall, CollectiveResult, RankPlace, RankResult, RanksResult
from hwprof.units import format_fraction, format_seconds

_Kind = tuple[CollectiveName, Axis]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Meeting:
    """One collective of one group: when each of its ranks entered and left it, on one clock."""

    kind: _Kind
    size_bytes: float
    entered_s: Mapping[int, float]
    left_s: Mapping[int, float]

    @property
    def last_s(self) -> float:
        """When the last rank entered."""
        return max(self.entered_s.values())

    @property
    def skew_s(self) -> float:
        """Between the first and the last rank's entry."""
        return self.last_s - min(self.entered_s.values())

    @property
    def transfer_s(self) -> float:
        """From the last entry until all have left; never less than the shortest stay."""
        return max(self.left_s.values()) - self.last_s

    def wait_s(self, rank: int) -> float:
        """How long a rank waited for the last one, inside the collective."""
        return max(min(self.last_s, self.left_s[rank]) - self.entered_s[rank], 0.0)

    def late_s(self, rank: int) -> float:
        """How long all others waited for this rank; 0 where it was not the last."""
        others = [entered for other, entered in self.entered_s.items() if other != rank]
        return max(self.entered_s[rank] - max(others), 0.0)


def ranks_result(
    records: Sequence[RankRecord], *, layout: ParallelLayout, backend: str, world_size: int, steps: int
) -> RanksResult:
    """What the ranks did together.

    Args:
        records: of the ranks that handed in something.
        layout: of the run.
        backend: that carried the collectives.
        world_size: how many ranks there were.
        steps: of the profiled window.
    """
    meetings = _meetings(records, layout)
    results = tuple(_rank_result(record, meetings, steps) for record in records)
    links = records[0].links if records else ()
    collectives = _collective_results(records, meetings, links, layout=layout, steps=steps)
    present = {record.place.rank for record in records}
    straggler = _straggler(results)
    return RanksResult(
        backend=backend,
        ranks=results,
        missing=tuple(rank for rank in range(world_size) if rank not in present),
        collectives=collectives,
        links=links,
        slowdowns=records[0].slowdowns if records else (),
        meetings=records[0].meetings if records else (),
        skew_s=statistics.fmean(meeting.skew_s for meeting in meetings) if meetings else None,
        straggler=straggler,
        sentence=_sentence(results, straggler),
    )


def _group_of(place: RankPlace, axis: Axis, layout: ParallelLayout) -> tuple[int, ...] | None:
    """What the ranks of one group along an axis have in common; None where no group can be told."""
    degrees = (layout.pipeline_parallel, layout.data_parallel, layout.tensor_parallel)
    if axis == "all":  # a norm is added up over one axis after another
        return () if sum(degree > 1 for degree in degrees) == 1 else None
    coordinates = {"pipeline": place.stage, "data": place.data, "tensor": place.tensor}
    return tuple(value for name, value in coordinates.items() if name != axis)


def _meetings(records: Sequence[RankRecord], layout: ParallelLayout) -> list[_Meeting]:
    """Collectives that the same ranks entered, matched by their order; messages between two ranks are none."""
    groups: dict[tuple[_Kind, tuple[int, ...]], dict[int, list[CollectiveCall]]] = defaultdict(dict)
    for record in records:
        for call in sorted(record.calls, key=lambda call: call.start_s):
            group = _group_of(record.place, call.axis, layout)
            if group is not None and call.collective != "send_recv":
                kind: _Kind = (call.collective, call.axis)
                groups[kind, group].setdefault(record.place.rank, []).append(call)
    found: list[_Meeting] = []
    hosts = {record.place.rank: record.place.host for record in records}
    for (kind, _), of_rank in groups.items():
        if len(of_rank) > 1 and len({len(calls) for calls in of_rank.values()}) == 1:
            found += [
                _Meeting(
                    kind=kind,
                    size_bytes=calls[0].size_bytes,
                    entered_s={rank: call.start_s for rank, call in zip(of_rank, calls, strict=True)},
                    left_s={rank: call.end_s for rank, call in zip(of_rank, calls, strict=True)},
                )
                for calls in zip(*of_rank.values(), strict=True)
            ]
    return _on_one_clock(found, hosts)


def _on_one_clock(meetings: Sequence[_Meeting], hosts: Mapping[int, str]) -> list[_Meeting]:
    """The meetings with the clocks of other machines moved so that the ranks leave together in the middle case."""
    offsets_s: dict[tuple[str, str], list[float]] = defaultdict(list)
    for meeting in meetings:
        first = min(meeting.left_s)
        for rank, left_s in meeting.left_s.items():
            if hosts[rank] != hosts[first]:
                offsets_s[hosts[first], hosts[rank]].append(left_s - meeting.left_s[first])
    middle_s = {hosts_pair: statistics.median(values) for hosts_pair, values in offsets_s.items()}

    def moved(times_s: Mapping[int, float]) -> dict[int, float]:
        first = min(times_s)
        return {rank: time_s - middle_s.get((hosts[first], hosts[rank]), 0.0) for rank, time_s in times_s.items()}

    return [replace(meeting, entered_s=moved(meeting.entered_s), left_s=moved(meeting.left_s)) for meeting in meetings]


def _rank_result(record: RankRecord, meetings: Sequence[_Meeting], steps: int) -> RankResult:
    recording, rank = record.recording, record.place.rank
    own = [meeting for meeting in meetings if rank in meeting.entered_s]
    attribution = recording.attribution if recording else None
    samples = recording.step_samples_s if recording else ()
    return RankResult(
        place=record.place,
        step_s=statistics.median(samples) if samples else None,
        phases_s={name: statistics.median(each) for name, each in recording.phase_samples_s.items()}
        if recording
        else {},
        compute_s=attribution.compute_s if attribution else None,
        communication_s=attribution.communication_s if attribution else None,
        exposed_s=attribution.exposed_communication_s if attribution else None,
        hidden_s=attribution.communication_s - attribution.exposed_communication_s if attribution else None,
        idle_s=attribution.idle_host_s + attribution.idle_input_s if attribution else None,
        wait_s=sum(meeting.wait_s(rank) for meeting in own) / steps if own else None,
        last_fraction=statistics.fmean(meeting.late_s(rank) > 0 for meeting in own) if own else None,
        late_s=sum(meeting.late_s(rank) for meeting in own) / steps if own else None,
        memory_peak_bytes=recording.memory_peak_bytes if recording else None,
        counters={series.name: statistics.median(series.values) for series in record.telemetry if series.values},
    )


def _collective_results(
    records: Sequence[RankRecord],
    meetings: Sequence[_Meeting],
    links: Sequence[CollectiveCurve],
    *,
    layout: ParallelLayout,
    steps: int,
) -> tuple[CollectiveResult, ...]:
    calls: dict[_Kind, list[CollectiveCall]] = defaultdict(list)
    for record in records:
        for call in record.calls:
            calls[call.collective, call.axis].append(call)
    transfers: dict[_Kind, list[float]] = defaultdict(list)
    for meeting in meetings:
        transfers[meeting.kind].append(meeting.transfer_s)
    results = [
        _collective_result(kind, found, transfers[kind], links, layout=layout, shares=len(records) * steps)
        for kind, found in calls.items()
    ]
    return tuple(sorted(results, key=lambda result: -result.time_s))


def _collective_result(
    kind: _Kind,
    calls: Sequence[CollectiveCall],
    transfers_s: Sequence[float],
    links: Sequence[CollectiveCurve],
    *,
    layout: ParallelLayout,
    shares: int,
) -> CollectiveResult:
    """One row; ``shares`` is ranks times steps. The probe is asked at the middle size."""
    collective, axis = kind
    ranks = _degree(axis, layout)
    size_bytes = statistics.median(call.size_bytes for call in calls)
    largest = max(call.size_bytes for call in calls)
    durations_s = [call.end_s - call.start_s for call in calls]
    transfer_s = statistics.median(transfers_s) if transfers_s else None
    time_s, exposed_s = sum(durations_s) / shares, sum(call.exposed_s for call in calls) / shares
    factor = bus_factor(collective, ranks) if ranks > 1 else 1.0
    rate = size_bytes * factor / transfer_s if size_bytes and transfer_s and transfer_s > 0 else None
    curve = next((one for one in links if one.collective == collective and one.conditions.get("axis") == axis), None)
    probed = size_bytes * factor / curve.time_s(size_bytes) if curve and size_bytes else None
    return CollectiveResult(
        collective=collective,
        axis=axis,
        ranks=ranks,
        calls=len(calls) / shares,
        size_bytes=size_bytes,
        largest_bytes=largest,
        time_s=time_s,
        exposed_s=exposed_s,
        hidden_s=time_s - exposed_s,
        transfer_s=transfer_s,
        bus_byte_per_s=rate,
        probe_bus_byte_per_s=probed,
        probe_fraction=rate / probed if rate and probed else None,
    )


def _degree(axis: Axis, layout: ParallelLayout) -> int:
    degrees = {
        "data": layout.data_parallel,
        "tensor": layout.tensor_parallel,
        "pipeline": layout.pipeline_parallel,
    }
    return degrees.get(axis, layout.devices)


def _straggler(results: Sequence[RankResult]) -> int | None:
    """The rank that the others waited for most, where it stands out and matters."""
    late = sorted(((result.late_s or 0.0), result.place.rank) for result in results)
    if len(late) < 2:
        return None
    (second_s, _), (most_s, rank) = late[-2:]
    step_s = max((result.step_s or 0.0 for result in results), default=0.0)
    return rank if most_s >= STANDS_OUT * second_s and most_s >= MATTERS * step_s > 0 else None


def _sentence(results: Sequence[RankResult], straggler: int | None) -> str:
    measured = [result for result in results if result.communication_s is not None and result.step_s]
    if not measured:
        return ""
    step_s = max(result.step_s or 0.0 for result in measured)
    total_s, exposed_s, wait_s = (
        statistics.fmean(getattr(result, name) or 0.0 for result in measured)
        for name in ("communication_s", "exposed_s", "wait_s")
    )
    text = (
        f"Collectives take {format_seconds(total_s)} of a step of {format_seconds(step_s)}, "
        f"{format_seconds(exposed_s)} of it exposed; {format_seconds(wait_s)} is waiting for ranks that come later"
    )
    if straggler is None:
        return f"{text}, none of which stands out."
    late = next(result for result in results if result.place.rank == straggler)
    return (
        f"{text}. Rank {straggler} on {late.place.host} is the straggler: it enters "
        f"{format_fraction(late.last_fraction or 0)} of the collectives last and holds the others up for "
        f"{format_seconds(late.late_s or 0)} a step."
    )
