"""What does the planner's page show? Its answer turned into a verdict, rows and points; nothing after this computes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hwprof.plan.answer.machines import Answer
from hwprof.plan.answer.plans import Plan
from hwprof.report.cells import Field, Table, build_table, chosen, yes
from hwprof.report.head import AnswerPage, card
from hwprof.report.pictures import BOUND_WORDS, Card, Picture
from hwprof.report.plan.answer_text import fleet_table
from hwprof.report.plan.figures import plan_pictures
from hwprof.report.plan.tables import (
    ASSUMPTIONS,
    FAMILIES,
    MACHINES,
    PLANS,
    REFUSALS,
    SCALING,
    SETTINGS,
    MachineRow,
    assumptions_of,
    best_of,
    cost_words,
    days_words,
    energy_words,
    families_of,
    layout_words,
    machine_rows,
    refusals_of,
    search_words,
    settings_of_best,
)
from hwprof.units import (
    format_bytes,
    format_estimate,
    format_fraction,
    format_quantity,
    format_seconds,
    format_span,
    number,
)
from hwprof.version import __version__

CLOSE = 0.6
"""Below this chance of being faster, two plans are told apart by nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanView(AnswerPage):
    """The page.

    ``pictures`` has: pareto, machines, efficiency, waiting, sensitivity; ``tables``: plans, fleets, machines, scaling,
    settings, rejected, families, assumptions.
    """

    pictures: dict[str, Picture]


def build_plan_view(answer: Answer) -> PlanView:
    """Everything that the page shows, scaled, rounded and in words."""
    base = answer.options[0].question.base
    formats = ", ".join(answer.options[0].question.choices.dtype or (base.dtype,))
    best = answer.plans[0] if answer.plans else None
    pictures = plan_pictures(answer)
    tables = _tables(answer)
    return PlanView(
        title=f"Plan for {base.model.name}",
        subtitle=f"{base.global_batch:,} sequences of {base.seq_len:,} tokens a step, {formats}, best by "
        f"{answer.objective} · {search_words(answer)}",
        version=__version__,
        sentence=_sentence(answer, best),
        caution="" if best is None else _caution(answer, best),
        cards=() if best is None else tuple(_cards(best)),
        pictures={picture.name: picture for picture in pictures},
        tables={table.name: table for table in tables},
    )


def _sentence(answer: Answer, best: Plan | None) -> str:
    """The answer in plain words: how many, how long, how much; the layout comes after."""
    if answer.chosen is None or best is None:
        reasons = [f"{one.hardware}: {one.reason}" for one in answer.fleets]
        option = answer.options[0]
        change = f" The nearest change that works: {' '.join(answer.change.words)}." if answer.change else ""
        return f"No plan: {'; '.join(reasons) or f'{option.name}: {option.reason}'}.{change}"
    found, bill = best.prediction, best.bill
    machine = f"{best.devices:,} {best.question.machine.device.id}"
    bound = f"What holds it back is {BOUND_WORDS[found.bound]}."
    if bill.steps <= 1:
        return f"{machine} take {format_seconds(found.step_s)} a step, by {layout_words(best.job)}. {bound}"
    low, high = (number(end) for end in bill.days_interval)
    cost = "" if bill.mean_usd is None else f" and cost {format_quantity(bill.mean_usd, 'usd')}"
    return f"{machine} train it in {number(bill.days)} days ({low} to {high}){cost}. {bound}"


def _caution(answer: Answer, best: Plan) -> str:
    """What a reader must know before taking the first plan."""
    words = []
    if best.tight:
        words.append("Memory is tight: the upper end of its interval is beyond the device.")
    if best.ahead is not None and best.ahead < CLOSE:
        second = answer.plans[1]
        words.append(
            f"The first plans are not told apart: with {format_estimate(best.ahead)} chance the first is faster than "
            f"the second, {layout_words(second.job)} on {second.devices:,} {second.question.machine.device.id}."
        )
    return " ".join(words)


def _cards(best: Plan) -> list[Card]:
    found, bill, capacity = best.prediction, best.bill, best.question.machine.capacity_bytes
    step = format_seconds(found.step_s)
    return [
        *(_cards_of_run(best) if bill.steps > 1 else ()),
        card("Step", step, f"{format_span(found.interval_s, 's')} in 90 %; {layout_words(best.job)}"),
        card("MFU", format_fraction(found.mfu), f"HFU {format_fraction(found.hfu)}; attention counted in full"),
        card(
            "Memory of a device",
            format_bytes(found.memory.device_bytes),
            f"up to {format_bytes(found.memory_interval_bytes[1])} of {format_bytes(capacity)}",
        ),
        card(
            "Tokens/s",
            format_quantity(best.tokens_per_s, "large_count"),
            f"{format_quantity(found.tokens_per_s_per_device, 'large_count')} of each device",
        ),
    ]


def _cards_of_run(best: Plan) -> Iterator[Card]:
    """What a whole training takes, failures included."""
    bill, found = best.bill, best.goodput
    low, high = (number(end) for end in bill.days_interval)
    yield card("Whole training", days_words(best), f"{low} to {high} in 80 %; {bill.steps:,.0f} steps")
    span = format_span(bill.usd_interval, "usd") if bill.usd_interval else "--price gives one"
    yield card("Cost", cost_words(best), f"{span} with the days' interval" if bill.usd_interval else span)
    if bill.power_watt is not None and bill.co2_kg is not None:
        detail = f"{energy_words(best)}, {number(bill.co2_kg / 1e3)} t CO2"
        yield card("Power", format_quantity(bill.power_watt, "watt"), detail)
    if found is not None:
        detail = (
            f"{number(found.failures_per_day, 2)} failures a day, restarts {format_fraction(found.restart_fraction)}"
        )
        yield card("Goodput", format_fraction(found.fraction), detail)


def _rate(plan: Plan) -> str:
    return format_quantity(plan.tokens_per_s, "large_count")


def _schedule(plan: Plan) -> str | None:
    return plan.job.layout.schedule if plan.job.layout.pipeline_parallel > 1 else None


_BILL: tuple[Field[Plan], ...] = (
    Field("days", "Days", lambda plan: plan.bill.days if plan.bill.steps > 1 else None, style="number"),
    Field("cost", "Cost", lambda plan: cost_words(plan) if plan.bill.steps > 1 else None),
    Field("energy", "Energy", lambda plan: energy_words(plan) if plan.bill.steps > 1 else None),
)
"""Of a whole training; nothing where only a step was asked for."""

_PLANS: tuple[Field[Plan], ...] = (
    *chosen(PLANS, "rank hardware devices"),
    *_BILL[:2],
    *chosen(PLANS, "step_s mfu_fraction memory_bytes"),
    Field("tight", "Tight", lambda plan: yes(answer=plan.tight), meaning="the memory interval ends beyond the device"),
    Field("layout", "Layout", lambda plan: layout_words(plan.job)),
    *chosen(PLANS, "bound"),
    Field(
        "interval", "90 % interval", lambda plan: format_span(plan.prediction.interval_s, "s"), meaning="of the step"
    ),
    *chosen(PLANS, "faster_than_next_probability"),
    *_BILL[2:],
    *chosen(PLANS, "dtype"),
    Field("schedule", "Schedule", _schedule),
)
"""What decides stands first: on a narrow screen the rest is to be scrolled to."""

_MACHINES: tuple[Field[MachineRow], ...] = (
    *chosen(MACHINES, "hardware devices"),
    *(Field(field.name, field.title, best_of(field.read), style=field.style) for field in _BILL[:2]),
    *chosen(MACHINES, "step_s mfu_fraction memory_bytes"),
    Field("tokens_per_s", "Tokens/s", best_of(_rate), style="number"),
    *chosen(MACHINES, "layout bound"),
    *(Field(field.name, field.title, best_of(field.read), style=field.style) for field in _BILL[2:]),
)

_FITS: Field[MachineRow] = Field("fits", "Fits", lambda row: "yes" if row.best else f"no: {row.reason}", style="long")
"""Where all machines do it takes no place."""

_SCALING = chosen(
    SCALING,
    "kind devices global_batch_sequences step_s tokens_per_s efficiency_fraction working_fraction waiting_fraction "
    "layout",
)


def _machine_fields(answer: Answer) -> tuple[Field[MachineRow], ...]:
    """With the reasons where not every machine has a plan."""
    all_fit = all(row.best for row in machine_rows(answer))
    return _MACHINES if all_fit else (*_MACHINES[:4], _FITS, *_MACHINES[4:])


def _tables(answer: Answer) -> tuple[Table, ...]:
    settings, refusals = settings_of_best(answer), refusals_of(answer.options)
    return (
        build_table("plans", "Plans", _PLANS, answer.plans, empty="No layout fits."),
        fleet_table(answer),
        build_table("machines", "Machines side by side", _machine_fields(answer), machine_rows(answer)),
        build_table("scaling", "Each point", _SCALING, answer.scaling, empty="Nothing to scale."),
        build_table("settings", "Settings of the first plan", SETTINGS, settings, empty="No plan."),
        build_table("rejected", "Ruled out", REFUSALS, refusals, empty="Nothing was ruled out."),
        build_table(
            "families",
            "Families of degrees that do not fit, nearest first",
            FAMILIES,
            families_of(answer),
            empty="Every family that can run has a layout that fits.",
        ),
        build_table("assumptions", "Assumptions", ASSUMPTIONS, assumptions_of(answer)),
    )
