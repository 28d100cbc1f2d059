"""How does a layout look as a row of the report?"""

from __future__ import annotations

from hwprof.plan.candidates import Candidate, Estimator, Refused
from hwprof.plan.constraints import broken_constraint, memory_fits
from hwprof.plan.layout import Layout
from hwprof.plan.layout_cost import StepEstimate
from hwprof.specs.run import LayoutRow
from hwprof.units import format_fraction


def feasible_row(item: Candidate, rank: int, estimator: Estimator) -> LayoutRow:
    """A layout that fits, with its step time and what that is made of."""
    middle, problem = item.middle, estimator.problem
    machine, sequences = problem.machine, problem.sequences
    step_flop = estimator.work(item.layout).train_flop * sequences / item.layout.micro_batch
    return _row(item.layout, rank, estimator, need_bytes=estimator.need_bytes(item.layout)).model_copy(
        update={
            "fits": True,
            "reason": _composition(middle),
            "step_s": middle.step_s,
            "step_lo_s": item.fast.step_s,
            "step_hi_s": item.slow.step_s,
            "tokens_per_s_per_device": sequences * problem.settings.seq_len / middle.step_s / machine.devices,
            "mfu": step_flop / (middle.step_s * machine.devices * machine.peak_flop_per_s),
            "compute_s": middle.matmul_s + middle.vector_s,
            "communication_s": middle.communication_s,
            "bubble_s": middle.bubble_s,
            "bound": middle.bound,
        }
    )


def infeasible_row(item: Refused, rank: int, estimator: Estimator) -> LayoutRow:
    """A layout that can't run, with the reason; its memory need is counted only where that is the reason."""
    broken = broken_constraint(item.layout.degrees, estimator.problem)
    if broken is not None:
        return _row(item.layout, rank, estimator, need_bytes=0.0, reason=broken[1])
    need_bytes = max(estimator.need_bytes(item.layout), item.least_bytes)
    reason = memory_fits(need_bytes, estimator.problem)
    assert reason is not None, "a layout was refused for memory, but it fits"
    return _row(item.layout, rank, estimator, need_bytes=need_bytes, reason=reason)


def _row(layout: Layout, rank: int, estimator: Estimator, *, need_bytes: float, reason: str = "") -> LayoutRow:
    machine, degrees = estimator.problem.machine, layout.degrees
    return LayoutRow(
        rank=rank,
        cluster=machine.name,
        devices=machine.devices,
        data_parallel=degrees.data_parallel,
        tensor_parallel=degrees.tensor_parallel,
        pipeline_parallel=degrees.pipeline_parallel,
        zero_stage=layout.zero_stage,
        micro_batch=layout.micro_batch,
        gradient_accumulation=layout.gradient_accumulation,
        recompute=layout.recompute,
        fits=False,
        reason=reason,
        memory_bytes=need_bytes,
        capacity_bytes=machine.capacity_bytes,
    )


def _composition(step: StepEstimate) -> str:
    parts = (
        ("matrix products", step.matmul_s),
        ("other operations", step.vector_s),
        ("exposed communication", step.communication_s),
        ("pipeline bubble", step.bubble_s),
    )
    return ", ".join(f"{name} {format_fraction(part_s / step.step_s)}" for name, part_s in parts if part_s > 0)
