"""Which parallel layouts would a measured run have on a cluster? The planner's answer as rows of the run's report."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from hwprof.errors import InputError
from hwprof.plan.advice.from_run import TORCH, calibrated, job_of_run
from hwprof.plan.answer.cost import rates_of
from hwprof.plan.answer.machines import Option, option_of
from hwprof.plan.answer.plans import Plan
from hwprof.plan.space.constraints import memory_reason
from hwprof.plan.space.question import Question
from hwprof.predict.machine import Machine, machine_of
from hwprof.simulate.parts import COMMUNICATION, StepPart
from hwprof.specs.catalogue.simulator import SimulatorParameters
from hwprof.specs.hardware.spec import ClusterSpec
from hwprof.specs.record.run import LayoutRow, RunRecord
from hwprof.units import format_fraction

INFEASIBLE_ROWS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class LayoutSurvey:
    """What was looked at, and what is worth showing.

    Attributes:
        rows: layouts that fit, best first, then families of degrees that don't with their reasons.
        evaluated: layouts looked at.
        rejected: how many of them broke each constraint.
        assumptions: what the predictions rest on, in words.
    """

    rows: tuple[LayoutRow, ...]
    evaluated: int
    rejected: dict[str, int]
    assumptions: tuple[str, ...]


def survey_for(
    record: RunRecord, cluster: ClusterSpec, table: SimulatorParameters, *, global_batch_tokens: int | None = None
) -> LayoutSurvey:
    """Layouts of the run's step on ``cluster``.

    Where the cluster is made of the device that ran, the run's ceilings and residual calibrate the predictions.

    Args:
        record: a run.
        cluster: the devices.
        table: the simulator's fitted parameters.
        global_batch_tokens: tokens of one step over all devices; the run's tokens a step on each device by default.

    Raises:
        InputError: the global batch holds no whole sequence.
        SpecError: the cluster lacks a number that memory or time need.
    """
    machine, settings = _sized(machine_of(cluster), record), record.run_settings
    tokens = settings.tokens_per_step * machine.devices if global_batch_tokens is None else global_batch_tokens
    if tokens < settings.seq_len:
        raise InputError(
            f"a global batch of {tokens} tokens holds no sequence of {settings.seq_len}",
            remedy=f"give at least {settings.seq_len} tokens",
        )
    question = Question(
        base=job_of_run(record).changed(global_batch=tokens // settings.seq_len, recompute="none"),
        machine=machine,
        stack=TORCH,
        table=table,
    )
    notes: tuple[str, ...] = ()
    if record.device.catalogue_id == cluster.device.id:
        found = calibrated(record, table, replace(machine, devices=1))
        question, notes = replace(question, table=found.table, memory_scale=found.memory_scale), found.notes
    option = option_of(question, rates_of(machine.device))
    return LayoutSurvey(
        rows=tuple(_rows(option, cluster.id)),
        evaluated=option.evaluated,
        rejected={refusal.rule: refusal.count for refusal in option.refusals},
        assumptions=(*notes, *_assumptions(option)),
    )


def _sized(machine: Machine, record: RunRecord) -> Machine:
    """With the memory that the run found, where the device's file does not say."""
    memory = machine.device.memory
    if memory.capacity_bytes is not None or record.device.memory_bytes is None:
        return machine
    known = memory.changed(capacity_bytes=record.device.memory_bytes)
    return replace(machine, device=machine.device.changed(memory=known))


def _rows(option: Option, cluster: str) -> Iterable[LayoutRow]:
    yield from (_feasible(plan, cluster) for plan in option.plans)
    tally, count = option.founds[0].tally, len(option.plans)
    capacity = option.question.machine.capacity_bytes
    worst = sorted(tally.family_bytes.items(), key=lambda family: family[1])[:INFEASIBLE_ROWS]
    for rank, ((tensor, _, pipeline, data, _), need) in enumerate(worst, start=count + 1):
        yield LayoutRow(
            rank=rank,
            cluster=cluster,
            devices=option.question.machine.devices,
            data_parallel=data,
            tensor_parallel=tensor,
            pipeline_parallel=pipeline,
            zero_stage=0,
            micro_batch=1,
            gradient_accumulation=option.question.base.global_batch // data,
            recompute="full",
            fits=False,
            reason="at its leanest " + memory_reason(need, option.question),
            memory_bytes=need,
            capacity_bytes=capacity,
        )


def _feasible(plan: Plan, cluster: str) -> LayoutRow:
    job, layout, found = plan.job, plan.job.layout, plan.prediction
    parts = found.breakdown_s
    communication_s = sum(value for part, value in parts.items() if part in COMMUNICATION)
    bubble_s = parts.get(StepPart.BUBBLE, 0.0)
    return LayoutRow(
        rank=plan.rank,
        cluster=cluster,
        devices=plan.devices,
        data_parallel=layout.data_parallel,
        tensor_parallel=layout.tensor_parallel,
        pipeline_parallel=layout.pipeline_parallel,
        zero_stage=layout.zero_stage,
        micro_batch=job.micro_batch,
        gradient_accumulation=job.micro_batches,
        recompute=job.recompute,
        fits=True,
        reason=_composition(plan),
        memory_bytes=found.memory.device_bytes,
        capacity_bytes=plan.question.machine.capacity_bytes,
        step_s=found.step_s,
        step_lo_s=found.interval_s[0],
        step_hi_s=found.interval_s[1],
        tokens_per_s_per_device=found.tokens_per_s_per_device,
        mfu=found.mfu,
        compute_s=found.step_s - communication_s - bubble_s,
        communication_s=communication_s,
        bubble_s=bubble_s,
        bound=found.bound,
    )


def _composition(plan: Plan) -> str:
    """The largest parts of the step, and what else sets the layout apart."""
    found, layout = plan.prediction, plan.job.layout
    parts = sorted(found.breakdown_s.items(), key=lambda part: -part[1])[:4]
    shown = ", ".join(f"{name} {format_fraction(value / found.step_s)}" for name, value in parts if value > 0)
    extra = [f"context parallel {layout.context_parallel}"] if layout.context_parallel > 1 else []
    extra += [f"{layout.schedule} schedule"] if layout.pipeline_parallel > 1 else []
    extra += [f"{plan.job.recompute_layers} layers recompute"] if plan.job.recompute_layers else []
    return "; ".join((shown, *extra))


def _assumptions(option: Option) -> tuple[str, ...]:
    question = option.question
    basis = option.plans[0].prediction.basis if option.plans else ()
    return (
        *basis,
        f"{format_fraction(question.margin)} of each device's memory is kept free",
        (
            f"one step is {question.base.global_batch} sequences of {question.base.seq_len} tokens on "
            f"{question.machine.devices} devices"
        ),
    )
