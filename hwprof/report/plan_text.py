"""What does a person read of the planner's answer in a terminal?"""

from __future__ import annotations

from collections.abc import Iterator

from hwprof.plan.answer import Answer, Option
from hwprof.plan.plans import Plan
from hwprof.report.cells import percent, quantity_text, span_text
from hwprof.report.plan_tables import layout_words

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
    return "\n".join(lines)


def _plan_line(plan: Plan) -> str:
    found = plan.prediction
    ahead = "" if plan.ahead is None else f", {percent(plan.ahead, 2)} sure to beat the next"
    step, span = quantity_text(found.step_s, "s"), span_text(found.interval_s, "s")
    memory = quantity_text(found.memory.device_bytes, "byte")
    return (
        f"{plan.rank:>3}  {plan.devices} x {plan.question.machine.device.id}  {layout_words(plan)}\n"
        f"     step {step} (90 %: {span}), MFU {percent(found.mfu)}, {found.bound}-bound, memory {memory}"
        f"{' (tight)' if plan.tight else ''}{ahead}{_bill_words(plan)}"
    )


def _bill_words(plan: Plan) -> str:
    bill = plan.bill
    if bill.steps <= 1:
        return ""
    usd = f", {bill.usd[0]:,.0f} to {bill.usd[1]:,.0f} USD" if bill.usd else ""
    energy = f", {bill.energy_kwh:,.0f} kWh" if bill.energy_kwh is not None else ""
    return f"\n     {bill.days:,.1f} days{usd}{energy}"


def _option_lines(option: Option) -> Iterator[str]:
    yield f"{option.name}: " + (layout_words(option.plans[0]) if option.plans else f"no plan: {option.reason}")
    if option.gains:
        named = ", ".join(f"{gain.resource} {percent(gain.saved_fraction, 2)}" for gain in option.gains)
        yield f"  10 % more of each would shorten the step by: {named}"
    for refusal in option.refusals:
        yield f"  {refusal.count:>9,} {refusal.rule}: {refusal.example}"
