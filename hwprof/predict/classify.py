"""Which roof binds each operation, layer kind, phase and the step, how surely, and how much time is lost to it?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from hwprof.predict.ceilings.roofs import MemoryRoof, Roofs
from hwprof.predict.work import Work, by_measured_label
from hwprof.specs.record.run import (
    Attribution,
    BoundClass,
    Confidence,
    KindResult,
    LayerKind,
    OpResult,
    OpTime,
    PhaseName,
    Verdict,
)
from hwprof.units import format_fraction, format_seconds

FAR_FROM_ROOF = 0.15
"""Below this share of its nearest roof an operation is bound by something that no roof explains: ``unknown``."""

NEAR_ROOF = 0.5
"""Below this share of its roof a better kernel helps more than a higher roof; the advice says so."""

ABOVE_ROOF = 1.05
"""Above this share of its roof the ceiling itself is in error."""

_CONTRADICTED = 0.5
"""Where operations of more than this share of the step are so, classes say nothing."""

Advice = Callable[[LayerKind, BoundClass], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """The least times of some work under each roof, per step."""

    compute_s: float
    memory_s: float
    latency_s: float
    memory_name: str

    @property
    def roof_s(self) -> float:
        """The least possible time: compute and traffic perfectly overlapped, launches free."""
        return max(self.compute_s, self.memory_s)

    def ranked(self) -> list[tuple[float, BoundClass]]:
        """(seconds, class) of the three floors, the binding one first."""
        floors: list[tuple[float, BoundClass]] = [
            (self.compute_s, "compute"),
            (self.memory_s, "memory"),
            (self.latency_s, "latency"),
        ]
        return sorted(floors, key=lambda floor: -floor[0])


def floor_of(work: Iterable[Work], roofs: Roofs, *, launches: float) -> Floor:
    """The floors of several ops under the roofs.

    Each op's traffic is held against the fastest memory level that could hold what it touches, so that the floor is a
    true lower bound; ``launches`` kernels take at least one dispatch each.
    """
    compute_s = memory_s = 0.0
    names: dict[str, float] = defaultdict(float)
    for item in work:
        if roofs.matmul_flop_per_s:
            compute_s += item.total.matmul_flop / roofs.matmul_flop_per_s
        roof, traffic_s = _traffic(item, roofs)
        if roof is not None:
            memory_s += traffic_s
            names[roof.name] += traffic_s
    name = max(names, key=lambda key: names[key]) if names else ""
    return Floor(compute_s=compute_s, memory_s=memory_s, latency_s=launches * roofs.dispatch_s, memory_name=name)


def _traffic(item: Work, roofs: Roofs) -> tuple[MemoryRoof | None, float]:
    """The level that binds an op's traffic, and its least time: all of it nearby, or its first touch from beyond."""
    near = roofs.memory_for(item.working_set_bytes)
    far = roofs.memory_for(item.swept_bytes)
    if near is None or far is None:
        return None, 0.0
    near_s = item.total.moved_bytes / near.byte_per_s
    far_s = item.compulsory_bytes * item.instances / far.byte_per_s
    return (near, near_s) if near_s >= far_s else (far, far_s)


def classify_ops(
    times: Sequence[OpTime], work: Sequence[Work], roofs: Roofs, *, step_s: float, advice: Advice
) -> tuple[OpResult, ...]:
    """Every measured operation under its roofs, the largest loss first.

    Args:
        times: profiled time by label and direction.
        work: counted ops of the same step.
        roofs: the roofs of the run's dtype.
        step_s: the profiled step time, for the shares.
        advice: the one-line remedy for a layer kind bound by a class.
    """
    owned = by_measured_label(work, {(time.label, time.direction) for time in times})
    results = [
        _place(time, owned.get((time.label, time.direction), []), roofs, step_s=step_s, advice=advice)
        for time in times
        if time.layer_kind != "data"
    ]
    return tuple(sorted(results, key=lambda op: -op.lost_s))


def _place(time: OpTime, work: Sequence[Work], roofs: Roofs, *, step_s: float, advice: Advice) -> OpResult:
    floor = _within(floor_of(work, roofs, launches=time.calls), time.time_s)
    matmul_flop = sum(item.total.matmul_flop for item in work)
    vector_flop = sum(item.total.vector_flop for item in work)
    read_bytes = sum(item.total.read_bytes for item in work)
    write_bytes = sum(item.total.write_bytes for item in work)
    moved_bytes = read_bytes + write_bytes
    placed = placement(floor, time.time_s, roofs, counted=bool(work))
    flop = matmul_flop + vector_flop
    return OpResult(
        **time.model_dump(),
        share=time.time_s / step_s,
        matmul_flop=matmul_flop,
        vector_flop=vector_flop,
        read_bytes=read_bytes,
        write_bytes=write_bytes,
        intensity_flop_per_byte=flop / moved_bytes if moved_bytes else None,
        flop_per_s=flop / time.time_s if time.time_s else 0.0,
        byte_per_s=moved_bytes / time.time_s if time.time_s else 0.0,
        roof_name=placed.roof_name,
        roof_s=floor.roof_s,
        roof_fraction=placed.fraction,
        bound="communication" if time.layer_kind == "communication" else placed.bound,  # what packs buffers for it
        margin=placed.margin,
        confidence=placed.confidence,
        lost_s=max(time.time_s - floor.roof_s, 0.0) if work and roofs.known else 0.0,
        advice=_advice(time, placed.bound, placed.fraction, advice) if roofs.known else "",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where a measured time stands under its floors.

    Attributes:
        bound: the binding floor's class; ``unknown`` where the time is far above every floor.
        margin: 1 - next floor / binding floor; None where nothing was counted.
        fraction: binding floor / time; None as above.
        roof_name: of the nearest roof.
        confidence: in the class.
    """

    bound: BoundClass
    margin: float | None
    fraction: float | None
    roof_name: str
    confidence: Confidence


def placement(floor: Floor, time_s: float, roofs: Roofs, *, counted: bool) -> Placement:
    """The class of one measured time; ``counted`` says whether its work is known at all."""
    bound, margin, fraction = _bound(floor, time_s, counted=counted)
    return Placement(
        bound=bound,
        margin=margin,
        fraction=fraction,
        roof_name=_roof_name(floor, bound, roofs),
        confidence=_confidence(fraction, margin),
    )


def _advice(time: OpTime, bound: BoundClass, fraction: float | None, advice: Advice) -> str:
    return _remark(fraction) or advice(time.layer_kind, bound if (fraction or 0) >= NEAR_ROOF else "unknown")


def _within(floor: Floor, time_s: float) -> Floor:
    """Dispatch was timed with gaps that a kernel's own time does not have: never more than was measured."""
    return replace(floor, latency_s=min(floor.latency_s, time_s))


def _bound(floor: Floor, time_s: float, *, counted: bool) -> tuple[BoundClass, float | None, float | None]:
    """Bound class, margin over the next floor, and share of the binding floor in the measured time."""
    (first_s, first), (second_s, _), _ = floor.ranked()
    if not counted or first_s <= 0 or time_s <= 0:
        return "unknown", None, None
    fraction = first_s / time_s
    margin = 1 - second_s / first_s
    return (first if fraction >= FAR_FROM_ROOF else "unknown"), margin, fraction


def _roof_name(floor: Floor, bound: BoundClass, roofs: Roofs) -> str:
    nearest = floor.ranked()[0][1] if bound == "unknown" else bound
    return {"compute": roofs.matmul_name, "memory": floor.memory_name, "latency": "latency"}.get(nearest, "")


def _confidence(fraction: float | None, margin: float | None) -> Confidence:
    """High where the time is near its roof and the next roof is far, low where either is not so."""
    if fraction is None or margin is None or fraction < 0.3 or margin < 0.05 or fraction > ABOVE_ROOF:
        return "low"
    return "high" if fraction >= 0.6 and margin >= 0.2 else "medium"


def _remark(fraction: float | None) -> str:
    if fraction is not None and fraction > ABOVE_ROOF:
        return f"at {format_fraction(fraction)} of its roof: the ceiling or the byte count is in error; probe again"
    return ""


def classify_kinds(ops: Sequence[OpResult], *, step_s: float) -> tuple[KindResult, ...]:
    """The operations of each layer kind together, the longest first."""
    groups: dict[LayerKind, list[OpResult]] = defaultdict(list)
    for op in ops:
        groups[op.layer_kind].append(op)
    kinds = [
        KindResult(
            layer_kind=kind,
            time_s=sum(op.time_s for op in group),
            share=sum(op.time_s for op in group) / step_s,
            roof_s=sum(op.roof_s for op in group),
            lost_s=sum(op.lost_s for op in group),
            bound=dominant(class_times(group)),
        )
        for kind, group in groups.items()
    ]
    return tuple(sorted(kinds, key=lambda kind: -kind.time_s))


def class_times(ops: Iterable[OpResult]) -> dict[BoundClass, float]:
    """Seconds of the step by bound class of its operations."""
    times_s: dict[BoundClass, float] = defaultdict(float)
    for op in ops:
        times_s[op.bound] += op.time_s
    return dict(times_s)


def dominant(times_s: Mapping[BoundClass, float]) -> BoundClass:
    """The class with the most time; ``unknown`` where there is none."""
    return max(times_s, key=lambda bound: times_s[bound]) if times_s else "unknown"


_FIXED_PHASE_BOUNDS: dict[PhaseName, BoundClass] = {
    "data": "host",
    "host_to_device": "transfer",
    "pipeline": "communication",
    "checkpoint": "transfer",
}


def phase_bounds(ops: Sequence[OpResult], phases: Iterable[PhaseName]) -> dict[PhaseName, BoundClass]:
    """The class that holds most of each phase's operator time."""
    return {
        phase: _FIXED_PHASE_BOUNDS.get(phase) or dominant(class_times(op for op in ops if op.phase == phase))
        for phase in phases
    }


def step_shares(ops: Sequence[OpResult], attribution: Attribution) -> dict[BoundClass, float]:
    """Shares of the profiled step by bound class; they add up to 1.

    Operators' time is scaled to the compute time of the attribution (GPU kernels may overlap); idle is ``host``,
    exposed copies ``transfer``, exposed collectives ``communication``, the residue ``unknown``.
    """
    times_s = defaultdict(float, class_times(ops))
    total_s = sum(times_s.values())
    scale = attribution.compute_s / total_s if total_s else 0.0
    shares: dict[BoundClass, float] = defaultdict(float)
    for bound, time_s in times_s.items():
        shares[bound] += time_s * scale
    if not total_s:
        shares["unknown"] += attribution.compute_s
    shares["host"] += attribution.idle_host_s + attribution.idle_input_s
    shares["transfer"] += attribution.exposed_copy_s
    shares["communication"] += attribution.exposed_communication_s
    shares["unknown"] += attribution.residue_s
    return {bound: time_s / attribution.step_s for bound, time_s in shares.items() if time_s > 0}


_CLASS_WORDS: dict[BoundClass, str] = {
    "compute": "compute-bound",
    "memory": "memory-bound",
    "communication": "communication-bound",
    "transfer": "transfer-bound",
    "host": "host-bound",
    "latency": "latency-bound",
    "unknown": "not bound by any measured roof",
}

_CLASS_MEANS: dict[BoundClass, str] = {
    "compute": "spent in matrix multiplication at the arithmetic roof",
    "memory": "spent moving bytes at the memory roof",
    "communication": "spent waiting for collectives",
    "transfer": "spent copying between host and device",
    "host": "idle, waiting for the host program or the next batch",
    "latency": "spent in operations too small to reach any roof",
    "unknown": "spent far below every roof, in kernels slower than the machine",
}


_RISING: tuple[Confidence, ...] = ("low", "medium", "high")


def verdict(ops: Sequence[OpResult], attribution: Attribution, *, at_most: Confidence = "high") -> Verdict:
    """What holds the step back, in a sentence and in shares.

    Args:
        ops: operations under their roofs, the largest loss first.
        attribution: where the profiled step's time went.
        at_most: the most confidence that the measurement allows.
    """
    shares = step_shares(ops, attribution)
    ranked = sorted(shares, key=lambda key: -shares[key])
    bound = ranked[0]
    lead = shares[bound] - (shares[ranked[1]] if len(ranked) > 1 else 0.0)
    above = sum(op.share for op in ops if op.roof_fraction is not None and op.roof_fraction > ABOVE_ROOF)
    if above > _CONTRADICTED:
        return Verdict(
            sentence=_contradicted(bound, above),
            bound="unknown",
            confidence="low",
            shares=shares,
            lost_s=sum(op.lost_s for op in ops),
        )
    return Verdict(
        sentence=_sentence(bound, shares, ops),
        bound=bound,
        confidence=min("high" if lead >= 0.3 else "medium" if lead >= 0.1 else "low", at_most, key=_RISING.index),
        shares=shares,
        lost_s=sum(op.lost_s for op in ops),
    )


def _contradicted(bound: BoundClass, above: float) -> str:
    return (
        f"No verdict: {format_fraction(above)} of the step ran faster than its roofs, so the ceilings are too low, as "
        f"where other programs ran beside the probes; by them it would be {_CLASS_WORDS[bound]}. Run again on an idle "
        "machine."
    )


def _sentence(bound: BoundClass, shares: Mapping[BoundClass, float], ops: Sequence[OpResult]) -> str:
    if bound == "unknown" and not any(op.roof_s for op in ops):
        return f"No roof is known here: {format_fraction(shares[bound])} of the step is held against nothing."
    head = f"The step is {_CLASS_WORDS[bound]}: {format_fraction(shares[bound])} of it is {_CLASS_MEANS[bound]}"
    if not ops or ops[0].lost_s <= 0:
        return head + "."
    worst = ops[0]
    return (
        f"{head}; the largest loss is {worst.label} {worst.direction}, {format_seconds(worst.lost_s)} above its roof."
    )
