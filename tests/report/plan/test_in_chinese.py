"""Is the planner's answer in Chinese the same answer?"""

from __future__ import annotations

import io
import re

import pytest
from plan_answers import make_answer

from hwprof.report.chinese import WORDS
from hwprof.report.html import render_plan
from hwprof.report.plan.in_chinese import answer_in_chinese, plan_in_chinese
from hwprof.report.plan.text import print_plan
from hwprof.report.plan.view import build_plan_view

CHINESE = re.compile(r"[\u4e00-\u9fff]")


@pytest.fixture(scope="module")
def answer():
    return make_answer()


def test_the_line_has_the_same_numbers(answer):
    best, (line, _) = answer.plans[0], answer_in_chinese(answer)
    assert f"{best.devices} 台 h100-sxm5-80gb" in line
    pipe = io.StringIO()
    print_plan(answer, pipe, language="zh")
    first = pipe.getvalue().splitlines()[0]
    assert first == line
    english = io.StringIO()
    print_plan(answer, english)
    days = re.search(r"([\d.]+) days", english.getvalue()).group(1)
    assert f"{days} 天（80 % 区间 " in line


def test_the_page_has_chinese_titles_and_the_same_rows(answer):
    view = build_plan_view(answer)
    other = plan_in_chinese(view, answer)
    for name, table in view.tables.items():
        assert [[cell.value for cell in row] for row in other.tables[name].rows] == [
            [cell.value for cell in row] for row in table.rows
        ]
        assert [column.name for column in other.tables[name].columns] == [column.name for column in table.columns]
    assert all(CHINESE.search(card.title) or card.title in {"MFU", "Tokens/s", "token/s"} for card in other.cards)
    page = render_plan(other, "zh")
    assert '<html lang="zh">' in page
    assert "<h2>方案</h2>" in page
    assert "<h2>Plans</h2>" not in page


def test_every_word_is_in_chinese_or_a_unit():
    assert all(CHINESE.search(word) or word == "token/s" for word in WORDS.values())
