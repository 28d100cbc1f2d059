"""Is the planner's answer in Chinese the same answer?"""

from __future__ import annotations

import io
import re

import pytest
from plan_answers import make_answer

from hwprof.report.chinese import WORDS
from hwprof.report.html import render_plan
from hwprof.report.plan.in_chinese import plan_in_chinese
from hwprof.report.plan.text import print_plan
from hwprof.report.plan.view import build_plan_view

CHINESE = re.compile(r"[\u4e00-\u9fff]")
NUMBER = re.compile(r"\d[\d,.]*\d|\d")


@pytest.fixture(scope="module")
def answer():
    return make_answer()


def test_the_lines_have_the_same_numbers(answer):
    texts = {}
    for language in ("en", "zh"):
        pipe = io.StringIO()
        print_plan(answer, pipe, language=language)
        texts[language] = pipe.getvalue().splitlines()
    best = answer.plans[0]
    assert texts["zh"][0].startswith(f"{best.devices} x h100-sxm5-80gb：")
    assert re.search(r" (分钟|小时)（80 % 区间 ", texts["zh"][0])
    for english, chinese in zip(texts["en"][:3], texts["zh"][:3], strict=True):
        assert NUMBER.findall(english) == NUMBER.findall(chinese)


def test_the_page_has_chinese_titles_and_the_same_rows(answer):
    view = build_plan_view(answer)
    other = plan_in_chinese(view)
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
