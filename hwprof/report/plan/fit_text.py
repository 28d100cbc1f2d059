"""What does the terminal show of a fine-tuning that is to fit? The answer, one grid, and what it rests on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TextIO

from hwprof.plan.fit.nearest import Change, Smallest, Trainable
from hwprof.plan.fit.question import EXPERTS_LEFT, Adaptation, FitQuestion
from hwprof.plan.fit.rows import USUAL_LENGTH, Fit, FitRow, Largest, Room
from hwprof.report.cells import Field, build_sheet, build_table
from hwprof.report.chinese import Language
from hwprof.report.csv import render_csv
from hwprof.report.folding import COLUMNS
from hwprof.report.terminal import Block, block_in_chinese, print_blocks
from hwprof.units import format_bytes, format_count, format_long, format_seconds, format_span, number

GB = 1e9
WAYS: dict[Adaptation, str] = {
    "full": "full",
    "full-8bit": "full with 8-bit optimizer",
    "lora": "LoRA",
    "qlora": "QLoRA",
}
_NAMED = 3
"""Devices that are named of those that would do."""


def print_fit(
    fit: Fit, change: Change | None, stream: TextIO, *, verbose: bool = False, language: Language = "en"
) -> None:
    """Print the answer in a line, the grid of batches and lengths, and what was assumed, within a screen.

    With ``verbose`` each length, and the intervals of the best batches.
    """
    fields = _grid_fields(fit)
    able = [each for each in fit.largest if any(row.verdict != "no" for row in _rows_of(fit, each)) or each.likely]
    able = able if verbose else _on_screen(able)
    first = _answer(fit)
    table = build_table("fit", "", fields, able)
    blocks = [
        Block(lines=first, indent=0),
        *([] if change is None else [Block(lines=[_change_line(change)], indent=0)]),
        *(
            [
                Block(
                    title="memory of a device [GB] by sequences at a time; ~: may need more than there is",
                    table=table,
                )
            ]
            if able
            else []
        ),
        Block(lines=[*_best_lines(fit)] if verbose else [], indent=0),
        Block(lines=[*_basis(fit.question, verbose=verbose)], indent=0),
    ]
    _print(blocks, stream, language)


def _print(blocks: Sequence[Block], stream: TextIO, language: Language) -> None:
    print_blocks(list(map(block_in_chinese, blocks)) if language == "zh" else blocks, stream)


_MORE = "; all lengths and intervals: --verbose"
_ROWS_SHOWN = 8


def _on_screen(rows: list[Largest]) -> list[Largest]:
    """As many lengths of each way as a screen has room for: the usual, the longest and the shortest first."""
    lengths = sorted({each.seq_len for each in rows})
    order = dict.fromkeys([*({USUAL_LENGTH} & {*lengths}), *lengths[-1:], *lengths[:1], *lengths])
    while order and sum(each.seq_len in order for each in rows) > max(
        _ROWS_SHOWN, len({each.adaptation for each in rows})
    ):
        order.popitem()
    return [each for each in rows if each.seq_len in order]


def print_smallest(
    question: FitQuestion, found: Sequence[Smallest], stream: TextIO, *, language: Language = "en"
) -> None:
    """Print for each way the least hardware on which it works."""
    batch, length = min(question.batches), min(question.lengths)
    lines = [
        "; ".join(_least(one) for one in found),
        f"{question.model.name}, {batch} x {length:,} tokens at a time; the least that surely holds it, and what else:",
    ]
    for one in found:
        need, high = format_bytes(one.row.device_bytes), format_bytes(one.row.device_interval_bytes[1])
        if not one.devices:
            lines.append(f"  {WAYS[one.adaptation]}: more than 8 devices of any kind ({need} each of 8 needed)")
            continue
        names = ", ".join(dict.fromkeys(room.name for room in one.rooms[:_NAMED]))
        more = f" and {len(one.rooms) - _NAMED} more" if len(one.rooms) > _NAMED else ""
        each = "" if one.devices == 1 else f"{one.devices} devices with "
        lines.append(f"  {WAYS[one.adaptation]}: {each}{need} (up to {high}): {names}{more}")
    _print([Block(lines=lines, indent=0), Block(lines=[*_basis(question)], indent=0)], stream, language)


def print_trainable(
    question: FitQuestion, room: Room, found: Sequence[Trainable], stream: TextIO, *, language: Language = "en"
) -> None:
    """Print for each way the largest models that a device trains."""
    batch, length = min(question.batches), min(question.lengths)
    times = f"{question.devices} x " if question.devices > 1 else ""
    ways = "; ".join(f"{_short(one.adaptation)} {one.models[0][0].name if one.models else 'nothing'}" for one in found)
    lines = [
        ways,
        f"on {times}{room.name} surely fit, {batch} x {length:,} tokens at a time, as the catalogue's largest:",
    ]
    for one in found:
        said = ", ".join(f"{model.name} ({format_bytes(row.device_bytes)})" for model, row in one.models)
        lines.append(f"  {WAYS[one.adaptation]}: {said or 'none'}")
    lines.append("one of them, at which batch and length, how fast: hwprof fit --model NAME --hardware NAME")
    _print([Block(lines=lines, indent=0), Block(lines=[*_basis(question)], indent=0)], stream, language)


def _short(way: Adaptation) -> str:
    return way if way == "full-8bit" else WAYS[way]


def _least(one: Smallest) -> str:
    """The fewest devices of the smallest kind."""
    way = "8-bit" if one.adaptation == "full-8bit" else WAYS[one.adaptation]
    times = f"{one.devices}x" if one.devices > 1 else ""
    return f"{way} {times}{one.rooms[0].name}" if one.devices else f"{way} no 8 devices"


def fit_csv(fit: Fit) -> str:
    """The rows as a table for spreadsheets."""
    return render_csv(build_sheet("fit", "Fit", _SHEET, fit.rows))


_SHEET: tuple[Field[FitRow], ...] = (
    Field("adaptation", "Adaptation", lambda row: row.adaptation),
    Field("batch_size", "Batch", lambda row: row.batch_size, "count"),
    Field("seq_len", "Tokens", lambda row: row.seq_len, "count"),
    Field("verdict", "Verdict", lambda row: row.verdict),
    Field("peak_bytes", "Peak", lambda row: row.peak_bytes, "byte"),
    Field("interval_lo_bytes", "From", lambda row: row.interval_bytes[0], "byte"),
    Field("interval_hi_bytes", "To", lambda row: row.interval_bytes[1], "byte"),
    Field("device_bytes", "Device", lambda row: row.device_bytes, "byte"),
    Field("step_s", "Step", lambda row: row.step_s, "s"),
    Field("tokens_per_s", "Tokens/s", lambda row: row.tokens_per_s, "count"),
)


def _rows_of(fit: Fit, each: Largest) -> list[FitRow]:
    return [row for row in fit.rows if (row.adaptation, row.seq_len) == (each.adaptation, each.seq_len)]


def _grid_fields(fit: Fit) -> tuple[Field[Largest], ...]:
    cells = {(row.adaptation, row.seq_len, row.batch_size): row for row in fit.rows}

    def cell(batch: int) -> Callable[[Largest], str]:
        return lambda each: _cell(cells[each.adaptation, each.seq_len, batch])

    speed: tuple[Field[Largest], ...] = (Field("tokens_per_s", "tokens/s", _speed, style="number"),)
    return (
        Field("way", "way", lambda each: _short(each.adaptation)),
        Field("tokens", "tokens", lambda each: f"{each.seq_len:,}", style="number"),
        *(Field(f"batch_{batch}", str(batch), cell(batch), style="number") for batch in fit.question.batches),
        Field("largest", "largest", _largest_words, style="number", meaning="the largest batch that fits"),
        *(speed if fit.room.machine is not None else ()),
    )


def _cell(row: FitRow) -> str:
    return "no" if row.verdict == "no" else f"{'~' * (row.verdict == 'tight')}{number(row.device_bytes / GB)}"


def _largest_words(each: Largest) -> str:
    likely, sure = (row.batch_size if row else 0 for row in (each.likely, each.sure))
    return str(sure) if likely == sure else f"{sure}, perhaps {likely}"


def _speed(each: Largest) -> str | None:
    row = each.sure or each.likely
    return None if row is None or row.tokens_per_s is None else number(row.tokens_per_s, 2)


def _answer(fit: Fit) -> list[str]:
    """The answer in a line, and what it is of; where that is long each way has one of its own below."""
    ways = fit.question.adaptations
    whole = "; ".join(_verdict(fit, way) for way in ways)
    if len(whole) <= COLUMNS:
        return [whole, f"  {_subject(fit)}"]
    found = {way: fit.best_row(way) for way in ways}
    groups = (
        ("fits", "fit", [way for way, row in found.items() if row is not None and row.verdict == "fits"]),
        ("may fit", "may fit", [way for way, row in found.items() if row is not None and row.verdict != "fits"]),
        ("does not", "do not", [way for way, row in found.items() if row is None]),
    )
    none = len(groups[2][2]) == len(ways)
    said = "; ".join(
        f"{_listed(names)} {one if len(names) == 1 else several}" for one, several, names in groups if names
    ) + (" fit" if none else "")
    return [said, f"  {_subject(fit)}", *(f"  {_verdict(fit, way)}" for way in ways)]


def _listed(ways: list[Adaptation]) -> str:
    names = [_short(way) for way in ways]
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _subject(fit: Fit) -> str:
    length = "" if fit.question.tokens is None else f", {format_count(fit.question.tokens).replace('G', 'B')} tokens"
    asked = f"{fit.question.model.name}{length} on {_times(fit.question)}{fit.room.name}"
    memory = "" if fit.room.machine is None else f" ({format_bytes(fit.room.capacity_bytes)})"
    return f"{asked}{memory}"


def _times(question: FitQuestion) -> str:
    return f"{question.devices} x " if question.devices > 1 else ""


def _verdict(fit: Fit, way: Adaptation) -> str:
    """One way, in words."""
    row = fit.best_row(way)
    if row is None:
        least = min((one for one in fit.rows if one.adaptation == way), key=lambda one: one.device_bytes)
        return f"{WAYS[way]} does not fit (needs {format_bytes(least.device_bytes)})"
    how = "fits" if row.verdict == "fits" else "may fit (tight)"
    pairs = "sequence" if fit.question.task == "sft" else "pair"
    taken_s = row.training_s(fit.question.tokens)
    if taken_s is not None:
        return f"{WAYS[way]} {how}, {format_long(taken_s)} ({row.batch_size} x {row.seq_len:,} at a time)"
    some = pairs if row.batch_size == 1 else f"{pairs}s"
    return f"{WAYS[way]} {how}, up to {row.batch_size} {some} of {row.seq_len:,} tokens"


def _change_line(change: Change) -> str:
    row = change.row
    need = f"{WAYS[row.adaptation]} at {row.batch_size} x {row.seq_len:,} tokens then needs"
    return f"nearest change that works: {' '.join(change.words)} ({need} {format_bytes(row.device_bytes)})"


def _best_lines(fit: Fit) -> Iterator[str]:
    """The step of the largest batch of each way, with its intervals."""
    for way in fit.question.adaptations:
        row = fit.best_row(way)
        if row is None:
            continue
        memory = f"peak {format_bytes(row.peak_bytes)} (90 %: {format_span(row.interval_bytes, 'byte')})"
        line = f"{WAYS[way]}, {row.batch_size} x {row.seq_len:,}: {memory}"
        if row.step_s is not None and row.step_interval_s is not None:
            line += f", step {format_seconds(row.step_s)} (90 %: {format_span(row.step_interval_s, 's')})"
        yield line


_HOW = {
    "returned": "loss over whole logits that stay (14 bytes each)",
    "plain": "loss over whole logits in fp32",
    "fused-linear": "a loss that never holds whole logits",
    "chunked": "loss in chunks of tokens",
}


def _basis(question: FitQuestion, *, verbose: bool = True) -> Iterator[str]:
    job = question.job(question.adaptations[0], 1, min(question.lengths))
    kernels = "compiled" if job.compiled else "fused kernels" if job.fused else "eager"
    again = "no gradient checkpointing" if job.recompute == "none" else f"gradient checkpointing: {job.recompute}"
    yield f"software: {question.stack.name}, {kernels}, {_HOW.get(job.loss, f'loss {job.loss}')}"
    if question.model.captured:
        yield f"model: {question.model.notes}"
    elif question.notes != question.model.notes:
        yield EXPERTS_LEFT
    adapters = {"lora", "qlora"}.isdisjoint(question.adaptations)
    yield again if adapters else f"{again}; adapters: rank {question.rank} on {question.targets} linear layers"
    if not {"full", "full-8bit"}.isdisjoint(question.adaptations):
        stored = {"autocast": "fp32 under autocast", "narrowed": "fp32", "mixed": "16 bits with fp32 masters"}
        yield f"full: weights in {stored.get(job.storage, '16 bits')} (--storage pure: all in 16 bits)"
    if question.devices > 1:
        yield f"{question.devices} devices share it by ZeRO stage {question.zero_stage}"
    yield "leaner: --stack trl (its loss from 1.16 on), --stack unsloth, --loss fused-linear"
    yield f"settings for TRL and axolotl: --output DIR{_MORE * (not verbose)}"
