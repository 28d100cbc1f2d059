"""What does each rank hand in? Its place, its ceilings and its recording, for the rank that writes the report."""

from __future__ import annotations

from hwprof.specs.frozen import Record
from hwprof.specs.measurement import Ceiling, Skipped
from hwprof.specs.record.collective import CollectiveCurve, Meetings, Slowdown
from hwprof.specs.record.ranks import CollectiveCall, RankPlace
from hwprof.specs.record.run import Recording, Series


class RankRecord(Record):
    """One rank's part of a run; what it did not reach is None or empty."""

    place: RankPlace
    ceilings: tuple[Ceiling, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    links: tuple[CollectiveCurve, ...] = ()
    slowdowns: tuple[Slowdown, ...] = ()
    meetings: tuple[Meetings, ...] = ()
    recording: Recording | None = None
    calls: tuple[CollectiveCall, ...] = ()
    telemetry: tuple[Series, ...] = ()
