"""What do the planner's pictures show? Plans and their front, machines, scaling, sensitivity as plain scaled points."""

from __future__ import annotations

from collections.abc import Sequence

from hwprof.plan.answer.machines import Answer
from hwprof.plan.answer.plans import Plan
from hwprof.plan.answer.scaling import ScalingPoint, taken_over_at
from hwprof.report import palette
from hwprof.report.pictures import Bar, Line, Picture
from hwprof.report.plan.tables import layout_words, machine_rows, scaling_words
from hwprof.units import format_estimate, format_fraction, format_seconds, scale

_COLOURS = (
    palette.BLUE,
    palette.ORANGE,
    palette.GREEN,
    palette.PURPLE,
    palette.VERMILLION,
    palette.YELLOW,
    palette.GREY,
)
_KINDS = {"strong": palette.BLUE, "weak": palette.ORANGE}
NO_PLAN = "No layout fits on any of the machines."


def plan_pictures(answer: Answer) -> tuple[Picture, ...]:
    """All of them, in the order of the page."""
    return (pareto_picture(answer), machine_picture(answer), *scaling_pictures(answer), sensitivity_picture(answer))


def pareto_picture(answer: Answer) -> Picture:
    """Every plan by its time and what it takes: cost where machines differ, else memory of a device."""
    title = "Plans, and those that no other beats"
    if not answer.plans:
        return Picture(name="pareto", title=title, empty=NO_PLAN)
    x_title, xs = _what_it_takes(answer)
    y_title, ys = _time(answer.plans)
    places = {plan.rank: place for place, plan in enumerate(answer.plans)}
    names = list(dict.fromkeys(plan.question.machine.device.id for plan in answer.plans))
    lines = []
    for number, name in enumerate(names):
        own = [place for place, plan in enumerate(answer.plans) if plan.question.machine.device.id == name]
        lines.append(
            Line(
                name=name,
                xs=tuple(xs[place] for place in own),
                ys=tuple(ys[place] for place in own),
                colour=_COLOURS[number % len(_COLOURS)],
                style="dots",
                texts=tuple(_about(answer.plans[place]) for place in own),
            )
        )
    best = [places[plan.rank] for plan in answer.front]
    front = Line(
        name="on the front",
        xs=tuple(xs[place] for place in best),
        ys=tuple(ys[place] for place in best),
        colour=palette.BLACK,
        style="rings",
    )
    return Picture(
        name="pareto",
        title=title,
        x_title=x_title,
        y_title=y_title,
        lines=(*lines, front),
        log_x=True,
        log_y=True,
        legend=True,
        note="Ringed: no other plan is at least as good in time, devices, memory and cost together.",
    )


def _about(plan: Plan) -> str:
    step = format_seconds(plan.prediction.step_s)
    return f"{plan.rank}: {plan.devices:,} x {plan.question.machine.device.id}, {layout_words(plan.job)}, step {step}"


def _what_it_takes(answer: Answer) -> tuple[str, list[float]]:
    plans = answer.plans
    if len({(plan.question.machine.device.id, plan.devices) for plan in plans}) == 1:
        sizes = [plan.prediction.memory.device_bytes for plan in plans]
        factor, unit = scale("byte", sizes)
        return f"memory of a device [{unit}]", [size * factor for size in sizes]
    whole = "training" if plans[0].bill.steps > 1 else "step"
    bills = [plan.bill.usd for plan in plans]
    if all(bills):
        return f"cost of the {whole}, middle of the prices [USD]", [sum(bill) / 2 for bill in bills if bill]
    return f"device hours of the {whole}", [plan.bill.device_hours for plan in plans]


def _time(plans: Sequence[Plan]) -> tuple[str, list[float]]:
    if plans[0].bill.steps > 1:
        return "whole training [days]", [plan.bill.days for plan in plans]
    times = [plan.prediction.step_s for plan in plans]
    factor, unit = scale("s", times)
    return f"step [{unit}]", [time * factor for time in times]


def machine_picture(answer: Answer) -> Picture:
    """The best plan of each machine, by throughput; the colour is what binds it."""
    title = "Machines: tokens/s of their best plan"
    sides = machine_rows(answer)
    if not answer.plans:
        return Picture(name="machines", title=title, empty=NO_PLAN)
    bars = []
    for side in sides:
        label = f"{side.devices:,} × {side.hardware}"
        if side.best is None:
            bars.append(Bar(label=label, start=0.0, length=0.0, text="no", colour=palette.GREY))
            continue
        found = side.best.prediction
        text = f"{format_fraction(found.mfu)} MFU, {found.bound}"
        colour = palette.BOUND_COLOURS[found.bound]
        bars.append(Bar(label=label, start=0.0, length=side.best.tokens_per_s, text=text, colour=colour))
    return Picture(name="machines", title=title, x_title="tokens/s of all devices", bars=tuple(bars))


def scaling_pictures(answer: Answer) -> tuple[Picture, Picture]:
    """Efficiency over devices, and work and waiting over devices; strong and weak."""
    points = answer.scaling
    empty = "" if points else NO_PLAN
    curves = {kind: [point for point in points if point.kind == kind] for kind in _KINDS}
    curves = {kind: curve for kind, curve in curves.items() if curve}
    lines, rings = [], []
    for kind, curve in curves.items():
        lines.append(_curve(f"{kind} scaling", curve, [100 * point.efficiency for point in curve], _KINDS[kind]))
        late = [point for point in curve if point.devices == taken_over_at(curve)]
        rings += [(float(point.devices), 100 * point.efficiency) for point in late]
    if rings:
        xs, ys = zip(*rings, strict=True)
        lines.append(Line(name="waiting takes over", xs=xs, ys=ys, colour=palette.BLACK, style="rings"))
    efficiency = Picture(
        name="efficiency",
        title="Efficiency over devices",
        x_title="devices",
        y_title="efficiency [%]",
        lines=tuple(lines),
        log_x=True,
        mark_xs=True,
        legend=True,
        note=" ".join(f"{kind.capitalize()}: {scaling_words(curve)}." for kind, curve in curves.items()),
        empty=empty,
    )
    shares = Picture(
        name="waiting",
        title="Work and waiting over devices",
        x_title="devices",
        y_title="share of the step [%]",
        lines=tuple(_shares(curves)),
        log_x=True,
        mark_xs=True,
        legend=True,
        note="Waiting: exposed communication, pipeline bubble and stragglers. The rest is dispatch and fixed cost.",
        empty=empty,
    )
    return efficiency, shares


def _shares(curves: dict[str, list[ScalingPoint]]) -> list[Line]:
    lines = []
    for kind, curve in curves.items():
        working = [100 * point.working_fraction for point in curve]
        waiting = [100 * point.waiting_fraction for point in curve]
        lines.append(_curve(f"{kind}: working", curve, working, _KINDS[kind]))
        lines.append(_curve(f"{kind}: waiting", curve, waiting, _KINDS[kind], dashes=True))
    return lines


def _curve(name: str, curve: Sequence[ScalingPoint], ys: Sequence[float], colour: str, *, dashes: bool = False) -> Line:
    return Line(
        name=name,
        xs=tuple(float(point.devices) for point in curve),
        ys=tuple(ys),
        colour=colour,
        style="dashes" if dashes else "line",
        texts=tuple(
            f"{point.devices:,} devices, batch {point.global_batch:,}: {layout_words(point.job)}, "
            f"step {format_seconds(point.step_s)}"
            for point in curve
        ),
    )


def sensitivity_picture(answer: Answer) -> Picture:
    """How much shorter the first plan's step would be with 10 % more of each resource."""
    title = "What 10 % more of each would save"
    question = answer.plans[0].question if answer.plans else None
    option = next((one for one in answer.options if any(found.question is question for found in one.founds)), None)
    if option is None:
        return Picture(name="sensitivity", title=title, empty=NO_PLAN)
    bars = tuple(
        Bar(
            label=gain.resource,
            start=0.0,
            length=100 * gain.saved_fraction,
            text=format_estimate(gain.saved_fraction),
            colour=palette.BLUE,
        )
        for gain in option.gains
    )
    return Picture(
        name="sensitivity",
        title=title,
        x_title="share of the step [%]",
        bars=bars,
        note=f"On {option.name}, by the closed form; the best layout may change with the resource.",
    )
