"""How is the planner's answer said in a line? Devices, days, money, power, and what fails by how much."""

from __future__ import annotations

from collections.abc import Iterator

from hwprof.plan.answer.cost import DAY_S
from hwprof.plan.answer.fleet import Fleet
from hwprof.plan.answer.machines import Answer, Option
from hwprof.plan.answer.plans import Plan
from hwprof.plan.answer.power import GRID_G_PER_KWH
from hwprof.report.cells import Field, Table, build_table
from hwprof.simulate.prediction import Prediction
from hwprof.units import (
    format_count,
    format_fraction,
    format_long,
    format_quantity,
    format_seconds,
    format_span,
    long_unit,
    number,
)


def answer_lines(answer: Answer) -> list[str]:
    """What to take, first of all; below it what else a whole training takes."""
    plan = answer.chosen
    rest = _refused(answer) if plan is None else [_subject(plan), *([_rest(plan)] if _is_whole(plan) else [])]
    return [answer_line(answer), *(f"  {line}" for line in (*rest, *_others(answer)))]


def _refused(answer: Answer) -> list[str]:
    """What the first reason is of, and the reasons of the other machines."""
    model = answer.options[0].question.base.model.name
    if answer.fleets:
        return [model, *(f"{one.hardware}: {one.reason}" for one in answer.fleets[1:])]
    first, *others = answer.options
    return [f"{model} on {first.name}", *map(_none_line, others)]


def _none_line(option: Option) -> str:
    return f"{option.name}: no: {option.reason}"


def _subject(plan: Plan) -> str:
    """What is trained."""
    tokens = format_count(plan.bill.steps * plan.job.tokens).replace("G", "B")  # a billion, as people say it
    whole = f" on {tokens} tokens" if _is_whole(plan) else ""
    return f"{plan.job.model.name}{whole}, {plan.job.global_batch:,} sequences of {plan.job.seq_len:,} tokens a step"


def _others(answer: Answer) -> Iterator[str]:
    """What else keeps to the limits, or how each other machine compares."""
    plan = answer.chosen
    if plan is None:
        return
    if answer.fleets:
        fastest = min(
            (_plan(("", one.fastest)) for one in answer.fleets if one.fastest), key=lambda each: each.bill.time_s
        )
        if fastest.devices != plan.devices or fastest.question.machine.device.id != plan.question.machine.device.id:
            yield f"the fastest: {_machine(fastest)}, {_whole(fastest)}"
        return
    firsts = [option.plans[0] for option in answer.options if option.plans]
    for other in firsts:
        if _machine(other) != _machine(plan):
            step = _whole(other) if _is_whole(other) else f"{format_seconds(other.prediction.step_s)} a step"
            yield f"{_machine(other)}: {step}, {_times(other, plan)}"
    yield from (_none_line(option) for option in answer.options if not option.plans)


def _machine(plan: Plan) -> str:
    return f"{plan.devices:,} x {plan.question.machine.device.id}"


def _times(other: Plan, plan: Plan) -> str:
    """How long it takes against the first."""
    ratio = other.bill.time_s / plan.bill.time_s
    return f"{number(ratio)} times as long"


def _is_whole(plan: Plan) -> bool:
    return plan.bill.steps > 1


def answer_line(answer: Answer) -> str:
    """Devices, days and money, or why not."""
    plan = answer.chosen
    if plan is None:
        first = answer.fleets[0] if answer.fleets else None
        return f"No: {f'{first.hardware}: {first.reason}' if first else answer.options[0].reason}"
    found, machine = plan.prediction, _machine(plan)
    if not _is_whole(plan):
        return f"{machine}: {format_seconds(found.step_s)} a step, {_first_beside(answer, plan)}"
    carbon = f", {_carbon(plan)}" if answer.options[0].rates.g_per_kwh != GRID_G_PER_KWH else ""
    return f"{machine}: {_whole(plan)}{carbon}{_spares(plan)}"


def _first_beside(answer: Answer, plan: Plan) -> str:
    """How much faster it is than the one other machine; else its MFU."""
    others = [option.plans[0] for option in answer.options if option.plans]
    others = [other for other in others if _machine(other) != _machine(plan)]
    if len(others) != 1 or others[0].devices != plan.devices:
        return mfu_words(plan.prediction)
    other = others[0]
    times = number(other.bill.time_s / plan.bill.time_s)
    return f"{times} times as fast as {other.question.machine.device.id}"


def mfu_words(found: Prediction) -> str:
    """Model FLOP utilisation; with long sequences also that of the half of attention that a causal model computes."""
    causal = f" ({format_fraction(found.mfu_causal)} causal)" if found.mfu > _LONG * found.mfu_causal else ""
    return f"MFU {format_fraction(found.mfu)}{causal}"


_LONG = 1.1
"""Both counts are told apart from here on: of the full one, people say that it can't be."""


def _spares(plan: Plan) -> str:
    """Where repairs take their time: how many nodes standing by make waiting rare."""
    enough = plan.goodput.enough_spares if plan.goodput else None
    return "" if enough is None else f", {enough} spares"


def _carbon(plan: Plan) -> str:
    carbon_kg = plan.bill.co2_kg or 0.0
    return f"{number(carbon_kg / 1e3)} t CO2" if carbon_kg >= 1e3 else f"{number(carbon_kg)} kg CO2"


def _whole(plan: Plan) -> str:
    """Days and money of a whole training."""
    bill = plan.bill
    size_s, _ = long_unit(bill.time_s)
    low, high = (number(end * DAY_S / size_s) for end in bill.days_interval)
    words = [f"{format_long(bill.time_s)} (80 %: {low} to {high})"]
    return ", ".join([*words, *([format_quantity(bill.mean_usd, "usd")] if bill.mean_usd is not None else [])])


def _rest(plan: Plan) -> str:
    """The interval of the money, power, energy, CO2 and goodput."""
    bill = plan.bill
    words = [format_span(bill.usd_interval, "usd")] if bill.usd_interval is not None else []
    if bill.power_watt is not None and bill.energy_kwh is not None and bill.co2_kg is not None:
        energy = format_quantity(1e3 * bill.energy_kwh, "watt_hour")
        words.append(f"{format_quantity(bill.power_watt, 'watt')}, {energy}, {_carbon(plan)}")
    return ", ".join([*words, f"goodput {format_fraction(bill.goodput)}"])


def fleet_table(answer: Answer, *, most: int | None = None) -> Table:
    """One line for each fleet: what it is, what it takes, or by how much it fails; ``most`` lines, for a screen."""
    rows = [row for fleet in answer.fleets for row in _rows(fleet)]
    fields = _FLEETS if most is None else tuple(field for field in _FLEETS if field.name not in _WIDE)
    return build_table("fleets", "", fields, rows[:most])


_WIDE = {"days_interval", "batch"}
"""Columns for which a screen has no room."""


Row = tuple[str, Option]


def _rows(fleet: Fleet) -> Iterator[Row]:
    named: dict[str, list[str]] = {}
    options: dict[str, Option] = {}
    for word, option in (
        ("smallest", fleet.smallest),
        ("cheapest", fleet.cheapest),
        ("fastest", fleet.fastest),
        ("nearest", fleet.nearest),
    ):
        if option is not None:
            priced = word != "cheapest" or option.plans[0].bill.mean_usd is not None
            named.setdefault(option.name, []).append(word if priced else "fewest device hours")
            options[option.name] = option
    yield from ((", ".join(words), options[name]) for name, words in named.items())


def _plan(row: Row) -> Plan:
    return row[1].plans[0]


_FLEETS: tuple[Field[Row], ...] = (
    Field("machine", "devices", lambda row: row[1].name),
    Field("days", "days", lambda row: number(_plan(row).bill.days), style="number"),
    Field("days_interval", "80 %", lambda row: " to ".join(number(end) for end in _plan(row).bill.days_interval)),
    Field("cost", "cost", lambda row: _cost(_plan(row)), style="number"),
    Field("power", "power", lambda row: format_quantity(_plan(row).bill.power_watt, "watt"), style="number"),
    Field("batch", "batch", lambda row: f"{_plan(row).job.global_batch:,}", style="number"),
    Field("what", "fleet", lambda row: row[0]),
)


def _cost(plan: Plan) -> str:
    return format_quantity(plan.bill.mean_usd, "usd")


def goodput_lines(plan: Plan) -> list[str]:
    """What failures and checkpoints take of the time; none where nobody asked for a whole training."""
    found = plan.goodput
    if found is None:
        return []
    parts = (
        ("restarts", found.restart_fraction),
        ("lost work", found.lost_fraction),
        ("checkpoints", found.checkpoint_fraction),
        *((("waiting for repair", found.waiting_fraction),) if found.enough_spares is not None else ()),
    )
    shares = ", ".join(f"{name} {format_fraction(share)}" for name, share in parts)
    failures = f"{number(found.failures_per_day, 2)} failures a day"
    size = format_quantity(found.checkpoint_bytes, "byte")
    spares = f"; {found.enough_spares} spare nodes make it less than 0.1 %" if found.enough_spares is not None else ""
    return [
        f"goodput {format_fraction(found.fraction)}: {failures}, {shares}{spares}",
        f"a checkpoint of {size} every {format_seconds(found.interval_s)}",
    ]
