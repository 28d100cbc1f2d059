"""What does a person read of the planner's answer in a terminal?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hwprof.plan.answer.machines import Answer, Option
from hwprof.plan.answer.plans import Plan
from hwprof.plan.answer.scaling import ScalingPoint, taken_over_at
from hwprof.plan.settings.frameworks import settings_of
from hwprof.report.cells import percent, quantity_text, span_text
from hwprof.report.plan.tables import layout_words

SHOWN = 8


def plan_text(answer: Answer) -> str:
    """Plans, machines side by side where there are several, and why the rest was ruled out."""
    lines = [
        f"{answer.evaluated:,} layouts evaluated in {answer.search_s:.2f} s; best by {answer.objective}",
        "",
        *(_plan_line(plan) for plan in answer.plans[:SHOWN]),
    ]
    for option in answer.options:
        lines += ["", *_option_lines(option)]
    lines += [f"{one.devices} x {one.hardware}: no: {one.reason}" for one in answer.unable]
    lines += _scaling_lines(answer.scaling)
    if answer.plans:
        lines += ["", "settings of the first plan (written with --output):", *_settings_lines(answer.plans[0])]
    return "\n".join(lines)


def _scaling_lines(points: Sequence[ScalingPoint]) -> Iterator[str]:
    for kind in ("strong", "weak"):
        curve = [point for point in points if point.kind == kind]
        if not curve:
            continue
        yield f"\n{kind} scaling: {scaling_words(curve)}"
        for point in curve:
            step, share = quantity_text(point.step_s, "s"), percent(point.efficiency)
            yield (
                f"{point.devices:>9,} devices  batch {point.global_batch:,}  step {step}, efficiency {share}, "
                f"waiting {percent(point.waiting_fraction)}  {layout_words(point.job)}"
            )


def scaling_words(curve: Sequence[ScalingPoint]) -> str:
    """Where waiting takes over on a curve, in a sentence."""
    late = taken_over_at(curve)
    if late is not None:
        return f"from {late:,} devices on, communication, bubble and stragglers take longer than the work"
    return f"devices work longer than they wait on all counts looked at, up to {curve[-1].devices:,}"


def _settings_lines(plan: Plan) -> Iterator[str]:
    for one in settings_of(plan):
        can = one.file_name if one.text else "can't express " + "; ".join(one.lacks)
        besides = f" (besides: {'; '.join(one.besides)})" if one.besides else ""
        yield f"  {one.framework}: {can}{besides}"


def _plan_line(plan: Plan) -> str:
    found = plan.prediction
    ahead = "" if plan.ahead is None else f", {percent(plan.ahead, 2)} sure to beat the next"
    step, span = quantity_text(found.step_s, "s"), span_text(found.interval_s, "s")
    memory = quantity_text(found.memory.device_bytes, "byte")
    on_host = found.memory.host_bytes
    host = f", {quantity_text(on_host, 'byte')} of host memory a device" if on_host else ""
    return (
        f"{plan.rank:>3}  {plan.devices} x {plan.question.machine.device.id}  {layout_words(plan.job)}\n"
        f"     step {step} (90 %: {span}), MFU {percent(found.mfu)}, {found.bound}-bound, memory {memory}"
        f"{' (tight)' if plan.tight else ''}{host}{ahead}{_bill_words(plan)}"
    )


def _bill_words(plan: Plan) -> str:
    bill = plan.bill
    if bill.steps <= 1:
        return ""
    usd = f", {bill.usd[0]:,.0f} to {bill.usd[1]:,.0f} USD" if bill.usd else ""
    energy = f", {bill.energy_kwh:,.0f} kWh" if bill.energy_kwh is not None else ""
    return f"\n     {bill.days:,.1f} days{usd}{energy}"


def _option_lines(option: Option) -> Iterator[str]:
    yield f"{option.name}: " + (layout_words(option.plans[0].job) if option.plans else f"no: {option.reason}")
    if option.gains:
        named = ", ".join(f"{gain.resource} {percent(gain.saved_fraction, 2)}" for gain in option.gains)
        yield f"  10 % more of each would shorten the step by: {named}"
    for refusal in option.refusals:
        yield f"  {refusal.count:>9,} {refusal.rule}: {refusal.example}"
