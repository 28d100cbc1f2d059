"""How does a plan look as JSON? The contract of ``hwprof plan --format json``."""

from __future__ import annotations

from typing import Any

from hwprof.plan.answer.cost import Bill
from hwprof.plan.answer.machines import Answer, Option, Unable
from hwprof.plan.answer.plans import Plan
from hwprof.plan.answer.scaling import ScalingPoint
from hwprof.plan.settings.frameworks import settings_of
from hwprof.plan.settings.launch import Settings


def answer_json(answer: Answer) -> dict[str, Any]:
    """Everything that was found.

    ``evaluated`` counts layouts to which a rule, the memory formula or the step formula was applied one by one;
    ``search_s`` is the time that took, finalists in the event engine apart.
    """
    return {
        "objective": answer.objective,
        "evaluated": answer.evaluated,
        "search_s": answer.search_s,
        "rejected": answer.rejected,
        "plans": [plan_json(plan) for plan in answer.plans],
        "pareto": [plan.rank for plan in answer.front],
        "options": [
            *(_option_json(option) for option in answer.options),
            *(_unable_json(unable) for unable in answer.unable),
        ],
        "scaling": [_point_json(point) for point in answer.scaling],
        "settings": [_settings_json(one) for one in settings_of(answer.plans[0])] if answer.plans else [],
    }


def _unable_json(unable: Unable) -> dict[str, Any]:
    return {
        "hardware": unable.hardware,
        "devices": unable.devices,
        "fits": False,
        "reason": unable.reason,
        "evaluated": 0,
        "search_s": 0.0,
        "rejected": {},
        "rejected_examples": {},
        "sensitivity": {},
        "calibration": [],
        "rates_basis": [],
    }


def _point_json(point: ScalingPoint) -> dict[str, Any]:
    return {
        "kind": point.kind,
        "devices": point.devices,
        "global_batch": point.global_batch,
        "step_s": point.step_s,
        "tokens_per_s": point.tokens_per_s,
        "efficiency": point.efficiency,
        "working_fraction": point.working_fraction,
        "waiting_fraction": point.waiting_fraction,
        "waiting_has_taken_over": point.taken_over,
    }


def _settings_json(one: Settings) -> dict[str, Any]:
    return {
        "framework": one.framework,
        "file": one.file_name if one.text else None,
        "lacks": list(one.lacks),
        "besides": list(one.besides),
    }


def plan_json(plan: Plan) -> dict[str, Any]:
    """One plan, flat."""
    job, layout, found = plan.job, plan.job.layout, plan.prediction
    return {
        "rank": plan.rank,
        "hardware": plan.question.machine.device.id,
        "devices": plan.devices,
        "stack": plan.question.stack.name,
        "tp": layout.tensor_parallel,
        "pp": layout.pipeline_parallel,
        "dp": layout.data_parallel,
        "vp": layout.virtual_stages,
        "cp": layout.context_parallel,
        "ep": layout.expert_parallel,
        "zero": layout.zero_stage,
        "shard_ranks": layout.shards,
        "recompute": job.recompute,
        "recompute_layers": (job.recompute_layers or job.model.layers) if job.recompute != "none" else 0,
        "micro_batch": job.micro_batch,
        "micro_batches": job.micro_batches,
        "schedule": layout.schedule,
        "dtype": job.dtype,
        "offload": job.offload,
        "context_kind": layout.context_kind if layout.context_parallel > 1 else None,
        "overlap": layout.overlap,
        "sequence_parallel": layout.sequence_parallel and layout.tensor_parallel > 1,
        "step_s": found.step_s,
        "interval_s": list(found.interval_s),
        "faster_than_next_probability": plan.ahead,
        "tokens_per_s_per_device": found.tokens_per_s_per_device,
        "tokens_per_s": plan.tokens_per_s,
        "mfu": found.mfu,
        "hfu": found.hfu,
        "bound": found.bound,
        "memory": {
            "peak_bytes": found.memory.peak_bytes,
            "device_bytes": found.memory.device_bytes,
            "interval_bytes": list(found.memory_interval_bytes),
            "capacity_bytes": plan.question.machine.capacity_bytes,
            "tight": plan.tight,
            "host_bytes": found.memory.host_bytes,
        },
        "breakdown_s": dict(found.breakdown_s),
        "bill": _bill_json(plan.bill),
        "basis": list(found.basis),
    }


def _bill_json(bill: Bill) -> dict[str, Any]:
    return {
        "steps": bill.steps,
        "days": bill.days,
        "device_hours": bill.device_hours,
        "usd": list(bill.usd) if bill.usd else None,
        "energy_kwh": bill.energy_kwh,
    }


def _option_json(option: Option) -> dict[str, Any]:
    return {
        "hardware": option.question.machine.device.id,
        "devices": option.question.machine.devices,
        "fits": bool(option.plans),
        "reason": option.reason,
        "evaluated": option.evaluated,
        "search_s": option.search_s,
        "rejected": {refusal.rule: refusal.count for refusal in option.refusals},
        "rejected_examples": {refusal.rule: refusal.example for refusal in option.refusals},
        "sensitivity": {gain.resource: gain.saved_fraction for gain in option.gains},
        "calibration": list(option.question.notes),
        "rates_basis": list(option.rates.basis),
    }
