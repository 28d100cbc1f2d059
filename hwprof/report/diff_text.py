"""What does the terminal show of a comparison? The step, what explains the change, what else differs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TextIO

from hwprof.report.cells import Field, Table, build_table
from hwprof.report.chinese import Language, chinese, phrase, table_in_chinese
from hwprof.report.terminal import Section, print_sections
from hwprof.specs.record.diff import DiffLevel, DiffOutcome, DiffRank, DiffReport, DiffRow, DiffSetting, DiffSide
from hwprof.units import format_change, number

_LEVELS: dict[DiffLevel, str] = {
    "part": "Where the time went",
    "phase": "Phases",
    "module": "Modules",
    "operation": "Operations",
    "kernel": "Kernels",
}
_OUTCOMES: dict[DiffOutcome, str] = {"failed": "FAILED", "undecided": "UNDECIDED", "passed": "passed"}
_VERDICTS = {
    "slower": "B is slower than A, beyond noise",
    "faster": "B is faster than A, beyond noise",
    "within noise": "no change beyond noise",
    "too few samples": "too few steps to tell a change from noise",
}
_SAME_TOKENS = 1e-3
"""Ratios this close to 1 are of steps with as many tokens; rates in a record are rounded."""
_YES = {True: "yes", False: "no", None: ""}

_SIDES: tuple[Field[tuple[str, DiffSide]], ...] = (
    Field("side", "Side", lambda side: side[0]),
    Field("name", "Of", lambda side: side[1].name, style="code"),
    Field("step", "Step", lambda side: side[1].step_median_s, "s", meaning="median"),
    Field("samples", "Steps", lambda side: side[1].samples, "count"),
    Field(
        "tokens",
        "Tokens/s",
        lambda side: side[1].tokens_per_s,
        "count",
        meaning="tokens of a step over its median time",
    ),
    Field("memory", "Peak memory", lambda side: side[1].peak_memory_bytes, "byte"),
)
_ROWS: tuple[Field[DiffRow], ...] = (
    Field("name", "Name", lambda row: row.name, style="code"),
    Field("a", "A", lambda row: row.a_s, "s", meaning="per step"),
    Field("b", "B", lambda row: row.b_s, "s", meaning="per step"),
    Field("change", "Change", lambda row: row.change_s, "s"),
    Field("share", "Of the change", lambda row: row.share, "fraction", meaning="of the step's change"),
    Field("noise", "Beyond noise", lambda row: _YES[row.beyond_noise]),
    Field("a_calls", "Calls A", lambda row: row.a_calls, "count", meaning="per step"),
    Field("b_calls", "Calls B", lambda row: row.b_calls, "count", meaning="per step"),
)
_RANKS: tuple[Field[DiffRank], ...] = (
    Field("rank", "Rank", lambda row: row.rank, "count"),
    Field("a", "A", lambda row: row.a_s, "s", meaning="median step"),
    Field("b", "B", lambda row: row.b_s, "s", meaning="median step"),
    Field("change", "Change", lambda row: format_change(row.change_fraction)),
    Field("slower", "Slower beyond noise", lambda row: _YES[row.slower]),
)
_SETTINGS: tuple[Field[DiffSetting], ...] = (
    Field("key", "Name", lambda row: row.key, style="code"),
    Field("a", "A", lambda row: row.a, style="long"),
    Field("b", "B", lambda row: row.b, style="long"),
)


def print_diff(report: DiffReport, stream: TextIO, *, top: int, language: Language = "en") -> None:
    """Print the comparison; ``top`` rows a level."""
    section = diff_section(report, top)
    print_sections([section_in_chinese(section) if language == "zh" else section], stream)


def diff_section(report: DiffReport, top: int) -> Section:
    """What the comparison says, as a title, lines, tables of ``top`` rows a level, and notes."""
    title = f"{_VERDICTS[report.step.verdict]}: {format_change(report.step.change_fraction)} of the step time"
    return Section(title, _lead(report), _tables(report, top), report.notes)


def section_in_chinese(section: Section) -> Section:
    """The same tables and numbers under Chinese words; names and notes stay."""
    verdict, _, change = section.title.partition(": ")
    title = f"{chinese(verdict)}：单步时间变化 {change.removesuffix(' of the step time')}"
    lead = [phrase(line) for line in section.lead]
    tables = [table_in_chinese(_named_in_words(table)) for table in section.tables]
    return Section(title, lead, tables, [*map(phrase, section.notes)])


def _named_in_words(table: Table) -> Table:
    """Parts and phases have names of everyday words, which a language has its own of."""
    first, *others = table.columns
    return replace(table, columns=(replace(first, style="text"), *others)) if table.name in {"part", "phase"} else table


def _lead(report: DiffReport) -> list[str]:
    lines = [*_per_token(report)]
    if report.step.interval is not None:
        low, high = map(format_change, report.step.interval)
        lines.append(f"95 % interval of the change: {low} to {high}")
    if report.limit_fraction is not None and report.outcome is not None:
        lines.append(f"{_OUTCOMES[report.outcome]}: the limit is {format_change(report.limit_fraction)}, beyond noise")
    return lines


def _per_token(report: DiffReport) -> Iterator[str]:
    """Where steps hold different numbers of tokens, what a token costs is what can be compared."""
    ratio, change = report.step.tokens_ratio, report.step.rate_change_fraction
    if ratio is not None and change is not None and abs(ratio - 1) > _SAME_TOKENS:
        yield f"a step of B has {number(ratio)} times the tokens of one of A: {format_change(change)} tokens/s"


def _tables(report: DiffReport, top: int) -> Sequence[Table]:
    tables = [build_table("sides", "Compared", _SIDES, [("A", report.a), ("B", report.b)])]
    if report.ranks:
        tables.append(build_table("ranks", "Ranks, each with itself", _RANKS, report.ranks))
    for level, title in _LEVELS.items():
        rows = [row for row in report.rows if row.level == level]
        if rows:
            hidden = (
                f"The {top} largest changes of {len(rows)}; hwprof diff --top N shows more." if len(rows) > top else ""
            )
            tables.append(build_table(level, title, _telling(rows), rows[:top], note=hidden, one_unit=True))
    for name, title, settings in (
        ("settings", "Settings that differ", report.settings),
        ("environment", "Machine and software that differ", report.environment),
    ):
        if settings:
            tables.append(build_table(name, title, _SETTINGS, settings))
    return tables


def _telling(rows: Sequence[DiffRow]) -> tuple[Field[DiffRow], ...]:
    """The columns that say anything: noise is known of phases alone, calls of operations and kernels."""
    return tuple(field for field in _ROWS if any(field.read(row) not in {None, ""} for row in rows))
