"""What does the terminal show of the planner's answer? Plans, why the rest was ruled out, scaling and settings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TextIO

from hwprof.plan.answer.machines import Answer, Option, Unable
from hwprof.plan.answer.plans import Plan
from hwprof.plan.answer.scaling import ScalingPoint
from hwprof.report.cells import build_table, chosen
from hwprof.report.chinese import Language, table_in_chinese
from hwprof.report.plan.answer_text import answer_lines, fleet_table, goodput_lines
from hwprof.report.plan.in_chinese import answer_in_chinese
from hwprof.report.plan.tables import (
    REFUSALS,
    SCALING,
    cost_words,
    days_words,
    energy_words,
    layout_words,
    refusals_of,
    scaling_words,
    search_words,
    settings_of_best,
)
from hwprof.report.terminal import Block, print_blocks
from hwprof.units import format_bytes, format_estimate, format_fraction, format_seconds, format_span

_SHOWN = 3
_GAINS = 3


def print_plan(answer: Answer, stream: TextIO, *, verbose: bool = False, language: Language = "en") -> None:
    """Print the answer in a line, then plans, machines side by side where there are several, and why others do not do.

    With ``verbose`` every rule that ruled layouts out, too.
    """
    shown = answer.plans[: _SHOWN * (3 if verbose else 1)] if not answer.fleets or verbose else answer.plans[:1]
    change, fleets = answer.change, fleet_table(answer)
    blocks = [
        Block(lines=answer_in_chinese(answer) if language == "zh" else answer_lines(answer), indent=0),
        *([Block(lines=[f"nearest change: {' '.join(change.words)} ({change.outcome})"], indent=0)] if change else []),
        *([Block(table=table_in_chinese(fleets) if language == "zh" else fleets, indent=0)] if answer.fleets else []),
        Block(lines=goodput_lines(answer.plans[0]) if answer.plans else [], indent=0),
        Block(lines=[line for plan in shown for line in _plan_lines(plan)], indent=0),
        *(_option_block(option, verbose=verbose) for option in answer.options if not answer.fleets or verbose),
        Block(lines=[_unable_line(one) for one in answer.unable], indent=0),
        *_scaling_blocks(answer.scaling),
        Block(lines=[*answer.options[0].question.notes], indent=0),
        Block(lines=[f"{search_words(answer)}; best by {answer.objective}{_more(verbose=verbose)}"], indent=0),
    ]
    if answer.plans:
        blocks.append(_settings_block(answer, verbose=verbose))
    print_blocks(blocks, stream)


def _unable_line(one: Unable) -> str:
    return f"{f'{one.devices} x ' if one.devices else ''}{one.hardware}: no: {one.reason}"


def _more(*, verbose: bool) -> str:
    return "" if verbose else "; --verbose shows what ruled the others out"


def _scaling_blocks(points: Sequence[ScalingPoint]) -> Iterator[Block]:
    fields = chosen(SCALING, "devices global_batch_sequences step_s efficiency_fraction waiting_fraction layout")
    for kind in ("strong", "weak"):
        curve = [point for point in points if point.kind == kind]
        if curve:
            yield Block(title=f"{kind} scaling: {scaling_words(curve)}", table=build_table(kind, "", fields, curve))


def _settings_block(answer: Answer, *, verbose: bool) -> Block:
    title = "settings of the first plan (written with --output)"
    if verbose:
        return Block(title=f"{title}:", lines=[*_settings_lines(answer)])
    files = ", ".join(one.file_name for one in settings_of_best(answer) if one.text)
    return Block(lines=[f"{title}: {files or 'none'}"], indent=0)


def _settings_lines(answer: Answer) -> Iterator[str]:
    for one in settings_of_best(answer):
        can = one.file_name if one.text else "can't express " + "; ".join(one.lacks)
        besides = f" (besides: {'; '.join(one.besides)})" if one.besides else ""
        yield f"{one.framework}: {can}{besides}"


def _plan_lines(plan: Plan) -> Iterator[str]:
    found = plan.prediction
    ahead = "" if plan.ahead is None else f", {format_estimate(plan.ahead)} sure to beat the next"
    step, span = format_seconds(found.step_s), format_span(found.interval_s, "s")
    on_host = found.memory.host_bytes
    host = f", {format_bytes(on_host)} of host memory a device" if on_host else ""
    whole = f", {days_words(plan)}, {cost_words(plan)}, {energy_words(plan)}" if plan.bill.steps > 1 else ""
    yield f"{plan.rank:>3}  {plan.devices} x {plan.question.machine.device.id}  {layout_words(plan.job)}{ahead}"
    yield f"     step {step} (90 %: {span}), MFU {format_fraction(found.mfu)}, {found.bound}-bound"
    yield f"     memory {format_bytes(found.memory.device_bytes)}{' (tight)' if plan.tight else ''}{host}{whole}"


def _option_block(option: Option, *, verbose: bool) -> Block:
    found = layout_words(option.plans[0].job) if option.plans else f"no: {option.reason}"
    gains = ", ".join(
        f"{gain.resource} {format_estimate(gain.saved_fraction)}"
        for gain in option.gains[: None if verbose else _GAINS]
    )
    fields = chosen(REFUSALS, "layouts_count rule example")
    return Block(
        title=f"{option.name}: {found}",
        lines=[f"10 % more of each would shorten the step by: {gains}"] if gains else [],
        table=build_table("refusals", "", fields, refusals_of([option])) if verbose else None,
    )
