"""Is the terminal summary compact, plain when piped, and complete?"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

from records import make_ranks

from hwprof.report.run.text import plain_summary, print_summary
from hwprof.report.run.view import build_view
from hwprof.specs.record.counters import CountersResult
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


def test_a_terminal_gets_the_same_facts_with_style(record: RunRecord, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "report.html").write_text("")
    terminal = Terminal()
    print_summary(record, terminal, tmp_path)
    shown = terminal.getvalue()
    assert "\x1b[" in shown
    for fact in ("290.3 ms", "48.4 %", "layers.*.attention.scores", "Compile the model", str(tmp_path / "report.html")):
        assert fact in shown


def test_a_pipe_that_knows_only_ascii_gets_question_marks(hostile_record: RunRecord) -> None:
    pipe = AsciiPipe()
    print_summary(hostile_record, pipe)
    assert pipe.getvalue().isascii()


def test_an_interrupted_run_says_so(bare_record: RunRecord) -> None:
    text = plain_summary(build_view(bare_record))
    assert "This run is interrupted" in text
    assert "No verdict: the run was interrupted first (Ctrl-C in warm-up)." in text


def test_several_ranks_are_shown_in_short_with_the_rest_counted(record: RunRecord) -> None:
    several = make_ranks(record)
    assert several.ranks is not None
    text = plain_summary(build_view(several))
    lines = text.splitlines()
    heading = next(place for place, line in enumerate(lines) if line.startswith("  Rank  Step [ms]"))
    assert lines[heading - 1] == "Ranks"
    assert [line.split()[:2] for line in lines[heading + 1 : heading + 5]] == [
        ["0", "305"],
        ["1", "310"],
        ["2", "315"],
        ["3", "320"],
    ]
    assert "more in the report" not in text
    many = several.ranks.model_copy(update={"ranks": several.ranks.ranks * 6})
    assert "\n  4 more in the report\n" in plain_summary(build_view(several.model_copy(update={"ranks": many})))


def test_tables_of_ranks_without_rows_are_left_out(record: RunRecord) -> None:
    several = make_ranks(record)
    assert several.ranks is not None
    silent = several.model_copy(update={"ranks": several.ranks.model_copy(update={"collectives": ()})})
    assert "Collectives\n" in plain_summary(build_view(several))
    assert "Collectives\n" not in plain_summary(build_view(silent))


def test_counters_that_know_no_kernel_of_the_run_say_so(record: RunRecord) -> None:
    none = CountersResult(source="ncu.csv", rows=(), run_kernels=3, file_kernels=2, matched_time_fraction=0.0)
    text = plain_summary(build_view(record.model_copy(update={"counters": none})))
    assert "Counters of the GPU\n  0 of 2 kernels in ncu.csv are among the 3 of the run" in text
