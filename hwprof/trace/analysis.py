"""What do the traces of one program say? Each file's devices one after the other, then all ranks together."""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hwprof.count.aten.signatures import NEEDS_VALUES
from hwprof.errors import InputError
from hwprof.spans.columns import HostKind, Trace
from hwprof.spans.idle import gaps_of
from hwprof.spans.marks import LOADER
from hwprof.spans.nesting import named, nearest
from hwprof.spans.pieces import Kind, Pieces, cpu_pieces, gpu_pieces, split
from hwprof.spans.read.file import read_trace
from hwprof.specs.hardware.spec import DeviceSpec
from hwprof.specs.measurement import Ceiling, median_interval
from hwprof.specs.record.collective import CollectiveCurve
from hwprof.specs.record.stragglers import Stragglers
from hwprof.specs.record.trace import TraceBreak, TraceDevice
from hwprof.trace import (
    breakdown,
    captures,
    collectives,
    copies,
    gathers,
    idle,
    launches,
    memory,
    ranges,
    rollup,
    stragglers,
    tables,
)
from hwprof.trace.calls import Calls, calls_of
from hwprof.trace.critical import critical_path
from hwprof.trace.findings import findings
from hwprof.trace.gap_parts import gap_parts
from hwprof.trace.placing import placed
from hwprof.trace.stragglers import Meeting
from hwprof.trace.windows import ALL, Chosen, Windows, cpu_windows, device_windows, host_steps, wanted_steps

_RANK_IN_NAME = re.compile(r"rank[_-]?(\d+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """How traces are analysed.

    Attributes:
        ceilings: of the device, for the bound classes; may be empty.
        hardware: the device's entry of the catalogue, whose links copies and collectives are held against; None if not
            said.
        probed: collectives that a probe measured, which they are held against, too.
        wanted: which steps.
        captures: traces of the capture of graphs that are replayed.
        note: what to say of every device.
    """

    ceilings: Sequence[Ceiling] = ()
    hardware: DeviceSpec | None = None
    probed: Sequence[CollectiveCurve] = ()
    wanted: Chosen = ALL
    captures: Sequence[Path] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class Analysis:
    """All devices of all files, and what their ranks waited for each other; None with one rank."""

    devices: tuple[TraceDevice, ...]
    stragglers: Stragglers | None
    notes: tuple[str, ...]


def analyse(
    paths: Sequence[Path], asked: Asked | None = None, *, progress: Callable[[str], None] = lambda _text: None
) -> Analysis:
    """Read and analyse one file after the other; only one is in memory at a time.

    Args:
        paths: traces, one per rank.
        asked: how.
        progress: told what is being done.

    Raises:
        InputError: a file is no trace, or nothing in it can be analysed.
    """
    devices: list[TraceDevice] = []
    met: list[tuple[int, Sequence[Meeting]]] = []
    captured = [_captured(path) for path in asked.captures] if asked else []
    for number, path in enumerate(paths):
        progress(f"reading {path.name}")
        trace = read_trace(path, values_of=NEEDS_VALUES)
        progress(f"analysing {path.name}")
        for device, meetings in _of_file(trace, number, asked or Asked(), captured):
            devices.append(device)
            met.append((device.rank, meetings))
    span_s = statistics.fmean(device.breakdown.span_s for device in devices)
    repeated = len({rank for rank, _ in met}) < len(met)
    notes = ("several devices have the same rank: who waits for whom is not said",) if repeated else ()
    return Analysis(tuple(devices), None if repeated else stragglers.stragglers(met, span_s=span_s), notes)


def _captured(path: Path) -> captures.Record:
    trace = read_trace(path, values_of=NEEDS_VALUES)
    return captures.record(trace, calls_of(trace))


def _of_file(
    trace: Trace, number: int, asked: Asked, captured: Sequence[captures.Record]
) -> Iterator[tuple[TraceDevice, Sequence[Meeting]]]:
    if not len(trace.host) and not len(trace.device):
        raise _nothing(trace)
    trace, calls, said = captures.joined(trace, calls_of(trace), captured)
    asked = replace(asked, note=said)
    for device in np.unique(trace.device.device).tolist():
        yield _device(trace, calls, f"gpu:{device}", number=number, asked=asked)
    if not len(trace.device):
        yield _device(trace, calls, "cpu", number=number, asked=asked)


def _nothing(trace: Trace) -> InputError:
    where = f"; reading stopped at byte {trace.broken.offset_bytes}: {trace.broken.reason}" if trace.broken else ""
    return InputError(
        f"{trace.path} has no operators and no kernels ({trace.events} events){where}",
        expectation="expected a trace that torch.profiler recorded with activities CPU or CUDA",
        remedy="record it with torch.profiler.profile around some steps, and export_chrome_trace",
    )


def _device(
    trace: Trace, calls: Calls, name: str, *, number: int, asked: Asked
) -> tuple[TraceDevice, Sequence[Meeting]]:
    on_gpu, wanted = name != "cpu", asked.wanted
    steps = _steps(trace, wanted)
    windows, chosen = _chosen(trace, calls, name, steps, wanted)
    parts = split(chosen, windows.spans)
    gaps = gaps_of(trace, chosen, parts.idle)
    why = gap_parts(trace, calls, gaps, chosen)
    times = breakdown.breakdown(parts, windows, idle.idle_by_cause(why))
    each = breakdown.steps(parts, windows)
    called = collectives.collectives_of(trace, calls, chosen)
    met = stragglers.meetings(trace, called, parts, steps)
    durations_s = tuple(step.duration_s for step in each)
    ops = tables.op_table(trace, calls, chosen)
    under = partial(
        placed,
        ceilings=asked.ceilings,
        kind="gpu" if on_gpu else "cpu",
        cache_bytes=_cache_bytes(asked.hardware) if on_gpu else None,
    )
    rates, ops = under(rollup.by_shape(ops)), under(ops)
    facts: dict[str, Any] = {
        "rates": rates,
        "counters": ranges.counter_table(trace, calls),
        "gathers": gathers.gather_table(trace, calls, chosen) if on_gpu else (),
        "categories": rollup.category_table(chosen, tables.piece_categories(trace, calls, chosen), ops),
        "copies": copies.copy_table(trace, chosen, asked.ceilings, asked.hardware) if on_gpu else (),
        "overlap": breakdown.overlap(chosen),
        "collectives": collectives.collective_table(
            called, chosen.of(Kind.COMPUTE), asked.hardware, world_size=_world_size(trace), probed=asked.probed
        ),
        "kernels": tables.kernel_table(trace, calls, chosen, by_call=not on_gpu),
        "ops": ops,
        "launches": launches.launches(trace, chosen) if on_gpu else None,
        "causes": idle.causes(trace, calls, gaps, why) if on_gpu else (),
        "largest_gap": idle.largest_gap(trace, calls, gaps, why, chosen),
        "memory": memory.memory(trace, calls, steps.where(wanted_steps(steps, wanted)) if steps else None),
    }
    device = TraceDevice(
        file=trace.path,
        rank=_rank(trace, number),
        world_size=_world_size(trace),
        device=_name(trace, name),
        kind="gpu" if on_gpu else "cpu",
        broken=TraceBreak(offset_bytes=trace.broken.offset_bytes, reason=trace.broken.reason) if trace.broken else None,
        events=trace.events,
        steps=each,
        step_median_s=statistics.median(durations_s),
        step_interval_s=median_interval(durations_s),
        breakdown=times,
        shares=breakdown.shares(times),
        modules=tables.module_table(ops),
        queues=launches.queues(trace, chosen) if on_gpu else (),
        path=critical_path(trace, calls, chosen, windows),
        notes=tuple(filter(None, [*_notes(trace, windows, ops, on_gpu=on_gpu), asked.note])),
        findings=(),
        **facts,
    )
    return device.changed(findings=findings(device)), met


def _cache_bytes(hardware: DeviceSpec | None) -> float | None:
    return (hardware.memory.last_level_bytes or hardware.memory.l2_bytes) if hardware else None


def _steps(trace: Trace, wanted: Chosen) -> Windows | None:
    """The steps as the host ran them."""
    steps = host_steps(trace, wanted)
    if steps is None and wanted != ALL:
        raise InputError(
            f"{trace.path} marks no steps, so none can be chosen",
            expectation="expected ProfilerStep annotations (prof.step()), or an optimizer's steps",
            remedy="name annotations that are its steps with --annotation, or leave --steps and --warmup out",
        )
    return steps


def _chosen(trace: Trace, calls: Calls, name: str, steps: Windows | None, wanted: Chosen) -> tuple[Windows, Pieces]:
    """The steps of a device and its pieces in them."""
    if name != "cpu":
        mine = trace.device.where(trace.device.device == int(name.removeprefix("gpu:")))
        return device_windows(trace, gpu_pieces(trace, calls.parent, mine), steps, wanted)
    loads = nearest(calls.parent, named(trace, LOADER.match)) >= 0
    pieces = cpu_pieces(trace, calls.parent, (trace.host.kind == HostKind.OPERATOR) & ~loads)
    if not len(pieces):
        raise _nothing(trace)
    return cpu_windows(pieces, steps, wanted)


def _facts(trace: Trace) -> dict[str, Any]:
    found = trace.metadata.get("distributedInfo")
    return found if isinstance(found, dict) else {}


def _rank(trace: Trace, number: int) -> int:
    """As the trace says, else as its file name says, else its place on the command line."""
    said = _facts(trace).get("rank")
    if isinstance(said, int):
        return said
    named = _RANK_IN_NAME.search(Path(trace.path).name)
    return int(named[1]) if named else number


def _world_size(trace: Trace) -> int:
    said = _facts(trace).get("world_size")
    return said if isinstance(said, int) else 1


def _name(trace: Trace, name: str) -> str:
    """The GPU's name from the trace's device properties."""
    properties = trace.metadata.get("deviceProperties")
    for each in properties if isinstance(properties, list) else []:
        if isinstance(each, dict) and name == f"gpu:{each.get('id')}" and isinstance(each.get("name"), str):
            return f"{each['name']} ({name})"
    return name


def _notes(trace: Trace, windows: Windows, ops: Sequence[Any], *, on_gpu: bool) -> Iterator[str]:
    yield f"steps: {windows.basis}"
    if trace.skipped:
        yield f"{trace.skipped} events without a usable time were left out"
    if not any(op.shapes for op in ops):
        yield "no shapes were recorded, so FLOP and bytes are not known: profile with record_shapes=True"
    if not any(op.module for op in ops):
        yield "no modules were recorded: profile with with_stack=True, or mark parts with record_function"
    if not on_gpu and (trace.host.kind == HostKind.RUNTIME).any() and not trace.ranges:
        yield "the trace has calls to a GPU but none of its kernels: only the host is analysed"
    if trace.ranges:
        yield f"{len(trace.ranges)} kernels were counted one by one (CUPTI): times are no times of the program"
    if on_gpu and not len(trace.host):
        yield "the trace has no host events: why the device was idle is not known; profile with ProfilerActivity.CPU"
