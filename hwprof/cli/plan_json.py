"""How does a plan look as JSON? The contract of ``hwprof plan --format json``."""

from __future__ import annotations

from typing import Any

from hwprof.plan.answer import Answer, Option
from hwprof.plan.cost import Bill
from hwprof.plan.plans import Plan


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
        "options": [_option_json(option) for option in answer.options],
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
        "evaluated": option.found.tally.evaluated,
        "search_s": option.found.search_s,
        "rejected": {refusal.rule: refusal.count for refusal in option.refusals},
        "rejected_examples": {refusal.rule: refusal.example for refusal in option.refusals},
        "sensitivity": {gain.resource: gain.saved_fraction for gain in option.gains},
        "calibration": list(option.question.notes),
        "rates_basis": list(option.rates.basis),
    }
