"""How many devices: against every count one by one; power against ratings; the nearest change works."""

from __future__ import annotations

import re
from dataclasses import replace
from types import SimpleNamespace

import pytest

from hwprof.errors import InputError
from hwprof.plan.answer.cost import bill_of, rates_of
from hwprof.plan.answer.fleet import Limits, best_plan, fleet_of
from hwprof.plan.answer.machines import option_of
from hwprof.plan.answer.nearest import nearest_change
from hwprof.plan.answer.power import cap_within, network_watt, power_of
from hwprof.plan.goodput.reliability import reliability_of
from hwprof.plan.space.question import Choices, Question
from hwprof.predict.machine import machine_of
from hwprof.predict.stacks import stack_named
from hwprof.specs.catalogue.lookup import load_cluster, load_device, load_model
from hwprof.specs.catalogue.simulator import simulator_parameters
from hwprof.specs.job.step import TrainingJob

NARROW = Choices(tensor=(1, 2), context=(1,), pipeline=(1, 2), zero=(1,), recompute=("none",), hybrid=False)
DAY_S = 86400.0


def ask(devices, batch):
    base = TrainingJob(model=load_model("8b"), seq_len=4096, global_batch=batch)
    machine = machine_of(load_cluster(f"{devices}xh100-sxm"))
    question = Question(
        base=base, machine=machine, stack=stack_named("megatron-core"), table=simulator_parameters(), choices=NARROW
    )
    return question, rates_of(machine.device, devices)


def limits(**said):
    usual = {"tokens": 1e12, "deadline_s": None, "budget_usd": None, "site_watt": None, "most_devices": None}
    return Limits(**usual | {"batch": 1024, "batch_tolerance": 0.15} | said)


RELIABLE = reliability_of()


def bills(counts, asked):
    """Every count of nodes with its best batch, through the engine."""
    for nodes in counts:
        found = []
        for batch in asked.batches(8 * nodes):
            question, rates = ask(8 * nodes, batch)
            plans = option_of(question, rates, tokens=asked.tokens, reliability=RELIABLE).plans
            found += [plan.bill for plan in plans[:1]]
        yield 8 * nodes, min(found, key=lambda bill: bill.time_s, default=None)


def test_the_smallest_fleet_is_the_first_that_meets_the_deadline():
    asked = limits(deadline_s=18 * DAY_S)
    found = fleet_of("h100-sxm5-80gb", 8, ask, asked, RELIABLE)
    devices = found.smallest.plans[0].devices
    smooth = [nodes for nodes in (5, 6, 7, 8, 9, 10, 12, 14, 15, 16, 18) if 8 * nodes <= devices]
    days = {count: bill.days for count, bill in bills(smooth, asked)}
    assert days[devices] <= 18
    assert [count for count, day in days.items() if day <= 18] == [devices]
    assert found.smallest.plans[0].bill.goodput < 1
    assert found.cheapest.plans[0].bill.mean_usd <= found.smallest.plans[0].bill.mean_usd


def test_a_budget_is_kept_at_the_highest_price_and_the_fastest_spends_most_of_it():
    cheap = fleet_of("h100-sxm5-80gb", 8, ask, limits(budget_usd=1e9, most_devices=64), RELIABLE).cheapest
    asked = limits(budget_usd=1.1 * cheap.plans[0].bill.usd[1])
    found = fleet_of("h100-sxm5-80gb", 8, ask, asked, RELIABLE)
    assert found.fastest.plans[0].bill.usd[1] <= asked.budget_usd
    assert found.fastest.plans[0].bill.days < cheap.plans[0].bill.days


def test_what_no_number_keeps_to_says_by_how_much():
    found = fleet_of("h100-sxm5-80gb", 8, ask, limits(deadline_s=DAY_S, most_devices=64), RELIABLE)
    assert found.smallest is None
    assert found.nearest.plans[0].devices == 64
    assert found.reason.startswith("64 take ")
    assert found.reason.endswith(" too many")


def test_the_power_of_a_site_bounds_the_fleet():
    asked = limits(deadline_s=60 * DAY_S, site_watt=80 * 1275 * 1.56)
    found = fleet_of("h100-sxm5-80gb", 8, ask, asked, RELIABLE)
    assert found.fastest.plans[0].bill.power_watt <= asked.site_watt


def test_a_batch_moves_to_what_divides_and_never_beyond_its_tolerance():
    """3072 = 3 x 2^10: 2304 = 3 x 768 is 12.5 % more than 2048; 5 x 2^9 has 2560 too far, 1920 near."""
    assert limits(batch=2048).batches(3072) == (2048, 2304)
    assert limits(batch=2048, batch_tolerance=0.1).batches(3072) == (2048, 1920)
    assert limits(batch=2048).batches(4096) == (2048,)
    assert limits(batch=2048, batch_tolerance=0).batches(3072) == (2048,)


def test_a_dgx_takes_what_its_datasheet_says():
    """10.2 kW of eight; 1,275 W each, and on 1,024 devices three ports of 26.9 W."""
    h100 = load_device("h100-sxm")
    assert power_of(h100, 8).watt == 1275
    assert power_of(h100, 1024).watt == pytest.approx(1275 + 3 * 26.875)
    assert network_watt(64, 8) == pytest.approx(26.875)
    assert network_watt(4096, 8) == pytest.approx(5 * 26.875)
    assert power_of(h100, 8, watt=500).watt == 500
    assert "assumed" in power_of(load_device("rtx-4090"), 1).basis[0]


def test_a_cap_takes_off_the_device_alone_and_a_site_is_filled():
    """A DGX H100's host takes 575 W of each 1,275; 500 W in place of 700 leave 1,075, times a PUE of 1.5."""
    h100 = load_device("h100-sxm")
    assert power_of(h100, 8, cap_watt=500).watt == 1075
    assert power_of(h100, 8, cap_watt=900).watt == 1275
    assert cap_within(h100, 8, site_watt=8 * 1.5 * 1075, pue=1.5) == pytest.approx(500)
    assert cap_within(h100, 8, site_watt=1e6, pue=1.5) is None


def test_a_site_that_no_cap_keeps_to_says_how_many_it_is_enough_for():
    """A host's share of 575 W and 28 % of 700 W are 771 W, times 1.5: eight take 9.25 kW, rated 15.3 kW."""
    said = r"8 x h100-sxm5-80gb take 15.3 kW, and 9.25 kW with each capped .*: it is enough for 4 .* for 6 at"
    with pytest.raises(InputError) as refused:
        cap_within(load_device("h100-sxm"), 8, site_watt=8e3, pue=1.5)
    assert re.search(said, str(refused.value).replace("; ", ": "))


def test_carbon_is_energy_times_the_grid():
    """10 devices of 1 kW and 1.5 for an hour are 15 kWh; at 400 g these are 6 kg."""
    rates = rates_of(load_device("h100-sxm"), usd_per_hour=2.0, watt=1000, pue=1.5, g_per_kwh=400)
    bill = bill_of(step_s=3.6, devices=10, steps=1000, rates=rates)
    assert (bill.power_watt, bill.co2_kg) == (15000, pytest.approx(6))


def test_the_interval_of_the_days_is_narrower_than_the_90_percent_of_the_step():
    rates = rates_of(load_device("h100-sxm"), usd_per_hour=2.0)
    bill = bill_of(step_s=1.0, devices=1, steps=86400, rates=rates, interval_s=(0.8, 1.25))
    low, high = bill.days_interval
    assert 0.8 < low < 1 < high < 1.25
    assert low * high == pytest.approx(1)


def test_more_devices_are_named_where_memory_is_too_small():
    def too_large(devices, batch):
        question, rates = ask(devices, batch)
        base = question.base.model_copy(update={"model": load_model("70b")})
        return replace(question, base=base, choices=Choices(hybrid=False)), rates

    question, _ = too_large(8, 64)
    assert not option_of(question, rates_of(question.machine.device)).plans
    found = nearest_change(question, too_large, None, RELIABLE)
    assert len(found.words) == 1
    assert found.words[0].startswith("--devices ")
    again, rates = too_large(int(found.words[0].split()[1]), 64)
    assert option_of(again, rates).plans


def test_counts_that_are_no_machine_are_passed_over():
    def undefined(devices, batch):
        if devices > 8:
            raise InputError("no usual network is known")
        return ask(devices, batch)

    found = fleet_of("h100-sxm5-80gb", 8, undefined, limits(deadline_s=DAY_S), RELIABLE)
    assert max(point.devices for point in found.points) == 8


def test_what_to_take_of_several_fleets():
    """A deadline: the cheapest of the smallest. A budget: the cheapest of all. An objective: what it says."""

    def option(devices, days, usd):
        bill = SimpleNamespace(time_s=days * DAY_S, mean_usd=usd)
        return SimpleNamespace(plans=(SimpleNamespace(devices=devices, bill=bill),))

    one = SimpleNamespace(smallest=option(8, 90, 5.0), cheapest=option(16, 40, 4.0), fastest=option(64, 12, 9.0))
    two = SimpleNamespace(smallest=option(4, 80, 6.0), cheapest=option(4, 80, 6.0), fastest=option(128, 10, 12.0))

    def taken(objective=None, **said):
        return best_plan((one, two), limits(**said), objective).devices

    assert taken(deadline_s=DAY_S) == 8
    assert taken(budget_usd=10.0) == 16
    assert taken("cost", deadline_s=DAY_S) == 16
    assert taken("time", budget_usd=20.0) == 128
