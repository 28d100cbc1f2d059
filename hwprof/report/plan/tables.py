"""Which columns does the planner's answer have, in files and for people? Plans, machines side by side, their basis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hwprof.plan.answer.machines import Answer, Option, Refusal
from hwprof.plan.answer.plans import Plan
from hwprof.plan.answer.scaling import ScalingPoint, taken_over_at
from hwprof.plan.settings.frameworks import settings_of
from hwprof.plan.settings.launch import Settings
from hwprof.report.cells import Field, Table, Value, build_sheet, yes
from hwprof.specs.job.step import TrainingJob
from hwprof.units import format_fraction, format_long, format_quantity, format_seconds, format_span


def search_words(answer: Answer) -> str:
    """What was looked at, and how long that took."""
    return f"{answer.evaluated:,} layouts evaluated in {format_seconds(answer.search_s)}"


def scaling_words(curve: Sequence[ScalingPoint]) -> str:
    """Where waiting takes over on a curve, in a sentence."""
    late = taken_over_at(curve)
    if late is not None:
        return f"from {late:,} devices on, communication, bubble and stragglers take longer than the work"
    return f"devices work longer than they wait on all counts looked at, up to {curve[-1].devices:,}"


def days_words(plan: Plan) -> str:
    """How long the training takes: ``12.3 days``."""
    return format_long(plan.bill.time_s)


def cost_words(plan: Plan) -> str:
    """What the training costs at the lowest and at the highest price: ``77.7 to 105 M USD``."""
    return format_span(plan.bill.usd, "usd") if plan.bill.usd else "no price known"


def energy_words(plan: Plan) -> str:
    """What the training takes from the grid: ``12.3 MWh``."""
    kwh = plan.bill.energy_kwh
    return "no power known" if kwh is None else format_quantity(1e3 * kwh, "watt_hour")


def _usd(plan: Plan, end: int) -> Value:
    """Cost at the lowest (0) or highest (1) price."""
    return plan.bill.usd[end] if plan.bill.usd else None


def _layers_again(job: TrainingJob) -> int:
    return 0 if job.recompute == "none" else job.recompute_layers or job.model.layers


def layout_words(job: TrainingJob) -> str:
    """A layout in one line, as engineers write it: ``tp8 pp16 vp2 dp64 zero1 mb1``; degrees of 1 are left out."""
    layout = job.layout
    degrees = {
        "tp": layout.tensor_parallel,
        "cp": layout.context_parallel,
        "pp": layout.pipeline_parallel,
        "vp": layout.virtual_stages,
        "ep": layout.expert_parallel,
        "etp": layout.expert_tensor or 0,
        "dp": layout.data_parallel,
    }
    words = [f"{name}{degree}" for name, degree in degrees.items() if degree > 1 or (name == "etp" and degree)]
    words += [f"zero{layout.zero_stage}"] if layout.zero_stage else []
    words += [f"over{layout.shard_ranks}"] if layout.shard_ranks else []
    words += [f"mb{job.micro_batch}"]
    words += [layout.context_kind] if layout.context_parallel > 1 and layout.context_kind != "ring" else []
    words += [f"{job.offload} offloaded"] if job.offload != "none" else []
    return " ".join(words + ([f"{job.recompute} recompute in {_layers_again(job)} layers"] * (job.recompute != "none")))


def _expert_tensor(plan: Plan) -> int:
    return plan.job.layout.expert_tensor_parallel if plan.job.model.moe else 1


PLANS: tuple[Field[Plan], ...] = (
    Field("rank", "Rank", lambda plan: plan.rank, "count"),
    Field("hardware", "Hardware", lambda plan: plan.question.machine.device.id),
    Field("devices", "Devices", lambda plan: plan.devices, "count"),
    Field("stack", "Software", lambda plan: plan.question.stack.name),
    Field("tensor_parallel", "Tensor", lambda plan: plan.job.layout.tensor_parallel, "count"),
    Field("context_parallel", "Context", lambda plan: plan.job.layout.context_parallel, "count"),
    Field("pipeline_parallel", "Pipeline", lambda plan: plan.job.layout.pipeline_parallel, "count"),
    Field("virtual_stages", "Chunks a stage", lambda plan: plan.job.layout.virtual_stages, "count"),
    Field("data_parallel", "Data", lambda plan: plan.job.layout.data_parallel, "count"),
    Field("expert_parallel", "Expert", lambda plan: plan.job.layout.expert_parallel, "count"),
    Field("expert_tensor_parallel", "Expert tensor", _expert_tensor, "count"),
    Field("zero_stage", "ZeRO stage", lambda plan: plan.job.layout.zero_stage, "count"),
    Field("shard_ranks", "ZeRO shards over", lambda plan: plan.job.layout.shards, "count"),
    Field("micro_batch_sequences", "Micro-batch", lambda plan: plan.job.micro_batch, "count"),
    Field("micro_batches", "Micro-batches", lambda plan: plan.job.micro_batches, "count"),
    Field("dtype", "Format", lambda plan: plan.job.dtype),
    Field("offload", "Offload", lambda plan: plan.job.offload),
    Field(
        "context_kind",
        "Context kind",
        lambda plan: plan.job.layout.context_kind if plan.job.layout.context_parallel > 1 else None,
    ),
    Field("overlap", "Overlap", lambda plan: yes(answer=plan.job.layout.overlap)),
    Field("recompute", "Recompute", lambda plan: plan.job.recompute),
    Field("recompute_layers", "Layers recomputed", lambda plan: _layers_again(plan.job), "count"),
    Field("schedule", "Schedule", lambda plan: plan.job.layout.schedule),
    Field("step_s", "Step", lambda plan: plan.prediction.step_s, "s"),
    Field("step_lo_s", "Step from", lambda plan: plan.prediction.interval_s[0], "s"),
    Field("step_hi_s", "Step to", lambda plan: plan.prediction.interval_s[1], "s"),
    Field(
        "faster_than_next_probability",
        "Ahead",
        lambda plan: plan.ahead,
        "estimate",
        meaning="chance that it is faster than the next, from both intervals",
    ),
    Field("tokens_per_s_per_device", "Tokens/s/device", lambda plan: plan.prediction.tokens_per_s_per_device, "count"),
    Field("mfu_fraction", "MFU", lambda plan: plan.prediction.mfu, "fraction"),
    Field("bound", "Bound", lambda plan: plan.prediction.bound, style="bound"),
    Field(
        "memory_bytes",
        "Memory",
        lambda plan: plan.prediction.memory.device_bytes,
        "byte",
        meaning="of the fullest device",
    ),
    Field("memory_hi_bytes", "Memory up to", lambda plan: plan.prediction.memory_interval_bytes[1], "byte"),
    Field("capacity_bytes", "Capacity", lambda plan: plan.question.machine.capacity_bytes, "byte"),
    Field("host_memory_bytes", "Host memory", lambda plan: plan.prediction.memory.host_bytes or None, "byte"),
    Field("steps_count", "Steps", lambda plan: plan.bill.steps, "count"),
    Field("time_days", "Days", lambda plan: plan.bill.days),
    Field("cost_lo_usd", "Cost from", lambda plan: _usd(plan, 0)),
    Field("cost_hi_usd", "Cost to", lambda plan: _usd(plan, 1)),
    Field("energy_kwh", "Energy", lambda plan: plan.bill.energy_kwh),
)


@dataclass(frozen=True, slots=True)
class MachineRow:
    """One machine of the comparison: with its best plan, or with the reason why there is none."""

    hardware: str
    devices: int
    best: Plan | None
    reason: str
    evaluated: int


@dataclass(frozen=True, slots=True)
class Family:
    """Layouts with the same degrees, none of which fits in memory: what the leanest needs, and what the device has."""

    machine: str
    degrees: str
    need_bytes: float
    capacity_bytes: float


FAMILIES_SHOWN = 40
"""So many of each machine: those that come nearest to fitting."""


def families_of(answer: Answer) -> list[Family]:
    """Families that memory rules out, nearest to fitting first; of several searches, those of the best."""
    return [
        Family(option.name, _degrees_words(degrees), need, question.machine.capacity_bytes)
        for option in answer.options
        for question, tally in [(option.founds[0].question, option.founds[0].tally)]
        for degrees, need in sorted(tally.family_bytes.items(), key=lambda family: family[1])[:FAMILIES_SHOWN]
    ]


def _degrees_words(degrees: Sequence[int]) -> str:
    """In the order of ``layouts.DEGREES``; degrees of 1 are left out."""
    names = ("tp", "cp", "pp", "dp", "ep")
    found = [f"{name}{degree}" for name, degree in zip(names, degrees, strict=True) if degree > 1]
    return " ".join(found) or "one device"


def machine_rows(answer: Answer) -> tuple[MachineRow, ...]:
    """The machines in the order in which they were asked for, then those that could not be searched."""
    searched = [
        MachineRow(
            option.question.machine.device.id,
            option.question.machine.devices,
            option.plans[0] if option.plans else None,
            option.reason,
            option.evaluated,
        )
        for option in answer.options
    ]
    return (*searched, *(MachineRow(one.hardware, one.devices, None, one.reason, 0) for one in answer.unable))


def best_of(read: Callable[[Plan], Value]) -> Callable[[MachineRow], Value]:
    """What to read of a machine's best plan; nothing where it has none."""
    return lambda row: None if row.best is None else read(row.best)


MACHINES: tuple[Field[MachineRow], ...] = (
    Field("hardware", "Hardware", lambda row: row.hardware),
    Field("devices", "Devices", lambda row: row.devices, "count"),
    Field("fits", "Fits", lambda row: yes(answer=row.best is not None)),
    Field("reason", "Reason", lambda row: row.reason),
    Field("step_s", "Step", best_of(lambda plan: plan.prediction.step_s), "s"),
    Field("step_lo_s", "Step from", best_of(lambda plan: plan.prediction.interval_s[0]), "s"),
    Field("step_hi_s", "Step to", best_of(lambda plan: plan.prediction.interval_s[1]), "s"),
    Field("tokens_per_s", "Tokens/s", best_of(lambda plan: plan.tokens_per_s), "count"),
    Field("mfu_fraction", "MFU", best_of(lambda plan: plan.prediction.mfu), "fraction"),
    Field("bound", "Bound", best_of(lambda plan: plan.prediction.bound), style="bound"),
    Field("time_days", "Days", best_of(lambda plan: plan.bill.days)),
    Field("cost_lo_usd", "Cost from", best_of(lambda plan: _usd(plan, 0))),
    Field("cost_hi_usd", "Cost to", best_of(lambda plan: _usd(plan, 1))),
    Field("energy_kwh", "Energy", best_of(lambda plan: plan.bill.energy_kwh)),
    Field("memory_bytes", "Memory", best_of(lambda plan: plan.prediction.memory.device_bytes), "byte"),
    Field("layout", "Layout", best_of(lambda plan: layout_words(plan.job))),
    Field("layouts_evaluated", "Evaluated", lambda row: row.evaluated, "count"),
)

SCALING: tuple[Field[ScalingPoint], ...] = (
    Field("kind", "Scaling", lambda point: point.kind),
    Field("devices", "Devices", lambda point: point.devices, "count"),
    Field("global_batch_sequences", "Global batch", lambda point: point.global_batch, "count"),
    Field("step_s", "Step", lambda point: point.step_s, "s"),
    Field("tokens_per_s", "Tokens/s", lambda point: point.tokens_per_s, "count"),
    Field("efficiency_fraction", "Efficiency", lambda point: point.efficiency, "fraction"),
    Field("working_fraction", "Working", lambda point: point.working_fraction, "fraction"),
    Field("waiting_fraction", "Waiting", lambda point: point.waiting_fraction, "fraction"),
    Field("waiting_has_taken_over", "Taken over", lambda point: yes(answer=point.taken_over)),
    Field("layout", "Layout", lambda point: layout_words(point.job)),
)

SETTINGS: tuple[Field[Settings], ...] = (
    Field("framework", "Framework", lambda one: one.framework),
    Field("file", "File", lambda one: f"settings/{one.file_name}" if one.text else "", style="code"),
    Field("lacks", "Can't express", lambda one: "; ".join(one.lacks), style="long"),
    Field("besides", "To set elsewhere", lambda one: "; ".join(one.besides), style="long"),
)

ASSUMPTIONS: tuple[Field[tuple[str, str]], ...] = (
    Field("about", "About", lambda line: line[0]),
    Field("assumption", "Assumption", lambda line: line[1], style="long"),
)

FAMILIES: tuple[Field[Family], ...] = (
    Field("machine", "Machine", lambda family: family.machine),
    Field("degrees", "Degrees", lambda family: family.degrees),
    Field(
        "need_bytes",
        "Needs at least",
        lambda family: family.need_bytes,
        "byte",
        meaning="its leanest layout, libraries included",
    ),
    Field("capacity_bytes", "Device has", lambda family: family.capacity_bytes, "byte"),
)

REFUSALS: tuple[Field[tuple[str, Refusal]], ...] = (
    Field("machine", "Machine", lambda line: line[0]),
    Field("rule", "Rule", lambda line: line[1].rule, show=lambda line: line[1].rule.replace("_", " ")),
    Field("layouts_count", "Layouts", lambda line: line[1].count, "count"),
    Field("example", "For example", lambda line: line[1].example, style="long"),
)


def build_plan_sheets(answer: Answer) -> tuple[Table, ...]:
    """The tables behind ``plan.csv``, ``capacity.csv``, ``scaling.csv``, ``settings.csv`` and the others."""
    return (
        build_sheet("plan", "Plans", PLANS, answer.plans),
        build_sheet("capacity", "Machines", MACHINES, machine_rows(answer)),
        build_sheet("scaling", "Scaling", SCALING, answer.scaling),
        build_sheet("settings", "Settings of frameworks", SETTINGS, settings_of_best(answer)),
        build_sheet("assumptions", "Assumptions", ASSUMPTIONS, assumptions_of(answer)),
        build_sheet("rejected", "Ruled out", REFUSALS, refusals_of(answer.options)),
        build_sheet("families", "Families that do not fit", FAMILIES, families_of(answer)),
    )


def settings_of_best(answer: Answer) -> tuple[Settings, ...]:
    """What each framework makes of the first plan; nothing where there is none."""
    return settings_of(answer.plans[0]) if answer.plans else ()


def refusals_of(options: Sequence[Option]) -> list[tuple[str, Refusal]]:
    """Machine and refusal."""
    return [(option.name, refusal) for option in options for refusal in option.refusals]


def assumptions_of(answer: Answer) -> list[tuple[str, str]]:
    """(what it is about, the assumption in words); each once."""
    first = answer.options[0].question
    job = first.base
    formats = ", ".join(first.choices.dtype or (job.dtype,))
    lines = [
        ("job", f"{job.model.name}, {job.global_batch} sequences of {job.seq_len} tokens a step, {formats}"),
        ("objective", answer.objective),
        ("memory", f"{format_fraction(first.margin)} of each device is left free"),
    ]
    for option in answer.options:
        basis = option.plans[0].prediction.basis if option.plans else ()
        device = option.question.machine.device.id
        lines += [(device, line) for line in (*option.question.notes, *basis, *option.rates.basis)]
    return list(dict.fromkeys(lines))
