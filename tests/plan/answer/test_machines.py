"""Options side by side: rankings by each objective, the front by brute force, and why nothing fits."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from hwprof.plan.answer.cost import rates_of
from hwprof.plan.answer.machines import Unable, answer_of, option_of
from hwprof.plan.answer.plans import _affordable
from hwprof.plan.space.question import Choices, Question
from hwprof.predict.machine import machine_of
from hwprof.predict.stacks import stack_named
from hwprof.simulate.prediction import passes_of
from hwprof.specs.catalogue.simulator import simulator_parameters
from hwprof.specs.job.step import TrainingJob

TOKENS = 1e9


@pytest.fixture
def ask(small_model, hand):
    def asked(devices=8, *, capacity="80 GB", usd_per_hour=2.0, watt=500.0, **changes):
        job = {name: changes.pop(name) for name in ("offload",) if name in changes}
        base = TrainingJob(model=small_model, seq_len=512, global_batch=64, **job)
        machine = machine_of(hand.cluster(devices, capacity=capacity))
        fields = {"base": base, "machine": machine, "stack": stack_named("megatron-core")}
        question = Question(**fields | {"table": simulator_parameters()} | changes)
        return option_of(question, rates_of(machine.device, usd_per_hour=usd_per_hour, watt=watt), tokens=TOKENS)

    return asked


@pytest.fixture
def two(ask):
    """A dear machine of 16 devices and a cheap one of 8 that takes more power."""
    return ask(16, usd_per_hour=20.0, watt=100.0), ask(8, usd_per_hour=1.0, watt=1000.0)


def test_plans_of_a_machine_are_ranked_by_their_step(ask):
    option = ask()
    steps = [plan.prediction.step_s for plan in option.plans]
    assert steps == sorted(steps)
    assert [plan.rank for plan in option.plans] == list(range(1, len(steps) + 1))
    assert (option.name, option.reason) == ("8 x hand", "")
    assert option.evaluated == option.founds[0].tally.evaluated
    assert option.search_s == option.founds[0].search_s > 0


@pytest.mark.parametrize(
    ("objective", "value"),
    [
        ("time", lambda plan: plan.bill.time_s),
        ("throughput", lambda plan: -plan.prediction.tokens_per_s_per_device),
        ("cost", lambda plan: sum(plan.bill.usd)),
        ("energy", lambda plan: plan.bill.energy_kwh),
    ],
)
def test_the_best_plan_of_all_machines_is_first(objective, value, two):
    answer = answer_of(two, objective)
    values = [value(plan) for plan in answer.plans]
    assert values == sorted(values)
    assert len(values) == sum(len(option.plans) for option in two)
    assert {plan.devices for plan in answer.plans} == {8, 16}


def test_plans_without_price_or_power_come_last(ask):
    priced, free = ask(8), ask(16, usd_per_hour=None, watt=None)
    for objective in ("cost", "energy"):
        devices = [plan.devices for plan in answer_of((free, priced), objective).plans]
        assert devices == sorted(devices)


def test_the_front_holds_what_no_other_plan_beats(two):
    answer = answer_of(two, "time")

    def measures(plan):
        return (plan.bill.time_s, plan.devices, plan.prediction.memory.device_bytes, sum(plan.bill.usd))

    def beaten(plan):
        mine = measures(plan)
        return any(
            measures(other) != mine and all(theirs <= own for theirs, own in zip(measures(other), mine, strict=True))
            for other in answer.plans
        )

    assert set(map(measures, answer.front)) == {measures(plan) for plan in answer.plans if not beaten(plan)}


def test_what_was_looked_at_adds_up_over_machines(two):
    answer = answer_of(two, "time", [Unable(hardware="x", devices=3, reason="no such machine")])
    assert answer.evaluated == sum(option.evaluated for option in two)
    assert answer.search_s == sum(option.search_s for option in two)
    for rule, count in answer.rejected.items():
        assert count == sum(each.count for option in two for each in option.refusals if each.rule == rule)
    assert answer.unable[0].hardware == "x"


def test_a_machine_on_which_nothing_fits_says_by_how_much(ask):
    option = ask(capacity="1 GB")
    assert option.plans == ()
    assert option.reason.startswith("the leanest layout needs ")
    assert "device has" in option.reason
    assert answer_of([option], "time").front == ()


def test_a_limit_that_no_layout_keeps_is_the_reason(ask):
    option = ask(longest_step_s=1e-6, limit="the deadline")
    assert option.plans == ()
    assert option.reason.endswith("the deadline leaves 1 µs")
    assert {each.rule for each in option.refusals} >= {"inside_limits"}


def test_host_memory_that_offload_overfills_is_the_reason(ask):
    option = ask(offload="optimizer", host_memory_bytes=1e6, choices=Choices(offload=("optimizer",)))
    assert option.plans == ()
    assert option.reason.startswith("offload of optimizer needs ")
    assert "for 8 device(s)" in option.reason


def test_the_most_frequent_rule_is_the_reason_where_no_layout_comes_to_be_timed(ask):
    option = ask(choices=Choices(tensor=(8,)))
    counts = [each.count for each in option.refusals]
    assert counts == sorted(counts, reverse=True)
    assert option.reason == option.refusals[0].example == "4 heads do not divide by tensor parallel 8"


def test_no_way_to_divide_the_devices_is_said(ask):
    assert ask(choices=Choices(tensor=(3,))).reason == "--tp 3 does not divide 8 devices (nearest: 2 and 4)"


def test_long_pipelines_are_fewer_finalists_and_the_fastest_is_among_them():
    """70B in 16 M tokens a step on 32 devices: hundreds of thousands of passes a layout."""
    short, long = (
        SimpleNamespace(layout=SimpleNamespace(pipeline_parallel=4, chunks=1), micro_batches=count)
        for count in (64, 65_536)
    )
    assert [passes_of(job) for job in (short, long)] == [512, 524_288]
    assert _affordable([long, short, short]) == [long]
    assert _affordable([short, short, long, short]) == [short, short]
