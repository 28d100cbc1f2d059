"""Which layout did the run itself have? What was measured on one device, as a yardstick beside the estimates."""

from __future__ import annotations

from hwprof.specs.record.run import LayoutRow, RunRecord


def measured_layout(record: RunRecord) -> LayoutRow:
    """The run as a layout row; step time and memory are measured, the interval is that of the median."""
    settings, step, memory = record.run_settings, record.step, record.memory
    need_bytes = (memory.measured_peak_bytes or memory.predicted_peak_bytes or 0.0) if memory else 0.0
    return LayoutRow(
        rank=0,
        cluster=f"this machine ({record.device.name}), measured",
        devices=record.world_size,
        data_parallel=settings.layout.data_parallel,
        tensor_parallel=settings.layout.tensor_parallel,
        pipeline_parallel=settings.layout.pipeline_parallel,
        zero_stage=settings.layout.zero_stage,
        micro_batch=settings.micro_batch,
        gradient_accumulation=settings.gradient_accumulation,
        recompute=settings.recompute,
        fits=True,
        reason="measured in this run",
        memory_bytes=need_bytes,
        capacity_bytes=record.device.memory_bytes or 0.0,
        step_s=step.median_s if step else None,
        step_lo_s=step.interval_s[0] if step else None,
        step_hi_s=step.interval_s[1] if step else None,
        tokens_per_s_per_device=step.tokens_per_s / record.world_size if step and step.tokens_per_s else None,
        mfu=step.mfu if step else None,
        bound=record.bound,
    )
