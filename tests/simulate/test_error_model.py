"""Intervals by hand, and that they only widen with what makes a prediction less sure."""

from __future__ import annotations

import dataclasses
import math

import pytest

from hwprof.predict.machine import machine_of
from hwprof.predict.stacks import stack_named
from hwprof.simulate.error_model import UNKNOWN, Known, circumstances, interval, known_of
from hwprof.specs.catalogue.lookup import load_cluster
from hwprof.specs.catalogue.simulator import ErrorModel, simulator_parameters

MODEL = ErrorModel(coefficients={"base": math.log(0.1), "experts": math.log(2)}, low=-1, high=2)


def test_an_interval_by_hand():
    assert interval(10.0, MODEL, ()) == pytest.approx((10 * math.exp(-0.1), 10 * math.exp(0.2)))
    assert interval(10.0, MODEL, ("experts",)) == pytest.approx((10 * math.exp(-0.2), 10 * math.exp(0.4)))


def test_a_circumstance_that_was_not_fitted_changes_nothing():
    assert interval(10.0, MODEL, ("weather",)) == interval(10.0, MODEL, ())


KNOWN = Known(software=True, device=True, kernels=True, recompute=True, network=True)


def test_what_holds_of_a_job(placed):
    plain, machine, _ = placed("llama-3.1-8b", 8, layout={"data_parallel": 8})
    assert circumstances(plain, machine, KNOWN) == ()
    layout = {"data_parallel": 4, "pipeline_parallel": 4}
    job, machine, _ = placed("mixtral-8x7b", 16, layout=layout, dtype="fp8", attention="materialised")
    assert set(circumstances(job, machine, KNOWN)) == {
        "experts",
        "narrow products",
        "pipeline",
        "several domains",
        "stored scores",
    }
    small, machine, _ = placed("gpt2-124m", 1, seq_len=1024)
    assert circumstances(small, machine, KNOWN) == ("small model",)


@pytest.mark.parametrize(
    ("fact", "name"), list(zip(("software", "device", "kernels", "recompute", "network"), UNKNOWN, strict=True))
)
def test_what_is_not_known_is_a_circumstance_that_never_narrows(fact, name, placed):
    job, machine, _ = placed("llama-3.1-8b", 16, layout={"data_parallel": 16})
    names = circumstances(job, machine, dataclasses.replace(KNOWN, **{fact: False}))
    assert name in names
    shipped = simulator_parameters().step_time
    known, unknown = (interval(1.0, shipped, each) for each in (circumstances(job, machine, KNOWN), names))
    assert unknown[0] <= known[0] < known[1] <= unknown[1]


def test_software_and_devices_without_runs_are_not_known():
    table = simulator_parameters()
    machine = machine_of(load_cluster("8xh100-sxm"))
    assert known_of(machine, stack_named("megatron-core-eager"), table) == KNOWN
    assert not known_of(machine, stack_named("internevo"), table).software
    other = known_of(machine_of(load_cluster("8xgaudi3")), stack_named("megatron-core"), table)
    assert (other.device, other.kernels) == (False, False)


def test_the_shipped_intervals_hold_the_prediction():
    table = simulator_parameters()
    for model in (table.step_time, table.memory):
        low, high = interval(1.0, model, tuple(model.coefficients))
        assert low < 1 < high
