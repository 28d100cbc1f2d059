"""What did several ranks do together? Each rank's time, each collective against the probe, who waited for whom."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hwprof.specs.frozen import Record
from hwprof.specs.record.collective import CollectiveCurve, CollectiveName, Meetings, Slowdown

Axis = Literal["data", "tensor", "pipeline", "all"]
"""Along which axis of the layout ranks talk: ``all`` where a number goes over every axis, as the norm of a gradient."""


class RankPlace(Record):
    """Where a rank runs, and its place along each axis of the layout."""

    rank: int
    node: int
    host: str
    device: str
    stage: int
    data: int
    tensor: int


class CollectiveCall(Record):
    """One collective of the profiled window, as one rank saw it; times on the trace's clock.

    Attributes:
        size_bytes: as nccl-tests counts it; 0 where the trace does not say.
        exposed_s: the part of its time in which the device computed nothing.
        phase: of the step, in which it began.
    """

    collective: CollectiveName
    axis: Axis
    size_bytes: float
    start_s: float
    end_s: float
    exposed_s: float
    phase: str


class RankResult(Record):
    """One rank's step: median times with the profiler off, and where the time of the profiled window went.

    Attributes:
        phases_s: phase -> median seconds.
        communication_s: time in which a collective was under way, per step.
        exposed_s: the part of it in which the device did nothing else.
        hidden_s: the part beside which it computed.
        wait_s: time in collectives, per step, that other ranks had not yet entered.
        last_fraction: share of the collectives that this rank entered last.
        late_s: how long all others had been in a collective when this rank entered it, per step.
        counters: medians of this rank's device while it ran, by telemetry quantity.
    """

    place: RankPlace
    step_s: float | None = None
    phases_s: dict[str, float] = Field(default_factory=dict)
    compute_s: float | None = None
    communication_s: float | None = None
    exposed_s: float | None = None
    hidden_s: float | None = None
    idle_s: float | None = None
    wait_s: float | None = None
    last_fraction: float | None = None
    late_s: float | None = None
    memory_peak_bytes: float | None = None
    counters: dict[str, float] = Field(default_factory=dict)


class CollectiveResult(Record):
    """All calls of one collective along one axis, in a step, mean over ranks.

    Attributes:
        ranks: how many take part in one.
        calls: per step and rank.
        size_bytes: of a call, median.
        largest_bytes: of a call.
        time_s: in it per step, waiting for late ranks included.
        exposed_s: the part in which the device computed nothing.
        hidden_s: the rest.
        transfer_s: of a call, from the last rank's entry until all have left, median; None for messages of a pipeline,
            which may be there before they are asked for.
        bus_byte_per_s: bus bandwidth of that, as nccl-tests defines it.
        probe_bus_byte_per_s: what the probe reached at that size, alone; None where it was not probed.
        probe_fraction: the first over the second.
    """

    collective: CollectiveName
    axis: Axis
    ranks: int
    calls: float
    size_bytes: float
    largest_bytes: float
    time_s: float
    exposed_s: float
    hidden_s: float
    transfer_s: float | None
    bus_byte_per_s: float | None
    probe_bus_byte_per_s: float | None = None
    probe_fraction: float | None = None


class RanksResult(Record):
    """What several ranks did together.

    Attributes:
        missing: ranks that handed in nothing.
        links: collectives between the groups of the layout, probed before the run; ``conditions`` names the axis.
        slowdowns: what computation and communication cost each other.
        meetings: how much longer equal work takes where all ranks meet after each piece; measured on CPUs.
        skew_s: between the first and the last rank's entry into a collective, mean over calls.
        straggler: the rank that the others waited for most, where one stands out.
        sentence: the above in words.
    """

    backend: str
    ranks: tuple[RankResult, ...]
    missing: tuple[int, ...] = ()
    collectives: tuple[CollectiveResult, ...] = ()
    links: tuple[CollectiveCurve, ...] = ()
    slowdowns: tuple[Slowdown, ...] = ()
    meetings: tuple[Meetings, ...] = ()
    skew_s: float | None = None
    straggler: int | None = None
    sentence: str = ""
