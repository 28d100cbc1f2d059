"""Is the terminal summary compact, plain when piped, and complete?"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from hwprof.report.run.text import plain_summary, print_summary, rich_summary
from hwprof.report.run.view import build_view
from hwprof.specs.record.run import RunRecord


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class AsciiPipe(io.StringIO):
    encoding = "ascii"


def test_plain_summary_is_the_golden_one(record: RunRecord, golden: Callable[[str, str], None]) -> None:
    golden("summary.txt", plain_summary(build_view(record), "run/report.html"))


def test_a_pipe_gets_no_escape_codes_and_no_trailing_space(record: RunRecord, tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text("")
    pipe = io.StringIO()
    print_summary(record, pipe, tmp_path)
    lines = pipe.getvalue().splitlines()
    assert "\x1b" not in pipe.getvalue()
    assert lines == [line.rstrip() for line in lines]
    assert lines[-1] == f"Report: {tmp_path / 'report.html'}"


def test_a_report_that_could_not_be_written_is_not_named(record: RunRecord, tmp_path: Path) -> None:
    pipe = io.StringIO()
    print_summary(record, pipe, tmp_path)
    assert "Report:" not in pipe.getvalue()


def test_a_terminal_gets_the_same_facts_with_style(record: RunRecord) -> None:
    terminal = Terminal()
    Console(file=terminal, width=120, force_terminal=True, color_system="truecolor").print(
        rich_summary(build_view(record), "run/report.html")
    )
    shown = terminal.getvalue()
    assert "\x1b[" in shown
    for fact in ("290 ms", "48.4 %", "layers.*.attention.scores", "Compile the model", "run/report.html"):
        assert fact in shown


def test_print_summary_styles_for_a_terminal(record: RunRecord) -> None:
    terminal = Terminal()
    print_summary(record, terminal)
    assert "Phases of the step" in terminal.getvalue()
    assert "Report:" not in terminal.getvalue()


def test_a_pipe_that_knows_only_ascii_gets_question_marks(hostile_record: RunRecord) -> None:
    pipe = AsciiPipe()
    print_summary(hostile_record, pipe)
    assert pipe.getvalue().isascii()


def test_an_interrupted_run_says_so(bare_record: RunRecord) -> None:
    text = plain_summary(build_view(bare_record))
    assert "This run is interrupted" in text
    assert "No verdict: the run was interrupted first (Ctrl-C in warm-up)." in text
