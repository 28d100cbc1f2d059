"""How does a plan look as JSON? The contract of ``hwprof plan --format json``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hwprof.plan.answer.cost import Bill
from hwprof.plan.answer.fleet import Fleet
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
        "answer": _chosen_json(answer.chosen),
        "change": {"words": list(answer.change.words), "outcome": answer.change.outcome} if answer.change else None,
        "fleets": [_fleet_json(fleet) for fleet in answer.fleets],
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


def _chosen_json(plan: Plan | None) -> dict[str, Any] | None:
    """What to take."""
    if plan is None:
        return None
    bill, whole = plan.bill, plan.bill.steps > 1
    return {
        "hardware": plan.question.machine.device.id,
        "devices": plan.devices,
        "global_batch": plan.job.global_batch,
        "days": bill.days if whole else None,
        "days_interval": list(bill.days_interval) if whole else None,
        "cost_usd": bill.mean_usd,
        "cost_interval_usd": list(bill.usd_interval) if bill.usd_interval else None,
        "power_w": bill.power_watt,
        "energy_wh": None if bill.energy_kwh is None else 1e3 * bill.energy_kwh,
        "co2_kg": bill.co2_kg,
        "device_hours": bill.device_hours,
        "goodput": bill.goodput if whole else None,
        "plan": plan_json(plan),
    }


def _fleet_json(fleet: Fleet) -> dict[str, Any]:
    named = {"smallest": fleet.smallest, "cheapest": fleet.cheapest, "fastest": fleet.fastest, "nearest": fleet.nearest}
    return {
        "hardware": fleet.hardware,
        **{name: _chosen_json(option.plans[0]) if option else None for name, option in named.items()},
        "reason": fleet.reason,
        "looked_at": [
            {
                "devices": point.devices,
                "global_batch": point.batch,
                "days": point.bill.days,
                "cost_usd": point.bill.mean_usd,
                "missed": point.missed,
            }
            for point in fleet.points
        ],
    }


def _goodput_json(plan: Plan) -> dict[str, Any] | None:
    found = plan.goodput
    if found is None:
        return None
    return {
        "fraction": found.fraction,
        "range": list(found.range_fraction),
        "mtbf_s": found.mtbf_s,
        "failures_per_day": found.failures_per_day,
        "checkpoint_interval_s": found.interval_s,
        "checkpoint_bytes": found.checkpoint_bytes,
        "checkpoint_fraction": found.checkpoint_fraction,
        "restart_fraction": found.restart_fraction,
        "lost_fraction": found.lost_fraction,
        "waiting_fraction": found.waiting_fraction,
        "enough_spare_nodes": found.enough_spares,
        "spare_devices": found.spare_devices,
        "basis": list(found.basis),
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
        "etp": layout.expert_tensor_parallel if job.model.moe else 1,
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
        "goodput": _goodput_json(plan),
        "basis": list(found.basis),
    }


def _bill_json(bill: Bill) -> dict[str, Any]:
    return {
        "steps": bill.steps,
        "days": bill.days,
        "step_days": bill.step_time_s / 86400,
        "days_interval": list(bill.days_interval),
        "device_hours": bill.device_hours,
        "usd": list(bill.usd) if bill.usd else None,
        "usd_interval": list(bill.usd_interval) if bill.usd_interval else None,
        "power_w": bill.power_watt,
        "energy_kwh": bill.energy_kwh,
        "co2_kg": bill.co2_kg,
    }


def _beyond(option: Option, read: Callable[[Bill], float | None]) -> float | None:
    """Of a machine's best plan, whether or not it keeps to the limits."""
    best = option.plans[0] if option.plans else option.beyond
    return read(best.bill) if best and best.bill.steps > 1 else None


def _option_json(option: Option) -> dict[str, Any]:
    return {
        "hardware": option.question.machine.device.id,
        "devices": option.question.machine.devices,
        "fits": bool(option.plans),
        "reason": option.reason,
        "days": _beyond(option, lambda bill: bill.days),
        "cost_usd": _beyond(option, lambda bill: bill.mean_usd),
        "evaluated": option.evaluated,
        "search_s": option.search_s,
        "rejected": {refusal.rule: refusal.count for refusal in option.refusals},
        "rejected_examples": {refusal.rule: refusal.example for refusal in option.refusals},
        "sensitivity": {gain.resource: gain.saved_fraction for gain in option.gains},
        "calibration": list(option.question.notes),
        "rates_basis": list(option.rates.basis),
    }
