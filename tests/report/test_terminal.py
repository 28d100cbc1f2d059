"""Are titles, lines and tables aligned on a pipe, and the same facts styled on a screen?"""

from __future__ import annotations

import io

import pytest

from hwprof.report.cells import Cell, Column, Table
from hwprof.report.pictures import segment
from hwprof.report.terminal import Block, Section, plain, print_blocks, print_sections


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


class AsciiPipe(io.StringIO):
    encoding = "ascii"


def table(*rows, titles=("Name", "Time"), styles=("text", "number"), units=("", "ms"), note=""):
    columns = tuple(
        Column(name=title, title=title, style=style, unit=unit)
        for title, style, unit in zip(titles, styles, units, strict=True)
    )
    cells = tuple(tuple(Cell(value=text, text=text) for text in row) for row in rows)
    return Table(name="t", title="Times", columns=columns, rows=cells, note=note)


def test_numbers_stand_right_below_their_heading_and_names_left() -> None:
    block = Block(title="Times", table=table(("a", "12.35"), ("longer", "3"), note="of a step"))
    assert plain([block]).splitlines() == [
        "Times",
        "  Name    Time [ms]",
        "  a           12.35",
        "  longer          3",
        "  of a step",
    ]


def test_a_table_without_titles_has_no_header_and_is_not_cut() -> None:
    prose = "x" * 70
    block = Block(table=table(("a", prose), titles=("", ""), styles=("text", "quiet"), units=("", "")), indent=0)
    assert plain([block]) == f"a  {prose}\n"


@pytest.mark.parametrize(("style", "expected"), [("code", "a" * 29 + "…" + "b" * 29), ("long", "a" * 40 + "b" * 40)])
def test_long_names_are_cut_in_the_middle_and_prose_is_not(style: str, expected: str) -> None:
    one = table(("a" * 40 + "b" * 40,), titles=("Kernel",), styles=(style,), units=("",))
    assert plain([Block(table=one, indent=0)]).splitlines()[1] == expected


def test_blocks_have_an_empty_line_between_them_and_empty_ones_are_left_out() -> None:
    blocks = [Block(lines=["one"], indent=0), Block(), Block(lines=[""]), Block(title="two"), Block(lines=["three"])]
    assert plain(blocks) == "one\n\ntwo\n\n  three\n"
    assert [block.filled for block in blocks] == [True, False, False, False, True]


def test_no_line_ends_in_blanks() -> None:
    text = plain([Block(table=table(("a", ""), ("b", "x"), styles=("text", "text")))])
    assert [line for line in text.splitlines() if line != line.rstrip()] == []


def test_a_section_is_a_title_lines_tables_one_step_further_and_notes() -> None:
    pipe = io.StringIO()
    print_sections([Section("Title", ["lead"], [table(("a", "1"))], ["note"])], pipe)
    assert pipe.getvalue() == ("Title\n  lead\n\n  Times\n    Name  Time [ms]\n    a             1\n\n  note\n")


def test_a_pipe_that_knows_only_ascii_gets_question_marks() -> None:
    pipe = AsciiPipe()
    print_blocks([Block(lines=["12.35 µs"], indent=0)], pipe)
    assert pipe.getvalue() == "12.35 ?s\n"


def test_a_screen_gets_the_same_facts_with_style_and_the_bar_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    screen, pipe = Screen(), io.StringIO()
    bar = (segment("forward", 0.25, "#56b4e9"), segment("backward", 0.75, "#0072b2"))
    note = "of a step"
    blocks = [Block(title="Phases", lines=["lead"], bar=bar, table=table(("a", "12.35"), note=note), style="dim")]
    print_blocks(blocks, screen)
    print_blocks(blocks, pipe)
    shown = screen.getvalue()
    for fact in ("Phases", "lead", "Name", "Time [ms]", "12.35", note):
        assert fact in shown
        assert fact in pipe.getvalue()
    assert "\x1b[1mPhases" in shown
    assert "\x1b[2mlead" in shown
    assert "backward" in shown
    assert "backward" not in pipe.getvalue()
    assert "\x1b" not in pipe.getvalue()
