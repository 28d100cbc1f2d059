"""What does the terminal show of the planner's answer? Plans, why the rest was ruled out, scaling and settings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TextIO

from hwprof.plan.answer.machines import Answer, Option, Unable
from hwprof.plan.answer.plans import Plan
from hwprof.plan.answer.scaling import ScalingPoint
from hwprof.report.cells import build_table, chosen
from hwprof.report.chinese import Language
from hwprof.report.plan.answer_text import answer_lines, fleet_table, goodput_lines, mfu_words
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
from hwprof.report.terminal import Block, block_in_chinese, print_blocks
from hwprof.units import format_bytes, format_estimate, format_seconds, format_span

_SHOWN = 9
_GAINS = 3


def print_plan(answer: Answer, stream: TextIO, *, verbose: bool = False, language: Language = "en") -> None:
    """Print the answer in a line, the first plan, and what it rests on, within a screen.

    With ``verbose`` more plans, the machines side by side, every rule that ruled layouts out, goodput and settings.
    """
    first = answer_lines(answer)
    change = [f"nearest change: {' '.join(one.words)} ({one.outcome})" for one in (answer.change,) if one]
    fleets = fleet_table(answer, most=None if verbose else _FLEETS_SHOWN)
    blocks = [
        Block(lines=[*_most(first, verbose=verbose), *change], indent=0),
        *([Block(table=fleets, indent=0)] if answer.fleets else []),
        *(_whole_blocks(answer) if verbose else [Block(lines=_first_lines(answer), indent=0)]),
        *_scaling_blocks(answer.scaling),
        Block(lines=[*answer.options[0].question.notes, *_last_lines(answer, verbose=verbose)], indent=0),
    ]
    print_blocks(list(map(block_in_chinese, blocks)) if language == "zh" else blocks, stream)


_LINES_SHOWN, _FLEETS_SHOWN = 8, 5


def _most(lines: Sequence[str], *, verbose: bool) -> list[str]:
    """As many lines of the answer as leave room on a screen."""
    left = [] if verbose or len(lines) <= _LINES_SHOWN else [f"  and {len(lines) - _LINES_SHOWN} more: --verbose"]
    return [*(lines[:_LINES_SHOWN] if left else lines), *left]


def _first_lines(answer: Answer) -> list[str]:
    """The first plan, and what would make it faster."""
    if not answer.plans:
        return [_unable_line(one) for one in answer.unable]
    best = answer.plans[0]
    own = [option for option in answer.options if option.question.machine == best.question.machine]
    gains = [_gains_line(option, verbose=False) for option in own[:1] if option.gains]
    return [*_plan_lines(best), *gains, *(_unable_line(one) for one in answer.unable)]


def _whole_blocks(answer: Answer) -> Iterator[Block]:
    """Plans, goodput and each machine with what ruled its layouts out."""
    yield Block(lines=goodput_lines(answer.plans[0]) if answer.plans else [], indent=0)
    yield Block(lines=[line for plan in answer.plans[:_SHOWN] for line in _plan_lines(plan)], indent=0)
    yield from (_option_block(option) for option in answer.options)
    yield Block(lines=[_unable_line(one) for one in answer.unable], indent=0)


def _unable_line(one: Unable) -> str:
    return f"{f'{one.devices} x ' if one.devices else ''}{one.hardware}: no: {one.reason}"


def _scaling_blocks(points: Sequence[ScalingPoint]) -> Iterator[Block]:
    fields = chosen(SCALING, "devices global_batch_sequences step_s efficiency_fraction waiting_fraction layout")
    for kind in ("strong", "weak"):
        curve = [point for point in points if point.kind == kind]
        if curve:
            yield Block(title=f"{kind} scaling: {scaling_words(curve)}", table=build_table(kind, "", fields, curve))


def _last_lines(answer: Answer, *, verbose: bool) -> Iterator[str]:
    """What was searched, and where more stands; with ``verbose`` what each framework can't say of the first plan."""
    searched = f"{search_words(answer)}; best by {answer.objective}"
    if not verbose:
        files = ", --output DIR writes a page and settings" if answer.plans else ""
        yield f"{searched}; --verbose shows more plans and what ruled layouts out{files}"
        return
    yield searched
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
    yield f"     step {step} (90 %: {span}), {mfu_words(found)}, {found.bound}-bound"
    yield f"     memory {format_bytes(found.memory.device_bytes)}{' (tight)' if plan.tight else ''}{host}{whole}"


def _gains_line(option: Option, *, verbose: bool) -> str:
    """What would make the best plan faster."""
    gains = option.gains[: None if verbose else _GAINS]
    shares = ", ".join(f"{gain.resource} {format_estimate(gain.saved_fraction)}" for gain in gains)
    return f"10 % more of each would shorten the step by: {shares}"


def _option_block(option: Option) -> Block:
    found = layout_words(option.plans[0].job) if option.plans else f"no: {option.reason}"
    fields = chosen(REFUSALS, "layouts_count rule example")
    return Block(
        title=f"{option.name}: {found}",
        lines=[_gains_line(option, verbose=True)] if option.gains else [],
        table=build_table("refusals", "", fields, refusals_of([option])),
    )
