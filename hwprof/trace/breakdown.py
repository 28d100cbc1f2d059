"""Where did the time of each step go: computation, communication and copies that nothing hides, or nothing at all?"""

from __future__ import annotations

from hwprof.spans.columns import NS
from hwprof.spans.intervals import intersect
from hwprof.spans.pieces import Kind, Pieces, Split
from hwprof.specs.record.trace import TimePart, TraceBreakdown, TraceIdle, TraceOverlap, TraceStep
from hwprof.trace.windows import Windows


def steps(parts: Split, windows: Windows) -> tuple[TraceStep, ...]:
    """The parts of each step; they add up to its duration."""
    lengths = [
        part.within(windows.starts_ns, windows.ends_ns)
        for part in (parts.compute, parts.communication, parts.copies, parts.idle)
    ]
    rows = zip(windows.names, windows.starts_ns, windows.ends_ns, *lengths, strict=True)
    return tuple(
        TraceStep(
            name=name,
            start_s=start * NS,
            duration_s=(end - start) * NS,
            compute_s=compute * NS,
            exposed_communication_s=communication * NS,
            exposed_copy_s=copy * NS,
            idle_s=idle * NS,
        )
        for name, start, end, compute, communication, copy, idle in rows
    )


def breakdown(parts: Split, windows: Windows, idle: TraceIdle) -> TraceBreakdown:
    """The parts of all steps together."""
    return TraceBreakdown(
        span_s=float((windows.ends_ns - windows.starts_ns).sum()) * NS,
        compute_s=parts.compute.length * NS,
        exposed_communication_s=parts.communication.length * NS,
        exposed_copy_s=parts.copies.length * NS,
        idle_s=parts.idle.length * NS,
        idle=idle,
    )


def overlap(pieces: Pieces) -> TraceOverlap:
    """How much of communication and of copies is hidden behind computation."""
    compute = pieces.of(Kind.COMPUTE)
    communication, copies = pieces.of(Kind.COMMUNICATION), pieces.of(Kind.COPY)
    hidden = [intersect(part, compute).length for part in (communication, copies)]
    return TraceOverlap(
        communication_s=communication.length * NS,
        hidden_communication_s=hidden[0] * NS,
        communication_fraction=hidden[0] / communication.length if len(communication) else None,
        copy_s=copies.length * NS,
        hidden_copy_s=hidden[1] * NS,
        copy_fraction=hidden[1] / copies.length if len(copies) else None,
    )


def idle_parts(idle: TraceIdle) -> dict[TimePart, float]:
    """The idle time by cause."""
    parts: dict[TimePart, float] = {
        "input": idle.input_s,
        "recompilation": idle.recompilation_s,
        "allocation": idle.allocation_s,
        "garbage_collection": idle.garbage_collection_s,
        "lock": idle.lock_s,
        "call": idle.call_s,
        "blocking_copy": idle.blocking_copy_s,
        "synchronisation": idle.synchronisation_s,
        "host": idle.host_s,
        "launch": idle.launch_s,
        "graph": idle.graph_s,
        "queued": idle.queued_s,
        "unknown": idle.unknown_s,
    }
    return parts


def shares(times: TraceBreakdown) -> dict[TimePart, float]:
    """Every part of the span as a share of it, idle by its causes; parts that took no time are left out."""
    parts: dict[TimePart, float] = {
        "compute": times.compute_s,
        "communication": times.exposed_communication_s,
        "copy": times.exposed_copy_s,
        **idle_parts(times.idle),
    }
    return {part: time_s / times.span_s for part, time_s in parts.items() if time_s > 0}
