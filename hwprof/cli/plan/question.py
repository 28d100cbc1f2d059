"""What is asked of one machine? Options of ``hwprof plan`` to a question, and what its devices cost."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hwprof.cli.job_options import (
    job_of,
    seq_len_of,
    shapes_of,
    stack_of,
)
from hwprof.cli.plan.goals import limited, limits_typed, reliability_typed
from hwprof.errors import InputError
from hwprof.plan.advice.from_run import calibrated, job_of_run
from hwprof.plan.answer.cost import DAY_S, RunningRates, rates_of, step_limits_s, steps_of
from hwprof.plan.answer.plans import whole_run
from hwprof.plan.answer.power import cap_within
from hwprof.plan.space.question import Choices, Question
from hwprof.predict.machine import Machine, machine_of, with_power_cap
from hwprof.predict.stacks import Stack
from hwprof.session.captured import LINE, counted_model
from hwprof.specs.catalogue.lookup import cluster_of
from hwprof.specs.catalogue.simulator import simulator_parameters
from hwprof.specs.frozen import default_of
from hwprof.specs.hardware.spec import ClusterSpec, DeviceSpec, Memory
from hwprof.specs.job.step import TrainingJob
from hwprof.specs.job.switches import JobDtype
from hwprof.specs.model.spec import ModelSpec
from hwprof.specs.record.run import RunRecord
from hwprof.units import parse_typed


def machine_for(hardware: str, devices: int, typed: dict[str, Any]) -> Machine:
    """So many devices of a name, in their usual nodes, under the power cap that was typed.

    Raises:
        InputError: there is no such device, or so many of it are not defined, or a cap does not suit it.
    """
    machine = machine_of(_with_memory(cluster_of(devices, hardware), typed["device_memory"]))
    return with_power_cap(machine, _cap_watt(machine, typed))


def _cap_watt(machine: Machine, typed: dict[str, Any]) -> float | None:
    """As typed; else what keeps a number of devices that was typed within the power of the site."""
    if typed["power_cap"] is not None or typed["site_power"] is None or not typed["devices"] or typed["watt"]:
        return typed["power_cap"]  # type: ignore[no-any-return]
    return cap_within(machine.device, machine.devices, site_watt=typed["site_power"], pue=typed["pue"])


def asked(
    hardware: str, devices: int, typed: dict[str, Any], record: RunRecord | None, *, batch: int | None = None
) -> tuple[Question, RunningRates]:
    """The question of one machine; ``batch`` in place of the one that was typed."""
    typed = typed | {"batch_asked": typed["global_batch"], "global_batch": batch or typed["global_batch"]}
    machine = machine_for(hardware, devices, typed)
    cpu = machine.device.kind == "cpu"
    stack = stack_of(typed | {"stack": typed["stack"] or ("torch" if cpu or record else None)})
    base = _base(typed, stack, record)
    rates = rates_of(
        machine.device,
        devices,
        usd_per_hour=typed["price"],
        watt=typed["watt"],
        pue=typed["pue"],
        g_per_kwh=typed["grid"],
        cap_watt=machine.power_cap_watt,
    )
    if typed["etp"] and base.model.moe is None:
        raise InputError(f"{base.model.name} has no experts that devices could share", remedy="leave --etp out")
    question = Question(
        base=base,
        machine=machine,
        stack=stack,
        table=simulator_parameters(),
        choices=_choices(typed),
        margin=typed["memory_margin"],
        host_memory_bytes=_host_memory(typed),
        notes=(*_notes(typed, base), *_cap_notes(machine)),
    )
    question = replace(question, **_longest(typed, question, rates))
    if record is not None and record.device.catalogue_id == machine.device.id:
        found = calibrated(record, question.table, replace(machine, devices=1))
        question = replace(
            question, table=found.table, memory_scale=found.memory_scale, notes=(*question.notes, *found.notes)
        )
    return question, rates


def _host_memory(typed: dict[str, Any]) -> float | None:
    if typed["host_memory"] is None:
        return None
    if not typed["offload"] or set(typed["offload"]) == {"none"}:
        raise InputError("--host-memory bounds nothing without offload", remedy="give --offload too")
    found = parse_typed(typed["host_memory"], "byte")
    if not found:
        raise InputError(
            "--host-memory 0 leaves no room for offload", remedy="leave --offload out, or give what a node has"
        )
    return found


def _with_memory(cluster: ClusterSpec, text: str | None) -> ClusterSpec:
    """The cluster with a device's memory of ``text``, where its file does not say."""
    if cluster.device.memory.capacity_bytes is not None:
        return cluster
    if text is None:
        raise InputError(
            f"the memory of {cluster.device.id} is not known", remedy="give --device-memory, such as 512GB"
        )
    device = cluster.device  # from values in base units, which were checked when the file was read
    memory = Memory.model_construct(**dict(device.memory) | {"capacity_bytes": parse_typed(text, "byte")})
    own = DeviceSpec.model_construct(**dict(device) | {"memory": memory})
    return ClusterSpec.model_construct(**dict(cluster) | {"device": own})


def _base(typed: dict[str, Any], stack: Stack, record: RunRecord | None) -> TrainingJob:
    """The job as typed; what was not typed is the run's, if there is one."""
    run = job_of_run(record) if record is not None else None
    model = model_of(typed, record)
    ran = {name: getattr(run, field) for name, field in _OF_RUN.items()} if run else {}
    said = typed | {name: value for name, value in ran.items() if typed[name] is None} | dict.fromkeys(_CHOSEN)
    return job_of(
        said,
        stack,
        model=model,
        seq_len=said["seq_len"] or seq_len_of(model),
        global_batch=typed["global_batch"],
        dtype=typed["dtype"][0] if typed["dtype"] else run.dtype if run else default_of(TrainingJob, "dtype"),
        optimizer=said["optimizer"] or default_of(TrainingJob, "optimizer"),
    )


_OF_RUN = {"compile": "compiled", "fused": "fused", "optimizer": "optimizer", "seq_len": "seq_len"}
_CHOSEN = ("micro_batch", "recompute", "offload")
"""What the search sets in each layout."""


def _choices(typed: dict[str, Any]) -> Choices:
    plain = Choices()
    return Choices(
        tensor=typed["tp"] or (),
        context=typed["cp"] or (),
        pipeline=typed["pp"] or (),
        data=typed["dp"] or (),
        expert=typed["ep"] or (),
        expert_tensor=typed["etp"] or (),
        virtual=typed["vp"] or (),
        micro_batch=typed["micro_batch"] or (),
        zero=typed["zero"] or plain.zero,
        recompute=typed["recompute"] or plain.recompute,
        schedule=typed["schedule"] or (),
        sequence_parallel=_switched(typed["sequence_parallel"]),
        overlap=_switched(typed["overlap"]),
        dtype=typed["dtype"] or (),
        offload=typed["offload"] or plain.offload,
        context_kind=typed["context_kind"] or plain.context_kind,
        hybrid=not typed["no_hybrid"],
    )


def _switched(given: tuple[str, ...] | None) -> tuple[bool, ...]:
    return tuple(value == "on" for value in given or ("on",))


def model_of(typed: dict[str, Any], record: RunRecord | None) -> ModelSpec:
    """The model that was typed, or that of the run; should it have to be captured, at two batch sizes."""
    if typed["model"]:
        dtype: JobDtype = typed["dtype"][0] if typed["dtype"] else "bf16"
        return counted_model(typed["model"], shapes_of(typed, dtype=dtype, batch_sizes=LINE))
    assert record is not None
    return job_of_run(record).model


def _notes(typed: dict[str, Any], base: TrainingJob) -> tuple[str, ...]:
    assumed, asked = typed.get("batch_assumed"), typed.get("batch_asked") or base.global_batch
    million = asked * base.seq_len / 1e6
    told = f"--global-batch not given: {asked:,} sequences, {million:.3g} M tokens a step, as published runs had"
    moved = f"--global-batch moved from {asked:,} to {base.global_batch:,} so that it divides (--batch-tolerance)"
    captured = [f"model: {base.model.notes}"] if base.model.captured else []
    notes = (*captured, *([told] if assumed else []), *([moved] if asked != base.global_batch else []))
    longest_s = typed.get("time_assumed")
    if longest_s is None:
        return notes
    days = f"a budget alone: the cheapest that is done in {longest_s / DAY_S:.0f} days, as BLOOM was"
    return (*notes, f"{days} (--deadline says otherwise)" if longest_s else "nothing in the budget is done in 117 days")


def _cap_notes(machine: Machine) -> tuple[str, ...]:
    cap_watt = machine.power_cap_watt
    return () if cap_watt is None else (f"{machine.device.id} capped at {cap_watt:.0f} W",)


def _longest(typed: dict[str, Any], question: Question, rates: RunningRates) -> dict[str, Any]:
    """The longest step that keeps to a deadline and a budget, failures included."""
    if not limited(typed):
        return {}
    limits = limits_typed(typed, question.base.global_batch)
    devices, steps = question.machine.devices, steps_of(question.base, limits.tokens)
    goodput = whole_run(question, limits.tokens, reliability_typed(typed, devices))
    assert goodput is not None
    found = step_limits_s(
        steps=steps,
        devices=devices,
        rates=rates,
        deadline_s=limits.deadline_s,
        budget_usd=limits.budget_usd,
        goodput=goodput,
    )
    name, longest_s = min(found.items(), key=lambda each: each[1])
    rate = steps / goodput.fraction / DAY_S, "days"
    if name == "the budget":
        assert limits.budget_usd is not None
        rate = limits.budget_usd / longest_s, "USD"
    return {"longest_step_s": longest_s, "limit": name, "limit_rate": rate}
