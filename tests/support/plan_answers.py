"""Answers of the planner for a small model on small machines."""

from __future__ import annotations

from dataclasses import replace

from hwprof.plan.answer.cost import rates_of
from hwprof.plan.answer.machines import Answer, Unable, answer_of, option_of
from hwprof.plan.answer.scaling import scaling
from hwprof.plan.space.question import Question
from hwprof.predict.machine import machine_of
from hwprof.predict.stacks import stack_named
from hwprof.specs.catalogue.lookup import load_cluster, load_model
from hwprof.specs.catalogue.simulator import simulator_parameters
from hwprof.specs.job.step import TrainingJob


def option(hardware: str, devices: int, name: str = "llama-3.2-1b", tokens: float | None = 1e9):
    model = load_model("1b").model_copy(update={"name": name})
    base = TrainingJob(model=model, seq_len=1024, global_batch=16)
    machine = machine_of(load_cluster(f"{devices}x{hardware}"))
    question = Question(base=base, machine=machine, stack=stack_named("megatron-core"), table=simulator_parameters())
    return option_of(question, rates_of(machine.device, usd_per_hour=2.0), tokens=tokens)


def make_answer() -> Answer:
    """Two machines, one that is too small, one that does not exist; with scaling."""
    options = [option("h100-sxm", 4), option("h100-sxm", 8), option("t4", 1)]
    found = answer_of(options, "time", [Unable(hardware="rtx-4090", devices=64, reason="no usual network is known")])
    question = found.plans[0].question

    def machine_at(devices: int):
        return machine_of(load_cluster(f"{devices}xh100-sxm"))

    return replace(found, scaling=(*scaling(question, "strong", machine_at), *scaling(question, "weak", machine_at)))
