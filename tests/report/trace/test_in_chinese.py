"""Has the Chinese analysis of a trace the numbers of the English one, under Chinese words?"""

from __future__ import annotations

import io
import re

from made_up_trace import made_up_device, made_up_report

from hwprof.report.chinese import WORDS
from hwprof.report.files.trace import write_trace_report
from hwprof.report.trace.tables import PART_WORDS
from hwprof.report.trace.text import print_trace

CHINESE = re.compile(r"[\u4e00-\u9fff]")


def printed(language):
    pipe = io.StringIO()
    print_trace(made_up_report(made_up_device()), pipe, top=5, language=language)
    return pipe.getvalue()


def test_each_part_of_the_time_has_its_words():
    assert [words for words in PART_WORDS.values() if not CHINESE.search(WORDS.get(words, ""))] == []


def test_the_page_has_no_heading_or_column_in_english(tmp_path):
    write_trace_report(made_up_report(made_up_device(), made_up_device(rank=1)), tmp_path, "zh")
    page = (tmp_path / "trace.html").read_text(encoding="utf-8")
    assert '<html lang="zh">' in page
    headings = re.findall(r"<h[23]>([^<]+)</h[23]>", page)
    assert [text for text in headings if not CHINESE.search(text)] == []
    columns = {text.strip() for text in re.findall(r"<button type=\"button\"[^>]*>([^<]+)<", page)}
    assert {text for text in columns if not CHINESE.search(text)} <= {"FLOP"}
    for left in ("Filter", "What the columns mean", "Dark theme", "loads nothing", " rows<"):
        assert left not in page


def test_the_terminal_has_the_same_numbers_in_chinese():
    numbers = re.compile(r"\d+(?:\.\d+)?")
    english, chinese = printed("en"), printed("zh")
    assert "耗时最多：" in chinese
    assert sorted(numbers.findall(english)) == sorted(numbers.findall(chinese))
