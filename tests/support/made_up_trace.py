"""What an analysis of traces says, made by hand of round numbers: two steps of 10 ms on one GPU."""

from __future__ import annotations

from typing import Any

from hwprof.specs.record.stragglers import Stragglers
from hwprof.specs.record.trace import (
    TraceBreakdown,
    TraceCause,
    TraceDevice,
    TraceFinding,
    TraceIdle,
    TraceMemory,
    TraceOverlap,
    TracePath,
    TracePathItem,
    TracePathPart,
    TraceQueue,
    TraceReport,
    TraceStep,
)
from hwprof.specs.record.trace_rows import TraceKernel, TraceModule, TraceOp

OP: dict[str, Any] = {
    "module": "Block.up",
    "op": "aten::mm",
    "direction": "forward",
    "shapes": "",
    "dtype": "",
    "calls": 4,
    "kernels": 4,
    "time_s": 0.0123456,
    "share": 0.8,
}


def made_up_step(number: int, **changes: Any) -> TraceStep:
    """A step of 10 ms: 6 ms of computation, 1 ms of communication, no copies, 3 ms idle, with changes."""
    plain = {"compute_s": 6e-3, "exposed_communication_s": 1e-3, "exposed_copy_s": 0.0, "idle_s": 3e-3}
    return TraceStep(name=f"ProfilerStep#{number}", **{"start_s": 0.01 * number, "duration_s": 0.01, **plain} | changes)


IDLE = TraceIdle(input_s=4e-3, host_s=2e-3)
BREAKDOWN = TraceBreakdown(
    span_s=0.02, compute_s=0.012, exposed_communication_s=0.002, exposed_copy_s=0.0, idle_s=0.006, idle=IDLE
)
OVERLAP = TraceOverlap(
    communication_s=0.004,
    hidden_communication_s=0.002,
    communication_fraction=0.5,
    copy_s=0.0,
    hidden_copy_s=0.0,
    copy_fraction=None,
)
KERNEL = TraceKernel(
    name="gemm",
    kind="compute",
    calls=4,
    time_s=0.0123456,
    share=1.0,
    mean_s=0.0030864,
    min_s=0.003,
    max_s=0.0032,
    deviation_s=1e-4,
)
MEMORY = TraceMemory(
    device="cuda:0",
    peak_allocated_bytes=284.37e6,
    peak_reserved_bytes=None,
    peak_at_s=0.005,
    peak_in="Block",
    first_allocated_bytes=0.0,
    last_allocated_bytes=0.0,
    growth_bytes_per_step=-12.6e6,
)
PATH = TracePath(
    span_s=0.02,
    parts=(TracePathPart(kind="compute", time_s=0.012, share=0.6),),
    items=(TracePathItem(kind="idle", name="", time_s=0.008, times=2),),
)
MODULE = TraceModule(module="", direction="other", time_s=0.002, share=0.1, matmul_flop=0.0, moved_bytes=0.0)


def made_up_device(rank: int = 0, **changes: Any) -> TraceDevice:
    """A GPU with a row in every table but that of operators with work, with changes."""
    plain: dict[str, Any] = {
        "file": f"rank{rank}.json",
        "rank": rank,
        "world_size": 2,
        "device": "H100 (gpu:0)",
        "kind": "gpu",
        "broken": None,
        "events": 100,
        "steps": (made_up_step(1), made_up_step(2)),
        "step_median_s": 0.01,
        "step_interval_s": (0.0099, 0.0102),
        "breakdown": BREAKDOWN,
        "shares": {"compute": 0.6, "communication": 0.1, "input": 0.2, "host": 0.1},
        "findings": (
            TraceFinding(title="waits for the next batch", share=0.2, evidence="4 ms", change="more workers"),
        ),
        "overlap": OVERLAP,
        "kernels": (KERNEL,),
        "ops": (TraceOp(**OP), TraceOp(**OP | {"op": "aten::add", "time_s": 0.003, "share": 0.2})),
        "modules": (MODULE,),
        "launches": None,
        "queues": (TraceQueue(stream=7, longest=3, mean=1.2345, empty_fraction=0.25),),
        "causes": (TraceCause(what="next", module="", cause="host", time_s=0.004, gaps=2),),
        "path": PATH,
        "memory": (MEMORY,),
    }
    return TraceDevice(**plain | changes)


def made_up_report(*devices: TraceDevice, stragglers: Stragglers | None = None, notes: tuple[str, ...] = ()):
    """Of these devices, of one where none is given."""
    return TraceReport(
        hwprof_version="0.1.0", devices=devices or (made_up_device(),), stragglers=stragglers, notes=notes
    )
