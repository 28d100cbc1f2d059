"""Does the terminal say whether B is slower, by how much, why, and what else differs?"""

from __future__ import annotations

import io
import re

import pytest

from hwprof.report.diff_text import diff_section, print_diff
from hwprof.specs.record.diff import DiffReport, DiffRow, DiffSetting, DiffSide, DiffStep

STEP = DiffStep(change_s=2e-3, change_fraction=0.2, interval=(0.18, 0.22), verdict="slower")


def report(*, step=STEP, **changes):
    sides = [
        DiffSide(name=name, kind="run", step_median_s=s, samples=20, tokens_per_s=3527.4, peak_memory_bytes=181.34e6)
        for name, s in (("before", 0.01), ("after", 0.012))
    ]
    plain = {"rows": (), "settings": (), "environment": (), "notes": ("noise is that within each run",)}
    return DiffReport(hwprof_version="0.1.0", a=sides[0], b=sides[1], step=step, **plain | changes)


def row(name, a_s, b_s, *, level="phase", beyond_noise=True):
    change_s = (b_s or 0.0) - (a_s or 0.0)
    return DiffRow(
        level=level, name=name, a_s=a_s, b_s=b_s, change_s=change_s, share=change_s / 2e-3, beyond_noise=beyond_noise
    )


@pytest.mark.parametrize(
    ("verdict", "change", "sentence"),
    [
        ("slower", 0.2, "B is slower than A, beyond noise: +20 % of the step time"),
        ("faster", -0.0512, "B is faster than A, beyond noise: -5.12 % of the step time"),
        ("within noise", 0.001, "no change beyond noise: +0.1 % of the step time"),
        ("too few samples", 0.0, "too few steps to tell a change from noise: +0 % of the step time"),
    ],
)
def test_the_first_line_is_the_verdict_with_the_change(verdict, change, sentence):
    step = STEP.model_copy(update={"verdict": verdict, "change_fraction": change})
    assert diff_section(report(step=step), 5).title == sentence


def test_the_interval_and_the_limit_follow():
    assert diff_section(report(), 5).lead == ["95 % interval of the change: +18 % to +22 %"]
    failed = diff_section(report(limit_fraction=0.05, failed=True, outcome="failed"), 5).lead
    assert failed[-1] == "FAILED: the limit is +5 %, beyond noise"
    assert (
        diff_section(report(limit_fraction=0.5, outcome="passed"), 5).lead[-1]
        == "passed: the limit is +50 %, beyond noise"
    )
    assert diff_section(report(step=STEP.model_copy(update={"interval": None})), 5).lead == []


def test_steps_of_different_tokens_are_compared_by_tokens_too_and_equal_ones_are_not():
    more = STEP.model_copy(update={"tokens_ratio": 2.0, "rate_change_fraction": 0.33})
    assert diff_section(report(step=more), 5).lead[0] == (
        "a step of B has 2 times the tokens of one of A: +33 % tokens/s"
    )
    same = STEP.model_copy(update={"tokens_ratio": 1.0005, "rate_change_fraction": -0.1667})
    assert len(diff_section(report(step=same), 5).lead) == 1


def test_both_sides_stand_with_step_rate_and_memory():
    sides = diff_section(report(), 5).tables[0]
    assert [[cell.text for cell in row] for row in sides.rows] == [
        ["A", "before", "10", "20", "3,527", "181.3"],
        ["B", "after", "12", "20", "3,527", "181.3"],
    ]
    assert [column.unit for column in sides.columns] == ["", "", "ms", "", "", "MB"]


def test_levels_stand_apart_in_one_unit_and_the_rest_is_counted():
    rows = (
        row("compute", 0.0095, 0.0115, level="part"),
        row("backward", 0.006, 0.008),
        row("loss", None, 1e-6, beyond_noise=None),
    )
    _, parts, phases = diff_section(report(rows=rows), 1).tables
    assert (parts.title, phases.title) == ("Where the time went", "Phases")
    assert phases.note == "The 1 largest changes of 2; hwprof diff --top N shows more."
    assert [cell.text for cell in phases.rows[0]] == ["backward", "6", "8", "2", "100", "yes"]
    _, _, whole = diff_section(report(rows=rows), 2).tables
    assert [cell.text for cell in whole.rows[1]] == ["loss", "–", "0.001", "0.001", "0.05", "–"]
    assert [column.unit for column in whole.columns[1:4]] == ["ms", "ms", "ms"]


def test_settings_and_machine_that_differ_are_named_and_a_side_that_says_nothing_is_blank():
    settings = (DiffSetting(key="micro_batch", a="2", b="4"),)
    environment = (DiffSetting(key="torch.version", a=None, b="2.13"),)
    _, one, other = diff_section(report(settings=settings, environment=environment), 5).tables
    assert (one.title, other.title) == ("Settings that differ", "Machine and software that differ")
    assert [cell.text for cell in one.rows[0]] == ["micro_batch", "2", "4"]
    assert [cell.text for cell in other.rows[0]] == ["torch.version", "–", "2.13"]


def test_it_is_printed_with_its_notes():
    pipe = io.StringIO()
    print_diff(report(), pipe, top=5)
    assert pipe.getvalue().startswith("B is slower than A, beyond noise: +20 % of the step time\n  95 % interval")
    assert pipe.getvalue().endswith("\n\n  noise is that within each run\n")


def test_the_terminal_says_it_in_chinese_with_the_same_numbers():
    pipes = {language: io.StringIO() for language in ("en", "zh")}
    for language, pipe in pipes.items():
        print_diff(report(rows=(row("backward", 0.006, 0.008),)), pipe, top=5, language=language)
    numbers = re.compile(r"\d+(?:\.\d+)?")
    said, own = (sorted(numbers.findall(pipes[language].getvalue())) for language in ("zh", "en"))
    assert said == own
    assert pipes["zh"].getvalue().startswith("B 比 A 慢，超出噪声：单步时间变化 +20 %")
