"""Money, energy, limits, fronts and chances by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwprof.errors import InputError
from hwprof.plan.answer.confidence import chance_of_being_faster
from hwprof.plan.answer.cost import bill_of, rates_of, step_limits_s
from hwprof.plan.answer.pareto import front
from hwprof.specs.catalogue.lookup import load_device

H100 = load_device("h100-sxm")


def test_a_bill_by_hand():
    rates = rates_of(H100, usd_per_hour=2.0, watt=1000, pue=1.5)
    bill = bill_of(step_s=3.6, devices=10, steps=1000, rates=rates)
    assert (bill.time_s, bill.device_hours) == (3600, 10)  # 1 h on 10 devices
    assert bill.usd == (20, 20)
    assert bill.energy_kwh == pytest.approx(15)
    assert bill.days == pytest.approx(1 / 24)


def test_rates_of_the_device_file_say_where_they_are_from():
    rates = rates_of(H100)
    assert rates.usd_per_hour == (2.95, 3.99)
    assert rates.watt == 10200 / 8  # a DGX H100 by its datasheet
    assert any("2.95 to 3.99 USD/h (Nebius" in line for line in rates.basis)
    assert any(line.startswith("PUE 1.56: ") and "2024" in line for line in rates.basis)


def test_a_deadline_and_a_budget_bound_the_step():
    rates = rates_of(H100, usd_per_hour=2.0)
    limit = step_limits_s(steps=100, devices=10, rates=rates, deadline_s=1000, budget_usd=None)
    assert limit == {"the deadline": 10}
    # 20 USD / (2 USD/h x 10 devices) = 1 h of 100 steps
    assert step_limits_s(steps=100, devices=10, rates=rates, deadline_s=1e6, budget_usd=20) == {
        "the deadline": 1e4,
        "the budget": 36,
    }
    assert step_limits_s(steps=100, devices=10, rates=rates, deadline_s=None, budget_usd=None) == {}


def test_what_can_not_be_is_refused():
    with pytest.raises(InputError, match=r"PUE of 0\.5"):
        rates_of(H100, pue=0.5)
    cpu = rates_of(load_device("cpu-epyc-9654"))
    with pytest.raises(InputError, match="a budget needs a price"):
        step_limits_s(steps=1, devices=1, rates=cpu, deadline_s=None, budget_usd=1.0)


points = st.lists(st.tuples(*[st.integers(0, 5)] * 3), min_size=1, max_size=30)


@given(points)
def test_the_front_is_what_nobody_beats(found):
    table = np.array(found, dtype=float)
    kept = set(front(table).tolist())
    for place, point in enumerate(found):
        beaten = any(all(r <= p for r, p in zip(rival, point, strict=True)) and rival != point for rival in found)
        if place in kept:
            assert not beaten
        else:
            assert beaten or found.index(point) != place


def test_the_surer_the_further_apart():
    wide = (0.8, 1.25)
    chances = [chance_of_being_faster(1.0, wide, other, (0.8 * other, 1.25 * other)) for other in (1.0, 1.05, 1.2, 2.0)]
    assert chances[0] == 0.5
    assert chances == sorted(chances)
    assert chances[-1] > 0.999
    narrow = chance_of_being_faster(1.0, (0.99, 1.01), 1.05, (1.04, 1.06))
    assert narrow > chances[1]


def test_steps_without_a_spread_are_told_apart_for_sure():
    assert chance_of_being_faster(1.0, (1.0, 1.0), 2.0, (2.0, 2.0)) == 1.0
    assert chance_of_being_faster(2.0, (2.0, 2.0), 1.0, (1.0, 1.0)) == 0.0
    assert chance_of_being_faster(1.0, (1.0, 1.0), 1.0, (1.0, 1.0)) == 0.5
