"""Does what is too wide for a screen go on below, where a phrase ends, and is nothing lost?"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwprof.report.folding import folded, folded_line, text_width


def test_a_line_ends_where_a_phrase_does_and_goes_on_indented() -> None:
    line = "  throughput   4,341 tokens/s, 1,085 of each device; a million tokens: 0.755 to 1.02 USD"
    assert folded(line) == (
        "  throughput   4,341 tokens/s, 1,085 of each device; a million tokens:\n               0.755 to 1.02 USD"
    )


@pytest.mark.parametrize("kept", ["12.5 days", "8 x h100", "3 to 4", "40 %", "90 %: 3"])
def test_a_number_stays_with_what_it_counts(kept: str) -> None:
    for length in range(40, 80):
        assert any(kept in line for line in folded("x" * length + " " + kept + " " + "y" * 30).splitlines())


def test_paths_and_long_words_are_never_cut_or_moved() -> None:
    assert folded_line("Report: /" + "a" * 75) == ["Report: /" + "a" * 75]
    assert folded_line("see " + "b" * 90) == ["see " + "b" * 90]


def test_chinese_characters_take_two_columns_and_a_line_may_end_between_them() -> None:
    assert text_width("八 h100") == 7
    lines = folded_line("训练" * 60)
    assert [text_width(line) for line in lines[:-1]] == [80, 80, 80]
    assert "".join(line.strip() for line in lines) == "训练" * 60


@given(st.lists(st.text(alphabet="abc,;", min_size=1, max_size=12), min_size=1, max_size=60))
def test_no_line_is_too_wide_and_no_word_is_lost(words: list[str]) -> None:
    lines = folded_line(" ".join(words))
    assert " ".join(" ".join(line.split()) for line in lines) == " ".join(words)
    assert max(map(len, lines)) <= 80
