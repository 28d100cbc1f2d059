"""How does the planner's answer look as tables? Plans, machines side by side, and what both rest on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from hwprof.plan.answer import Answer, Option, Refusal
from hwprof.plan.plans import Plan
from hwprof.report.cells import Field, Table, Value, build_sheet, yes


def _usd(plan: Plan | None, end: int) -> Value:
    return plan.bill.usd[end] if plan is not None and plan.bill.usd else None


def _layers_again(plan: Plan) -> int:
    return 0 if plan.job.recompute == "none" else plan.job.recompute_layers or plan.job.model.layers


def layout_words(plan: Plan) -> str:
    """A layout in one line, as engineers write it: ``tp8 pp16 vp2 dp64 zero1 mb1``; degrees of 1 are left out."""
    layout, job = plan.job.layout, plan.job
    degrees = {
        "tp": layout.tensor_parallel,
        "cp": layout.context_parallel,
        "pp": layout.pipeline_parallel,
        "vp": layout.virtual_stages,
        "ep": layout.expert_parallel,
        "dp": layout.data_parallel,
    }
    words = [f"{name}{degree}" for name, degree in degrees.items() if degree > 1]
    words += [f"zero{layout.zero_stage}"] if layout.zero_stage else []
    words += [f"over{layout.shard_ranks}"] if layout.shard_ranks else []
    words += [f"mb{job.micro_batch}"]
    return " ".join(
        words + ([f"{job.recompute} recompute in {_layers_again(plan)} layers"] * (job.recompute != "none"))
    )


_PLANS: tuple[Field[Plan], ...] = (
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
    Field("zero_stage", "ZeRO stage", lambda plan: plan.job.layout.zero_stage, "count"),
    Field("shard_ranks", "ZeRO shards over", lambda plan: plan.job.layout.shards, "count"),
    Field("micro_batch_sequences", "Micro-batch", lambda plan: plan.job.micro_batch, "count"),
    Field("micro_batches", "Micro-batches", lambda plan: plan.job.micro_batches, "count"),
    Field("recompute", "Recompute", lambda plan: plan.job.recompute),
    Field("recompute_layers", "Layers recomputed", _layers_again, "count"),
    Field("schedule", "Schedule", lambda plan: plan.job.layout.schedule),
    Field("step_s", "Step", lambda plan: plan.prediction.step_s, "s"),
    Field("step_lo_s", "Step from", lambda plan: plan.prediction.interval_s[0], "s"),
    Field("step_hi_s", "Step to", lambda plan: plan.prediction.interval_s[1], "s"),
    Field("faster_than_next_probability", "Faster than the next", lambda plan: plan.ahead, "fraction"),
    Field(
        "tokens_per_s_per_device",
        "Tokens/s/device",
        lambda plan: plan.prediction.tokens_per_s_per_device,
        "count",
    ),
    Field("mfu_fraction", "MFU", lambda plan: plan.prediction.mfu, "fraction"),
    Field("bound", "Bound", lambda plan: plan.prediction.bound),
    Field("memory_bytes", "Memory", lambda plan: plan.prediction.memory.device_bytes, "byte"),
    Field("memory_hi_bytes", "Memory up to", lambda plan: plan.prediction.memory_interval_bytes[1], "byte"),
    Field("capacity_bytes", "Capacity", lambda plan: plan.question.machine.capacity_bytes, "byte"),
    Field("steps_count", "Steps", lambda plan: plan.bill.steps, "count"),
    Field("time_days", "Days", lambda plan: plan.bill.days),
    Field("cost_lo_usd", "Cost from", lambda plan: _usd(plan, 0)),
    Field("cost_hi_usd", "Cost to", lambda plan: _usd(plan, 1)),
    Field("energy_kwh", "Energy", lambda plan: plan.bill.energy_kwh),
)


@dataclass(frozen=True, slots=True)
class _Side:
    """One machine with its best plan, if there is one."""

    option: Option
    best: Plan | None


def _best(read: Callable[[Plan], Value]) -> Callable[[_Side], Value]:
    """What to read of a machine's best plan; nothing where it has none."""
    return lambda side: None if side.best is None else read(side.best)


_CAPACITY: tuple[Field[_Side], ...] = (
    Field("hardware", "Hardware", lambda side: side.option.question.machine.device.id),
    Field("devices", "Devices", lambda side: side.option.question.machine.devices, "count"),
    Field("fits", "Fits", lambda side: yes(answer=side.best is not None)),
    Field("reason", "Reason", lambda side: side.option.reason),
    Field("step_s", "Step", _best(lambda plan: plan.prediction.step_s), "s"),
    Field("step_lo_s", "Step from", _best(lambda plan: plan.prediction.interval_s[0]), "s"),
    Field("step_hi_s", "Step to", _best(lambda plan: plan.prediction.interval_s[1]), "s"),
    Field("tokens_per_s", "Tokens/s", _best(lambda plan: plan.tokens_per_s), "count"),
    Field("mfu_fraction", "MFU", _best(lambda plan: plan.prediction.mfu), "fraction"),
    Field("bound", "Bound", _best(lambda plan: plan.prediction.bound)),
    Field("time_days", "Days", _best(lambda plan: plan.bill.days)),
    Field("cost_lo_usd", "Cost from", lambda side: _usd(side.best, 0)),
    Field("cost_hi_usd", "Cost to", lambda side: _usd(side.best, 1)),
    Field("energy_kwh", "Energy", _best(lambda plan: plan.bill.energy_kwh)),
    Field("memory_bytes", "Memory", _best(lambda plan: plan.prediction.memory.device_bytes), "byte"),
    Field("layout", "Layout", _best(layout_words)),
    Field("layouts_evaluated", "Evaluated", lambda side: side.option.found.tally.evaluated, "count"),
)

_ASSUMPTIONS: tuple[Field[tuple[str, str]], ...] = (
    Field("about", "About", lambda line: line[0]),
    Field("assumption", "Assumption", lambda line: line[1]),
)

_REFUSALS: tuple[Field[tuple[str, Refusal]], ...] = (
    Field("machine", "Machine", lambda line: line[0]),
    Field("rule", "Rule", lambda line: line[1].rule),
    Field("layouts_count", "Layouts", lambda line: line[1].count, "count"),
    Field("example", "For example", lambda line: line[1].example),
)


def build_plan_sheets(answer: Answer) -> tuple[Table, ...]:
    """The tables behind ``plan.csv``, ``capacity.csv``, ``assumptions.csv`` and ``rejected.csv``."""
    sides = [_Side(option, option.plans[0] if option.plans else None) for option in answer.options]
    refusals = [(option.name, refusal) for option in answer.options for refusal in option.refusals]
    return (
        build_sheet("plan", "Plans", _PLANS, answer.plans),
        build_sheet("capacity", "Machines", _CAPACITY, sides),
        build_sheet("assumptions", "Assumptions", _ASSUMPTIONS, list(_assumptions(answer))),
        build_sheet("rejected", "Ruled out", _REFUSALS, refusals),
    )


def _assumptions(answer: Answer) -> Iterator[tuple[str, str]]:
    first = answer.options[0].question
    job = first.base
    yield "job", f"{job.model.name}, {job.global_batch} sequences of {job.seq_len} tokens a step, {job.dtype}"
    yield "objective", answer.objective
    yield "memory", f"{100 * first.margin:g} % of each device is left free"
    seen: set[tuple[str, str]] = set()
    for option in answer.options:
        basis = option.plans[0].prediction.basis if option.plans else ()
        for line in (*option.question.notes, *basis, *option.rates.basis):
            pair = (option.question.machine.device.id, line)
            if pair not in seen:
                seen.add(pair)
                yield pair
