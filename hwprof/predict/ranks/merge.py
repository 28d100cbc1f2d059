"""What did all ranks together measure? One recording of a mean rank, whose steps are those of the slowest."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, TypeVar

from hwprof.specs.measurement import Ceiling, Skipped
from hwprof.specs.record.rank import RankRecord
from hwprof.specs.record.run import Attribution, KernelTime, OpTime, PhaseName, Recording
from hwprof.units import format_fraction

UNEQUAL_DEVICES = 0.1
"""Above this difference between the ranks' ceilings the devices are called unequal."""

Item = TypeVar("Item", OpTime, KernelTime)


def merged_recording(records: Sequence[RankRecord]) -> Recording | None:
    """The ranks' recordings as one; None where no rank timed a step.

    A step is over when the slowest rank is through: its time is the longest of all ranks. Phases, operations and the
    attribution are means over all ranks, where a rank without one counts as zero, so that they add up. Memory is that
    of the fullest rank, losses those of the ranks that have the head.
    """
    recordings = [record.recording for record in records if record.recording is not None]
    recordings = [recording for recording in recordings if recording.step_samples_s]
    if not recordings:
        return None
    count = min(len(recording.step_samples_s) for recording in recordings)
    fullest = max(recordings, key=lambda recording: recording.memory_peak_bytes or 0.0)
    waited = [recording.waited_fraction for recording in recordings if recording.waited_fraction is not None]
    return Recording(
        step_samples_s=_longest(recording.step_samples_s[:count] for recording in recordings),
        bare_step_samples_s=_longest(recording.bare_step_samples_s[:count] for recording in recordings),
        profiled_step_samples_s=_longest(recording.profiled_step_samples_s for recording in recordings),
        phase_samples_s=_mean_phases(recordings, count),
        waited_fraction=max(waited, default=None),
        counters=_mean_counters(recordings),
        marking_s=_mean_known(recording.marking_s for recording in recordings),
        profiling_s=_mean_known(recording.profiling_s for recording in recordings),
        losses=_mean_losses(recordings),
        eval_loss=_mean_known(recording.eval_loss for recording in recordings),
        ops=_mean_items(OpTime, [r.ops for r in recordings], lambda op: (op.label, op.direction, op.phase)),
        kernels=_mean_items(
            KernelTime, [r.kernels for r in recordings], lambda one: (one.name, one.label, one.direction, one.phase)
        ),
        attribution=_mean_attribution([r.attribution for r in recordings if r.attribution is not None]),
        memory_timeline=fullest.memory_timeline,
        memory_peak_bytes=fullest.memory_peak_bytes,
        memory_reserved_bytes=fullest.memory_reserved_bytes,
        memory_outside_bytes=fullest.memory_outside_bytes,
        memory_peak_source=f"{fullest.memory_peak_source}; of the fullest rank",
        notes=_notes(records),
    )


def _mean_counters(recordings: Sequence[Recording]) -> dict[str, float]:
    """Of each quantity the mean of the ranks that have it."""
    names = dict.fromkeys(name for recording in recordings for name in recording.counters)
    return {
        name: statistics.mean(recording.counters[name] for recording in recordings if name in recording.counters)
        for name in names
    }


def _longest(samples: Iterable[tuple[float, ...]]) -> tuple[float, ...]:
    """Sample by sample the longest of all ranks."""
    return tuple(max(each) for each in zip(*samples, strict=False))


def _mean_phases(recordings: Sequence[Recording], count: int) -> dict[PhaseName, tuple[float, ...]]:
    names = dict.fromkeys(name for recording in recordings for name in recording.phase_samples_s)
    phases: dict[PhaseName, tuple[float, ...]] = {}
    for name in names:
        samples = [recording.phase_samples_s.get(name, ()) for recording in recordings]
        length = min(count, max(len(one) for one in samples))
        padded = [(*one, *(0.0,) * length)[:length] for one in samples]
        phases[name] = tuple(statistics.fmean(each) for each in zip(*padded, strict=True))
    return phases


def _mean_losses(recordings: Sequence[Recording]) -> tuple[float, ...]:
    steps = zip(*(recording.losses for recording in recordings), strict=False)
    means = (_mean_known(step) for step in steps)
    return tuple(math.nan if mean is None else mean for mean in means)


def _mean_known(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None and not math.isnan(value)]
    return statistics.fmean(known) if known else None


def _mean_items(kind: type[Item], items: Sequence[Sequence[Item]], key: Callable[[Item], Hashable]) -> tuple[Item, ...]:
    groups: dict[Hashable, list[Item]] = defaultdict(list)
    for of_rank in items:
        for item in of_rank:
            groups[key(item)].append(item)
    means = [
        group[0].changed(
            time_s=sum(item.time_s for item in group) / len(items),
            calls=sum(item.calls for item in group) / len(items),
        )
        for group in groups.values()
    ]
    assert all(isinstance(mean, kind) for mean in means)
    return tuple(sorted(means, key=lambda item: -item.time_s))


def _mean_attribution(attributions: Sequence[Attribution]) -> Attribution | None:
    if not attributions:
        return None
    fields: dict[str, Any] = {
        name: statistics.fmean(getattr(one, name) for one in attributions)
        for name in Attribution.model_fields
        if name != "note"
    }
    return Attribution(**fields, note=f"{attributions[0].note}; mean of {len(attributions)} ranks")


def _notes(records: Sequence[RankRecord]) -> tuple[str, ...]:
    """Every note once, with the ranks that have it where not all do."""
    ranks: dict[str, list[int]] = defaultdict(list)
    for record in records:
        for note in record.recording.notes if record.recording else ():
            ranks[note].append(record.place.rank)
    return tuple(
        note if len(having) == len(records) else f"rank {', '.join(map(str, having))}: {note}"
        for note, having in ranks.items()
    )


def merged_ceilings(records: Sequence[RankRecord]) -> tuple[Ceiling, ...]:
    """Each ceiling as the middle rank measured it, with the lowest and highest of all ranks beside it."""
    found: dict[str, list[Ceiling]] = defaultdict(list)
    for record in records:
        for ceiling in record.ceilings:
            found[ceiling.name].append(ceiling)
    return tuple(_middle(ceilings) for ceilings in found.values())


def _middle(ceilings: Sequence[Ceiling]) -> Ceiling:
    ordered = sorted(ceilings, key=lambda ceiling: ceiling.value)
    chosen = ordered[(len(ordered) - 1) // 2]
    spread = {"ranks": len(ordered), "lowest_rank": ordered[0].value, "highest_rank": ordered[-1].value}
    return chosen.changed(
        conditions=chosen.conditions | spread,
        source=f"{chosen.source}; all {len(ordered)} ranks at once, the middle one",
        stable=all(ceiling.stable for ceiling in ordered),
    )


def merged_skipped(records: Sequence[RankRecord]) -> tuple[Skipped, ...]:
    """What could not be measured on some rank, each once."""
    return tuple({(skip.name, skip.reason): skip for record in records for skip in record.skipped}.values())


def unequal_devices(records: Sequence[RankRecord]) -> tuple[str, ...]:
    """A warning for the rank whose matrix products are slowest, where it stands out."""
    rates = {
        record.place.rank: max((c.value for c in record.ceilings if c.kind == "compute"), default=0.0)
        for record in records
    }
    if len(rates) < 2 or not min(rates.values()):
        return ()
    slowest, middle = min(rates, key=lambda rank: rates[rank]), statistics.median(rates.values())
    if rates[slowest] >= (1 - UNEQUAL_DEVICES) * middle:
        return ()
    note = (
        f"rank {slowest} multiplies matrices at {format_fraction(rates[slowest] / middle)} of the middle rank's rate: "
        "all others will wait for it; look for other work on its device, or for a lower clock"
    )
    return (note,)
