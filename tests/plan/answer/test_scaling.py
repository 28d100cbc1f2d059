"""Do scaling curves mean what they say?"""

from __future__ import annotations

import pytest

from hwprof.errors import InputError
from hwprof.plan.answer.scaling import WAITING, WORKING, ScalingPoint, scaling, taken_over_at
from hwprof.plan.space.question import Choices, Question
from hwprof.plan.space.search import search
from hwprof.predict.machine import machine_of
from hwprof.predict.stacks import stack_named
from hwprof.specs.catalogue.simulator import simulator_parameters
from hwprof.specs.job.step import TrainingJob


@pytest.fixture
def question(small_model, hand):
    def ask(devices: int = 16, **changes):
        base = TrainingJob(model=small_model, seq_len=512, global_batch=64)
        fields = {"base": base, "machine": machine_of(hand.cluster(devices)), "stack": stack_named("megatron-core")}
        return Question(**(fields | {"table": simulator_parameters()} | changes))

    return ask


@pytest.fixture
def machine_at(hand):
    return lambda devices: machine_of(hand.cluster(devices))


def test_a_point_is_the_best_layout_of_its_own_search(question, machine_at):
    points = {point.devices: point for point in scaling(question(), "strong", machine_at)}
    found = search(question(8))
    assert points[8].step_s == pytest.approx(found.times.step_s.min())
    assert points[8].job.layout.devices == 8
    assert points[8].tokens_per_s == pytest.approx(64 * 512 / points[8].step_s)


def test_parts_of_waiting_are_parts_of_the_step(question):
    parts = set(search(question(8)).times.parts)
    assert parts - set(WAITING) - set(WORKING) == {"host", "fixed", "offload"}
    assert set(WAITING) | set(WORKING) < parts


def test_a_small_model_ends_where_waiting_takes_over(question, machine_at):
    points = scaling(question(), "strong", machine_at)
    late = taken_over_at(points)
    assert late == points[-1].devices
    assert [point.taken_over for point in points] == [False] * (len(points) - 1) + [True]


def test_weak_batches_grow_with_the_devices(question, machine_at):
    points = scaling(question(), "weak", machine_at)
    assert {point.global_batch / point.devices for point in points} == {4}


def test_counts_without_a_machine_are_left_out(question, hand):
    def only_a_node(devices: int):
        if devices > 8:
            raise InputError("no such machine")
        return machine_of(hand.cluster(devices))

    assert [point.devices for point in scaling(question(8), "strong", only_a_node)] == [1, 2, 4, 8]


def test_a_fixed_data_degree_binds_its_own_count_alone(question, machine_at):
    points = scaling(question(choices=Choices(data=(16,))), "strong", machine_at)
    assert {4, 8, 16} <= {point.devices for point in points}


def test_nothing_that_fits_is_an_empty_curve(question, hand):
    tiny = machine_of(hand.cluster(16, capacity="1 GB"))
    assert (
        scaling(question(machine=tiny), "strong", lambda devices: machine_of(hand.cluster(devices, capacity="1 GB")))
        == ()
    )


def test_not_taken_over_is_none():
    job = None
    point = ScalingPoint(
        kind="weak",
        devices=8,
        global_batch=8,
        job=job,
        step_s=1.0,
        tokens_per_s=1.0,
        efficiency=1.0,
        working_fraction=0.5,
        waiting_fraction=0.5,
    )
    assert taken_over_at([point]) is None
