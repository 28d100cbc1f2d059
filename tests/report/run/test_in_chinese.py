"""Has the Chinese report of a run the numbers of the English one, under Chinese words?"""

from __future__ import annotations

import io
import re

from hwprof.report.html import render_html
from hwprof.report.run.in_chinese import view_in_chinese
from hwprof.report.run.text import print_summary
from hwprof.report.run.view import build_view


def test_titles_are_chinese_and_cells_the_same(record):
    view = build_view(record)
    other = view_in_chinese(view)
    assert other.tables["phases"].title == "阶段"
    said, own = ([[cell.value for cell in row] for row in each.tables["ops"].rows] for each in (view, other))
    assert own == said
    assert [card.value for card in other.headline.cards] == [card.value for card in view.headline.cards]
    numbers = re.compile(r"\d+(?:\.\d+)?")
    for said, own in zip(other.headline.cards, view.headline.cards, strict=True):
        assert sorted(numbers.findall(said.detail)) == sorted(numbers.findall(own.detail))
    assert numbers.findall(other.headline.sentence) == numbers.findall(view.headline.sentence)
    assert re.match("单步(算力|访存|通信|拷贝|主机|延迟)受限：", other.headline.sentence)


def test_no_heading_of_the_page_is_left_in_english(record):
    page = render_html(view_in_chinese(build_view(record)), "zh")
    assert '<html lang="zh">' in page
    body = page[: page.index('id="definitions"')]
    headings = [text for _, text in re.findall(r"<(h2)>([^<]+)</h2>", body)]
    assert headings
    assert [text for text in headings if not re.search(r"[一-鿿]", text)] == []


def test_the_terminal_speaks_chinese_too(record):
    pipe = io.StringIO()
    print_summary(record, pipe, language="zh")
    assert "该改什么" in pipe.getvalue()
