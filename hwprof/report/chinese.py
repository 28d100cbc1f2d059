"""How is a page or an answer said in Chinese? Its words, one by one; what has none stays as it is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import Literal

from hwprof.report.cells import Cell, Column, Table
from hwprof.report.pictures import Card, Picture

Language = Literal["en", "zh"]


def _pairs() -> tuple[Mapping[str, str], Mapping[str, str]]:
    """Words and titles, and sentences with holes: English, a tab, Chinese."""
    text = (Path(__file__).parent / "assets" / "chinese.tsv").read_text(encoding="utf-8")
    _, words, sentences = re.split("^# .*\n", text, flags=re.MULTILINE)
    first, second = (dict(line.split("\t") for line in part.splitlines()) for part in (words, sentences))
    return first, second


WORDS, SENTENCES = _pairs()
"""English -> Chinese: what is looked up as a whole, and what is found in a text (``{}`` are its holes)."""

_IN_SENTENCES = (
    (r"failures a day", "次故障/天"),
    (r"restarts", "重启"),
    (r"checkpoints", "检查点"),
    (r"lost work", "重做"),
    (r"(\S+) days", r"\1 天"),
    (r"(\S+) steps", r"\1 步"),
    (r"(\S+) to (\S+)", r"\1 至 \2"),
    (r" in 80 %", "（80 % 区间）"),
    (r" in 90 %", "（90 % 区间）"),
    (r"with the days' interval", "（含天数区间）"),
    (r"of each device", "每台"),
    (r"up 至 (\S+ \S+) of (\S+ \S+)", r"最多 \1，共 \2"),
    (r"attention counted in full", "注意力按全量计"),
    (r"95 % interval of the change:", "变化的 95 % 区间："),
    (r"noise is that within each run; .* is not in it", "噪声指各次运行之内的；两次之间机器上的其他工作不在其中"),
    (r"The (\d+) largest changes of (\d+); (.*) shows more\.", r"\2 个变化中最大的 \1 个；\3 显示更多。"),
    (r"The first (\d+) of (\d+); --top N shows more, --format json all\.", r"\2 行中的前 \1 行；--top N 显示更多。"),
    (r"Right of zero B is slower, left of it faster\.", "零右侧 B 更慢，左侧更快。"),
    (r"(\d+) smaller changes: see the table\.", r"另有 \1 个较小的变化见表。"),
    (r"B less A, time of a step", "B 减 A，单步时间"),
    (r"FAILED: the limit is (\S+ \S+), beyond noise", r"未通过：上限为 \1，超出噪声"),
    (r"UNDECIDED: the limit is (\S+ \S+), beyond noise", r"未定：上限为 \1，超出噪声"),
    (r"passed: the limit is (\S+ \S+), beyond noise", r"通过：上限为 \1，超出噪声"),
    (r"9([05]) % interval", r"9\1 % 区间"),
    (r"\((\S+ %) causal\)", r"（因果 \1）"),
    (r"all servers busy", "所有服务器满载"),
    (r"no price known", "价格未知"),
    (r"no power known", "功率未知"),
)
"""Words inside sentences that are made of numbers."""


def chinese(text: str) -> str:
    """A word of a page; several with commas between them one by one."""
    return WORDS.get(text) or "，".join(WORDS.get(part, part) for part in text.split(", "))


def phrase(text: str) -> str:
    """A line or a sentence: what the code says in it, the longest first.

    Where words are left that have no Chinese, it stays as it is: half a sentence says less than one in English.
    """
    found = text
    for known, said in (each for each in _IN_SENTENCES if len(each[0]) >= _LONG):
        found = re.sub(known, said, found)
    for english, other, used in _PATTERNS:
        found = english.sub(partial(_filled, other, used), found)
    for known, said in _IN_SENTENCES:
        found = re.sub(known, said, found)
    if not _CHINESE.search(found) or _ENGLISH.search(found):
        return text
    return re.sub("([,;:]) ", lambda mark: _MARKS[mark[1]], found)


_LONG = 20
"""Letters of an expression from which on it stands for a sentence, and not for words in one."""
_MARKS = {",": "，", ";": "；", ":": "："}
_CHINESE = re.compile("[\u4e00-\u9fff]")
_ENGLISH = re.compile(r"(?:(?<![\w-])[a-z]{2,}[ ,;]+){2}[a-z]{2,}(?![\w.-])")
_HOLE = re.compile(r"\{(\d*)\}")


def _pattern(english: str, other: str) -> tuple[re.Pattern[str], str, tuple[int, ...]]:
    """What to look for, what stands for it, and which group fills each hole; what both begin or end with stays."""
    places = [int(found[1] or place) for place, found in enumerate(_HOLE.finditer(other))]
    count = english.count("{}")
    first, last = 0, count
    while first < count and english.startswith("{}") and other.startswith("{}") and places[0] == first:
        english, other, places, first = english[2:], other[2:], places[1:], first + 1
    while last > first and english.endswith("{}") and other.endswith("{}") and places[-1] == last - 1:
        english, other, places, last = english[:-2], other[:-2], places[:-1], last - 1
    pieces = english.split("{}")
    groups = [_group(before, after) for before, after in pairwise(pieces)]
    wanted = "".join(part for pair in zip_longest(map(_plain, pieces), groups, fillvalue="") for part in pair)
    edges = [r"(?<![\w-])" if english[:1].isalpha() else "", r"(?![\w-])" if english[-1:].isalpha() else ""]
    used = tuple(place - first + 1 for place in places)
    return re.compile(edges[0] + wanted + edges[1]), _HOLE.sub("{}", other), used


def _plain(piece: str) -> str:
    """What stands between holes; a full stop is none in a number."""
    return re.sub(r"^\\\.", r"\\.(?!\\d)", re.escape(piece))


def _group(before: str, after: str) -> str:
    """What may stand in a hole: the letter of several, or up to what comes next."""
    if before[-1:].isalpha():
        return "(s?)"
    return (
        "([^;:；：]*?)"
        if before and after
        else r"((?:[^\s,;:，；：。（）]|,(?=\d))+(?<!\.)(?: [kMGTP]?[sBW]\b| [kMGTP]\b| ms\b| µs\b| %)?)"
    )


def _filled(other: str, used: tuple[int, ...], found: re.Match[str]) -> str:
    values = ("" if found[place] == "s" else found[place] for place in used)
    return other.format(*(WORDS.get(value) or SENTENCES.get(value, value) for value in values))


_PATTERNS = [
    _pattern(english, other)
    for english, other in sorted(SENTENCES.items(), key=lambda pair: (-len(pair[0].replace("{}", "")), pair[0]))
]


def table_in_chinese(table: Table) -> Table:
    """Its titles, and cells of text that are words of a page; numbers and names stay."""
    return replace(
        table,
        title=chinese(table.title),
        columns=tuple(
            replace(column, title=chinese(column.title), meaning=said(column.meaning)) for column in table.columns
        ),
        rows=table.rows
        if table.name in _ENGLISH_ROWS
        else tuple(tuple(map(_cell, row, table.columns)) for row in table.rows),
        empty=said(table.empty),
        note=phrase(table.note),
    )


def _cell(cell: Cell, column: Column) -> Cell:
    return replace(cell, text=WORDS.get(cell.text) or phrase(cell.text)) if column.style in _WORDED else cell


_WORDED = {"text", "long", "number", "strong", "quiet"}
_ENGLISH_ROWS = {"settings"}
"""Tables of what frameworks call things."""


def card_in_chinese(card: Card) -> Card:
    """Its title, and the numbers in words."""
    return replace(
        card,
        title=chinese(card.title),
        value=phrase(card.value),
        brief=phrase(card.brief),
        detail=phrase(card.detail),
    )


def picture_in_chinese(picture: Picture) -> Picture:
    """Its titles, legend and note, where there are words for them."""
    return replace(
        picture,
        title=said(picture.title),
        x_title=said(picture.x_title),
        y_title=said(picture.y_title),
        note=said(picture.note),
        empty=said(picture.empty),
        lines=tuple(replace(line, name=said(line.name)) for line in picture.lines),
        bars=tuple(replace(bar, label=said(bar.label), text=phrase(bar.text)) for bar in picture.bars),
    )


def said(text: str) -> str:
    """A title or a cell as a whole, else what is found in it."""
    return WORDS.get(text) or phrase(text)
