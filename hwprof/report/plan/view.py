"""What does the planner's page show? Its answer turned into a verdict, rows and points; nothing after this computes."""

from __future__ import annotations

from dataclasses import dataclass

from hwprof.plan.answer.machines import Answer, Refusal
from hwprof.plan.answer.plans import Plan
from hwprof.plan.answer.scaling import ScalingPoint
from hwprof.plan.settings.frameworks import settings_of
from hwprof.plan.settings.launch import Settings
from hwprof.report.cells import Field, Table, build_table, number, percent, quantity_text, span_text, yes
from hwprof.report.pictures import BOUND_WORDS, Card, Picture
from hwprof.report.plan.figures import plan_pictures
from hwprof.report.plan.tables import Family, Side, assumptions_of, best_of, families_of, layout_words, sides_of
from hwprof.version import __version__

_PREFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"))

CLOSE = 0.6
"""Below this chance of being faster, two plans are told apart by nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanView:
    """The page.

    ``pictures`` has: pareto, machines, efficiency, waiting, sensitivity; ``tables``: plans, machines, scaling,
    settings, rejected, families, assumptions.
    """

    title: str
    subtitle: str
    version: str
    sentence: str
    caution: str
    cards: tuple[Card, ...]
    pictures: dict[str, Picture]
    tables: dict[str, Table]


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
        f"{answer.objective} · {answer.evaluated:,} layouts evaluated in {answer.search_s:.2f} s",
        version=__version__,
        sentence=_sentence(answer, best),
        caution="" if best is None else _caution(answer, best),
        cards=() if best is None else tuple(_cards(best)),
        pictures={picture.name: picture for picture in pictures},
        tables={table.name: table for table in tables},
    )


def _sentence(answer: Answer, best: Plan | None) -> str:
    if best is None:
        return f"No plan: {answer.options[0].name}: {answer.options[0].reason}."
    found, machine = best.prediction, f"{best.devices:,} {best.question.machine.device.id}"
    times = f"{quantity_text(found.step_s, 's')} a step"
    whole = f", {number(best.bill.days)} days in all" if best.bill.steps > 1 else ""
    return (
        f"Take {layout_words(best.job)} on {machine}: {times}{whole}. What holds it back is {BOUND_WORDS[found.bound]}."
    )


def _caution(answer: Answer, best: Plan) -> str:
    """What a reader must know before taking the first plan."""
    words = []
    if best.tight:
        words.append("Memory is tight: the upper end of its interval is beyond the device.")
    if best.ahead is not None and best.ahead < CLOSE:
        second = answer.plans[1]
        words.append(
            f"The first plans are not told apart: with {percent(best.ahead, 2)} chance the first is faster than "
            f"the second, {layout_words(second.job)} on {second.devices:,} {second.question.machine.device.id}."
        )
    return " ".join(words)


def _card(title: str, value: str, detail: str) -> Card:
    return Card(title=title, value=value, brief=value, detail=detail)


def _cards(best: Plan) -> list[Card]:
    found, bill, capacity = best.prediction, best.bill, best.question.machine.capacity_bytes
    cards = [
        _card("Step", quantity_text(found.step_s, "s"), f"90 % interval {span_text(found.interval_s, 's')}"),
        _card("MFU", percent(found.mfu), f"HFU {percent(found.hfu)}; attention counted in full"),
        _card(
            "Memory of a device",
            quantity_text(found.memory.device_bytes, "byte"),
            f"up to {quantity_text(found.memory_interval_bytes[1], 'byte')} of {quantity_text(capacity, 'byte')}",
        ),
        _card("Tokens/s", _scaled(best.tokens_per_s), f"{number(found.tokens_per_s_per_device)} of each device"),
    ]
    if bill.steps > 1:
        detail = f"{bill.steps:,.0f} steps without interruption, {_energy_words(best)}"
        cards.append(_card("Whole training", f"{number(bill.days)} days", detail))
        cards.append(_card("Cost", _usd_words(best), "from the lowest to the highest price"))
    return cards


def _scaled(*values: float) -> str:
    """Values with one prefix that suits the largest: ``77.7 to 105 M``; equal ones once."""
    factor, prefix = next(((f, p) for f, p in _PREFIXES if max(values) >= f), (1.0, ""))
    return f"{' to '.join(dict.fromkeys(number(value / factor) for value in values))} {prefix}".strip()


def _usd_words(plan: Plan) -> str:
    return f"{_scaled(*plan.bill.usd)} USD" if plan.bill.usd else "no price known"


def _energy_words(plan: Plan) -> str:
    """From kWh on in steps of a thousand."""
    kwh = plan.bill.energy_kwh
    if kwh is None:
        return "no power known"
    factor, unit = next(((f, u) for f, u in ((1e6, "GWh"), (1e3, "MWh")) if kwh >= f), (1.0, "kWh"))
    return f"{number(kwh / factor)} {unit}"


_PLANS: tuple[Field[Plan], ...] = (
    Field("rank", "Rank", lambda plan: plan.rank, "count"),
    Field("hardware", "Hardware", lambda plan: plan.question.machine.device.id),
    Field("devices", "Devices", lambda plan: plan.devices, "count"),
    Field("layout", "Layout", lambda plan: layout_words(plan.job)),
    Field(
        "schedule", "Schedule", lambda plan: plan.job.layout.schedule if plan.job.layout.pipeline_parallel > 1 else None
    ),
    Field("dtype", "Format", lambda plan: plan.job.dtype),
    Field("step", "Step", lambda plan: plan.prediction.step_s, "s"),
    Field("interval", "90 % interval", lambda plan: span_text(plan.prediction.interval_s, "s")),
    Field(
        "ahead",
        "Faster than the next",
        lambda plan: plan.ahead,
        "fraction",
        meaning="chance, from both intervals",
    ),
    Field("mfu", "MFU", lambda plan: plan.prediction.mfu, "fraction"),
    Field("bound", "Bound", lambda plan: plan.prediction.bound, style="bound"),
    Field(
        "memory", "Memory", lambda plan: plan.prediction.memory.device_bytes, "byte", meaning="of the fullest device"
    ),
    Field("tight", "Tight", lambda plan: yes(answer=plan.tight), meaning="the memory interval ends beyond the device"),
)


def _whole(plan: Plan) -> tuple[float | None, str, str]:
    """Days, cost and energy of a whole training; nothing where only a step was asked for."""
    if plan.bill.steps <= 1:
        return None, "", ""
    return plan.bill.days, _usd_words(plan), _energy_words(plan)


_BILL: tuple[Field[Plan], ...] = (
    Field("days", "Days", lambda plan: _whole(plan)[0], style="number"),
    Field("cost", "Cost", lambda plan: _whole(plan)[1]),
    Field("energy", "Energy", lambda plan: _whole(plan)[2]),
)


def _of_side(field: Field[Plan]) -> Field[Side]:
    return Field(field.name, field.title, best_of(field.read), field.quantity, style=field.style)


_MACHINES: tuple[Field[Side], ...] = (
    Field("hardware", "Hardware", lambda side: side.hardware),
    Field("devices", "Devices", lambda side: side.devices, "count"),
    Field("fits", "Fits", lambda side: "yes" if side.best else f"no: {side.reason}", style="long"),
    Field("step", "Step", best_of(lambda plan: plan.prediction.step_s), "s"),
    Field("rate", "Tokens/s", best_of(lambda plan: plan.tokens_per_s), style="number"),
    Field("mfu", "MFU", best_of(lambda plan: plan.prediction.mfu), "fraction"),
    Field("bound", "Bound", best_of(lambda plan: plan.prediction.bound), style="bound"),
    Field("memory", "Memory", best_of(lambda plan: plan.prediction.memory.device_bytes), "byte"),
    *(_of_side(field) for field in _BILL),
    Field("layout", "Layout", best_of(lambda plan: layout_words(plan.job))),
)

_SCALING: tuple[Field[ScalingPoint], ...] = (
    Field("kind", "Scaling", lambda point: point.kind),
    Field("devices", "Devices", lambda point: point.devices, "count"),
    Field("batch", "Global batch", lambda point: point.global_batch, "count"),
    Field("step", "Step", lambda point: point.step_s, "s"),
    Field("rate", "Tokens/s", lambda point: point.tokens_per_s, style="number"),
    Field("efficiency", "Efficiency", lambda point: point.efficiency, "fraction"),
    Field("working", "Working", lambda point: point.working_fraction, "fraction"),
    Field("waiting", "Waiting", lambda point: point.waiting_fraction, "fraction"),
    Field("layout", "Layout", lambda point: layout_words(point.job)),
)

_SETTINGS: tuple[Field[Settings], ...] = (
    Field("framework", "Framework", lambda one: one.framework),
    Field("file", "File", lambda one: f"settings/{one.file_name}" if one.text else None, style="code"),
    Field("lacks", "Can't express", lambda one: "; ".join(one.lacks), style="long"),
    Field("besides", "To set elsewhere", lambda one: "; ".join(one.besides), style="long"),
)

_REJECTED: tuple[Field[tuple[str, Refusal]], ...] = (
    Field("machine", "Machine", lambda line: line[0]),
    Field("rule", "Rule", lambda line: line[1].rule.replace("_", " ")),
    Field("layouts", "Layouts", lambda line: line[1].count, "count"),
    Field("example", "For example", lambda line: line[1].example, style="long"),
)

_FAMILIES: tuple[Field[Family], ...] = (
    Field("machine", "Machine", lambda family: family.machine),
    Field("degrees", "Degrees", lambda family: family.degrees),
    Field(
        "need",
        "Needs at least",
        lambda family: family.need_bytes,
        "byte",
        meaning="its leanest layout, libraries included",
    ),
    Field("capacity", "Device has", lambda family: family.capacity_bytes, "byte"),
)

_ASSUMPTIONS: tuple[Field[tuple[str, str]], ...] = (
    Field("about", "About", lambda line: line[0]),
    Field("assumption", "Assumption", lambda line: line[1], style="long"),
)


def _tables(answer: Answer) -> tuple[Table, ...]:
    settings = settings_of(answer.plans[0]) if answer.plans else ()
    refusals = [(option.name, refusal) for option in answer.options for refusal in option.refusals]
    return (
        build_table("plans", "Plans", (*_PLANS, *_BILL), answer.plans, empty="No layout fits."),
        build_table("machines", "Machines side by side", _MACHINES, sides_of(answer)),
        build_table("scaling", "Each point", _SCALING, answer.scaling, empty="Nothing to scale."),
        build_table("settings", "Settings of the first plan", _SETTINGS, settings, empty="No plan."),
        build_table("rejected", "Ruled out", _REJECTED, refusals, empty="Nothing was ruled out."),
        build_table(
            "families",
            "Families of degrees that do not fit, nearest first",
            _FAMILIES,
            families_of(answer),
            empty="Every family that can run has a layout that fits.",
        ),
        build_table("assumptions", "Assumptions", _ASSUMPTIONS, assumptions_of(answer)),
    )
