"""What of a run or of traces can be compared? Both become samples of the step, and times by level and name."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from hwprof.specs.record.diff import DiffLevel
from hwprof.specs.record.run import RunRecord
from hwprof.specs.record.trace import TraceDevice

Key = tuple[DiffLevel, str]


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that takes time: seconds a step, calls a step where that is known, samples where there are some."""

    time_s: float
    calls: float | None = None
    samples_s: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of the two things to compare."""

    name: str
    kind: Literal["run", "trace"]
    step_samples_s: tuple[float, ...]
    step_median_s: float
    items: Mapping[Key, Item]
    settings: Mapping[str, str]
    environment: Mapping[str, str]
    tokens_per_s: float | None
    peak_memory_bytes: float | None
    notes: tuple[str, ...]
    ranks: Mapping[int, tuple[float, ...]] = field(default_factory=dict)
    """Times of the steps of each rank; of a run, which hands in one set of samples, empty."""


def side_of_run(name: str, record: RunRecord) -> Side | None:
    """What a run offers; None where it has not got as far as a step time."""
    if record.step is None:
        return None
    settings = record.settings.model_dump()
    return Side(
        name=name,
        kind="run",
        step_samples_s=record.step.samples_s,
        step_median_s=record.step.median_s,
        items=dict(_run_items(record)),
        settings={key: str(value) for key, value in settings.items()} | {"world_size": str(record.world_size)},
        environment={"device": record.device.name, **record.environment},
        tokens_per_s=record.step.tokens_per_s,
        peak_memory_bytes=record.memory.measured_peak_bytes if record.memory else None,
        notes=() if record.step.stable else (f"the step time of {name} was not stable while it ran",),
    )


def _run_items(record: RunRecord) -> Iterator[tuple[Key, Item]]:
    for phase in record.phases:
        if phase.in_step:
            yield ("phase", phase.name), Item(phase.median_s, samples_s=phase.samples_s)
    if record.attribution is not None:
        parts = record.attribution
        for name in ("compute", "exposed_communication", "exposed_copy", "idle_host", "idle_input"):
            yield ("part", name.replace("_", " ")), Item(getattr(parts, f"{name}_s"))
    for op in record.ops:
        yield ("operation", f"{op.label} {op.direction}"), Item(op.time_s, op.calls)
    kernels: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for kernel in record.kernels:
        kernels[kernel.name].append((kernel.time_s, kernel.calls))
    for kernel_name, each in kernels.items():
        yield ("kernel", kernel_name), Item(sum(time_s for time_s, _ in each), sum(calls for _, calls in each))


def side_of_traces(name: str, devices: Sequence[TraceDevice]) -> Side:
    """What the traces of one program offer; times are means over ranks."""
    samples = tuple(step.duration_s for device in devices for step in device.steps)
    per_rank = [dict(_device_items(device)) for device in devices]
    keys = dict.fromkeys(key for items in per_rank for key in items)
    return Side(
        name=name,
        kind="trace",
        step_samples_s=samples,
        step_median_s=statistics.median(device.step_median_s for device in devices),
        items={key: _mean([items[key] for items in per_rank if key in items], len(per_rank)) for key in keys},
        settings={"ranks": str(len(devices)), "world_size": str(devices[0].world_size)},
        environment={"device": devices[0].device},
        tokens_per_s=None,
        peak_memory_bytes=max(
            (each.peak_allocated_bytes for device in devices for each in device.memory), default=None
        ),
        ranks=_by_rank(devices),
        notes=tuple(f"{device.file} is damaged: only a part is compared" for device in devices if device.broken),
    )


def _by_rank(devices: Sequence[TraceDevice]) -> dict[int, tuple[float, ...]]:
    """Step times by rank; where several devices have the same rank, by their place."""
    ranks = [device.rank for device in devices]
    names = ranks if len(set(ranks)) == len(ranks) else range(len(ranks))
    return {rank: tuple(step.duration_s for step in device.steps) for rank, device in zip(names, devices, strict=True)}


def _device_items(device: TraceDevice) -> Iterator[tuple[Key, Item]]:
    steps = device.steps
    for name in ("compute", "exposed_communication", "exposed_copy", "idle"):
        each = tuple(getattr(step, f"{name}_s") for step in steps)
        yield ("part", name.replace("_", " ")), Item(statistics.fmean(each), samples_s=each)
    totals: dict[Key, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for module in device.modules:
        totals["module", f"{module.module or '(none)'} {module.direction}"][0] += module.time_s
    for op in device.ops:
        total = totals["operation", " ".join(filter(None, (op.module, op.op, op.direction, f"[{op.shapes}]")))]
        total[0] += op.time_s
        total[1] += op.calls
    for kernel in device.kernels:
        total = totals["kernel", kernel.name]
        total[0] += kernel.time_s
        total[1] += kernel.calls
    for key, (time_s, calls) in totals.items():
        yield key, Item(time_s / len(steps), calls / len(steps) if key[0] != "module" else None)


def _mean(items: Sequence[Item], ranks: int) -> Item:
    calls = [item.calls for item in items if item.calls is not None]
    return Item(
        time_s=sum(item.time_s for item in items) / ranks,
        calls=sum(calls) / ranks if calls else None,
        samples_s=tuple(sample for item in items for sample in item.samples_s),
    )
