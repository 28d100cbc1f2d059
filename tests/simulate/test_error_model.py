"""Intervals by hand, and that they only widen with what makes a prediction less sure."""

from __future__ import annotations

import math

import pytest

from hwprof.simulate.error_model import UNKNOWN_DEVICE, circumstances, interval
from hwprof.specs.catalogue.simulator import ErrorModel, simulator_parameters

MODEL = ErrorModel(coefficients={"base": math.log(0.1), "experts": math.log(2)}, low=-1, high=2)


def test_an_interval_by_hand():
    assert interval(10.0, MODEL, ()) == pytest.approx((10 * math.exp(-0.1), 10 * math.exp(0.2)))
    assert interval(10.0, MODEL, ("experts",)) == pytest.approx((10 * math.exp(-0.2), 10 * math.exp(0.4)))


def test_a_circumstance_that_was_not_fitted_changes_nothing():
    assert interval(10.0, MODEL, ("weather",)) == interval(10.0, MODEL, ())


def test_an_unknown_device_widens():
    low, high = interval(10.0, MODEL, (), known_device=False)
    assert (low, high) == pytest.approx(
        (10 * math.exp(-0.1 * math.exp(UNKNOWN_DEVICE)), 10 * math.exp(0.2 * math.exp(UNKNOWN_DEVICE)))
    )


def test_what_holds_of_a_job(placed):
    plain, machine, _ = placed("llama-3.1-8b", 8, layout={"data_parallel": 8})
    assert circumstances(plain, machine) == ()
    assert circumstances(plain, machine, recompute_stated=False) == ("recompute not stated",)
    layout = {"data_parallel": 4, "pipeline_parallel": 4}
    job, machine, _ = placed("mixtral-8x7b", 16, layout=layout, dtype="fp8", attention="materialised")
    assert set(circumstances(job, machine)) == {
        "experts",
        "narrow products",
        "pipeline",
        "several domains",
        "stored scores",
    }
    small, machine, _ = placed("gpt2-124m", 1, seq_len=1024)
    assert circumstances(small, machine) == ("small model",)


def test_the_shipped_intervals_hold_the_prediction():
    table = simulator_parameters()
    for model in (table.step_time, table.memory):
        low, high = interval(1.0, model, tuple(model.coefficients))
        assert low < 1 < high
