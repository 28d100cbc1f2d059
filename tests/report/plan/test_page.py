"""Does the planner's page show its answer, offline and safely? Pictures, workbook and files beside it."""

from __future__ import annotations

import io
import re
import sys
from dataclasses import replace

import matplotlib.image
import pandas as pd
import pytest
from openpyxl import load_workbook
from plan_answers import make_answer, option

from hwprof.errors import WorkError
from hwprof.plan.answer.machines import Answer, answer_of
from hwprof.plan.answer.scaling import taken_over_at
from hwprof.report.cells import Cell, Column, Table
from hwprof.report.files.plan import write_plan
from hwprof.report.html import render_plan
from hwprof.report.plan.figures import NO_PLAN
from hwprof.report.plan.tables import layout_words, scaling_words
from hwprof.report.plan.text import print_plan
from hwprof.report.plan.view import build_plan_view
from hwprof.report.xlsx import render_xlsx


@pytest.fixture(scope="module")
def answer() -> Answer:
    return make_answer()


def test_the_verdict_names_the_first_plan(answer):
    view, best = build_plan_view(answer), answer.plans[0]
    assert view.sentence.startswith(f"{best.devices} h100-sxm5-80gb train it in ")
    assert " days (" in view.sentence
    assert " USD. What holds it back is " in view.sentence
    assert [card.title for card in view.cards][:4] == ["Whole training", "Cost", "Power", "Step"]
    assert layout_words(best.job) in view.cards[3].detail


def test_plans_that_can_not_be_told_apart_are_said_to_be(answer):
    close = replace(answer.plans[0], ahead=0.52)
    far = replace(answer.plans[0], ahead=0.9)
    assert "not told apart" in build_plan_view(replace(answer, plans=(close, *answer.plans[1:]))).caution
    assert "not told apart" not in build_plan_view(replace(answer, plans=(far, *answer.plans[1:]))).caution


def test_machines_without_a_plan_say_no_and_why(answer):
    table = build_plan_view(answer).tables["machines"]
    place = [column.name for column in table.columns].index("fits")
    fits = [row[place].text for row in table.rows]
    assert fits[:2] == ["yes", "yes"]
    assert re.match(r"no: the leanest layout needs .* device has", fits[2])
    assert fits[3] == "no: no usual network is known"


def test_the_front_is_ringed_and_every_plan_is_a_dot(answer):
    picture = build_plan_view(answer).pictures["pareto"]
    dots = [line for line in picture.lines if line.style == "dots"]
    rings = next(line for line in picture.lines if line.style == "rings")
    assert sum(len(line.xs) for line in dots) == len(answer.plans)
    assert len(rings.xs) == len(answer.front)
    points = {(x, y) for line in dots for x, y in zip(line.xs, line.ys, strict=True)}
    assert set(zip(rings.xs, rings.ys, strict=True)) <= points
    assert picture.x_title.startswith("cost of the training")


def test_one_machine_is_drawn_over_memory():
    alone = answer_of([option("h100-sxm", 4, tokens=None)], "time")
    picture = build_plan_view(alone).pictures["pareto"]
    assert picture.x_title.startswith("memory of a device")
    assert picture.y_title.startswith("step [")


def test_families_that_memory_rules_out_say_what_they_need(answer):
    rows = build_plan_view(answer).tables["families"].rows
    mine = [row for row in rows if row[0].text == "1 x t4"]
    assert [row[1].text for row in mine] == ["one device"]
    assert mine[0][2].value > 0.95 * mine[0][3].value
    fitting = {(plan.devices, plan.job.layout.data_parallel) for plan in answer.plans}
    assert (4, 4) in fitting
    assert not [row for row in rows if row[0].text == "4 x h100-sxm5-80gb" and row[1].text == "dp4"]


def test_no_plan_at_all_is_a_page_too(tmp_path):
    none = answer_of([option("t4", 1)], "time")
    view = build_plan_view(none)
    assert view.sentence.startswith("No plan: 1 x t4")
    assert view.cards == ()
    assert view.pictures["pareto"].empty == view.pictures["sensitivity"].empty == NO_PLAN
    assert text_of(none).startswith("No: the leanest layout needs 24.35 GB, device has 14.85 GB")
    assert "settings" not in text_of(none)
    assert {path.name for path in write_plan(none, tmp_path)} >= {"plan.html", "pareto.png", "scaling.png", "plan.csv"}
    assert not (tmp_path / "settings").exists()


def test_the_page_loads_nothing_and_a_name_stays_text():
    evil = "<script>alert(1)</script><img src=x onerror=alert(2)>"
    page = render_plan(build_plan_view(answer_of([option("h100-sxm", 4, name=evil)], "time")))
    own = page.split("<script type=", 1)[0]
    assert evil not in page
    assert "&lt;script&gt;alert(1)" in own
    assert not re.findall(r'(?:src|href)="(?!#)[^"]', own)
    assert "default-src 'none'" in own


def test_all_files_are_written_and_read_back(answer, tmp_path):
    written = {str(path.relative_to(tmp_path)) for path in write_plan(answer, tmp_path)}
    assert {"plan.html", "pareto.png", "scaling.png", "plan.csv", "capacity.csv", "scaling.csv"} < written
    assert "settings/torchrun.sh" in written
    for name in ("pareto.png", "scaling.png"):
        assert matplotlib.image.imread(tmp_path / name).std() > 0.01
    capacity = pd.read_csv(tmp_path / "capacity.csv")
    assert list(capacity["fits"]) == ["yes", "yes", "no", "no"]
    assert capacity["time_days"].notna().sum() == 2
    points = pd.read_csv(tmp_path / "scaling.csv")
    assert set(points["kind"]) == {"strong", "weak"}
    assert points["step_s"].gt(0).all()


def text_of(answer, *, verbose=False):
    pipe = io.StringIO()
    print_plan(answer, pipe, verbose=verbose)
    return pipe.getvalue()


def test_the_terminal_has_plans_reasons_scaling_and_settings_in_this_order(answer):
    text = text_of(answer, verbose=True)
    best = answer.plans[0]
    order = [
        f"{best.devices} x h100-sxm5-80gb: ",
        "  llama-3.2-1b on 1 B tokens, ",
        f"  1  {best.devices} x h100-sxm5-80gb  {layout_words(best.job)}",
        f"4 x h100-sxm5-80gb: {layout_words(answer.options[0].plans[0].job)}",
        "  10 % more of each would shorten the step by: ",
        "  Layouts  Rule",
        "  memory fits  needs",
        "64 x rtx-4090: no: no usual network is known",
        "strong scaling: ",
        "  Devices  Global batch  Step [ms]",
        "weak scaling: ",
        f"{answer.evaluated:,} layouts evaluated in",
        "torchrun: torchrun.sh",
    ]
    places = [text.index(words) for words in order]
    assert places == sorted(places)


def tightened(answer):
    """The first plan may need more than its device has."""
    best = answer.plans[0]
    found = replace(best.prediction, memory_interval_bytes=(10e9, 90e9))
    return replace(answer, plans=(replace(best, prediction=found, ahead=None), *answer.plans[1:]))


def test_the_terminal_shows_the_first_plan_on_a_screen_and_whether_it_is_tight(answer):
    assert len(answer.plans) > 3
    text = text_of(tightened(answer))
    assert text.count("(90 %:") == 1
    assert text_of(answer, verbose=True).count("(90 %:") == min(len(answer.plans), 9)
    assert [line for line in text.splitlines() if len(line) > 80] == []
    assert "memory fits" not in text
    assert len(text_of(replace(answer, scaling=())).splitlines()) <= 24
    assert text.count(" (tight)") == 1
    assert text_of(answer).count(" (tight)") == 0


def test_rules_and_their_examples_stand_whole_below_their_machine(answer):
    (refusal,) = answer.options[2].refusals
    lines = text_of(answer, verbose=True).splitlines()
    place = next(place for place, line in enumerate(lines) if line.startswith("1 x t4: no:"))
    rest = " ".join(line.strip() for line in lines[place + 1 :])
    assert f"{refusal.count}  memory fits  {refusal.example}" in rest


def test_a_step_alone_has_no_days_and_no_bill():
    alone = answer_of([option("h100-sxm", 4, tokens=None)], "time")
    assert "days" not in text_of(alone)
    view = build_plan_view(alone)
    names = [column.name for column in view.tables["plans"].columns]
    assert [row[names.index("days")].text for row in view.tables["plans"].rows[:2]] == ["–", "–"]
    assert {card.title for card in view.cards}.isdisjoint({"Cost", "Whole training"})


def test_a_bill_without_price_or_power_says_so(answer):
    best = answer.plans[0]
    unknown = replace(best, bill=replace(best.bill, usd=None, energy_kwh=None))
    changed = replace(answer, plans=(unknown, *answer.plans[1:]))
    assert re.search("(minutes|hours), no price known, no power known", text_of(changed))
    cards = {card.title: card for card in build_plan_view(changed).cards}
    assert cards["Cost"].value == "no price known"
    assert "Power" in cards
    without = replace(unknown, bill=replace(unknown.bill, power_watt=None))
    view = build_plan_view(replace(answer, plans=(without, *answer.plans[1:])))
    assert "Power" not in {card.title for card in view.cards}


def test_a_bill_reads_alike_in_small_and_in_large(answer):
    bill = replace(answer.plans[0].bill, usd=(77.74e6, 105.2e6), energy_kwh=12.3456e3, time_s=86400.0 * 12.345)
    changed = replace(answer, plans=(replace(answer.plans[0], bill=bill), *answer.plans[1:]))
    assert ", 12.3 days, 77.7 to 105 M USD, 12.3 MWh\n" in text_of(changed)
    view = build_plan_view(changed)
    names = [column.name for column in view.tables["plans"].columns]
    row = dict(zip(names, (cell.text for cell in view.tables["plans"].rows[0]), strict=True))
    assert [row[name] for name in ("days", "cost", "energy")] == ["12.3", "77.7 to 105 M USD", "12.3 MWh"]
    assert names.index("cost") < 6  # seen on a narrow screen
    assert " train it in 12.3 days (" in view.sentence
    assert "and cost 91.5 M USD" in view.sentence


def test_host_memory_of_what_is_offloaded_is_told(answer):
    best = answer.plans[0]
    memory = replace(best.prediction.memory, host_bytes=31.4159e9)
    offloaded = replace(best, prediction=replace(best.prediction, memory=memory))
    assert ", 31.42 GB of host memory a device" in text_of(replace(answer, plans=(offloaded, *answer.plans[1:])))
    assert "host memory a device" not in text_of(answer)


def test_a_tight_plan_is_a_caution_on_the_page(answer):
    view = build_plan_view(tightened(answer))
    assert view.caution == "Memory is tight: the upper end of its interval is beyond the device."
    names = [column.name for column in view.tables["plans"].columns]
    assert [row[names.index("tight")].text for row in view.tables["plans"].rows[:2]] == ["yes", "no"]
    assert view.tables["plans"].rows[0][names.index("faster_than_next_probability")].text == "–"


def test_machines_without_prices_are_drawn_over_device_hours(answer):
    plans = tuple(replace(plan, bill=replace(plan.bill, usd=None)) for plan in answer.plans)
    assert build_plan_view(replace(answer, plans=plans)).pictures["pareto"].x_title == "device hours of the training"


def test_curves_say_where_waiting_takes_over(answer):
    strong = [point for point in answer.scaling if point.kind == "strong"]
    late = taken_over_at(strong)
    assert scaling_words(strong).startswith(f"from {late} devices on, ")
    early = [point for point in strong if point.devices < late]
    assert scaling_words(early).endswith(f"on all counts looked at, up to {early[-1].devices}")
    view = build_plan_view(replace(answer, scaling=tuple(early)))
    assert [line.name for line in view.pictures["efficiency"].lines] == ["strong scaling"]
    rings = [line for line in build_plan_view(answer).pictures["efficiency"].lines if line.style == "rings"]
    assert [line.name for line in rings] == ["waiting takes over"]


def test_a_workbook_without_its_library_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(WorkError, match=r"pip install 'hwprof\[xlsx\]'"):
        render_xlsx([])


def test_a_workbook_keeps_numbers_as_numbers_and_text_as_text():
    columns = (Column(name="name", title="Name"), Column(name="step_s", title="Step", style="number"))
    rows = (
        (Cell(value="=1+1", text="=1+1"), Cell(value=0.1234567890123, text="0.123")),
        (Cell(value="a\x07b", text="a\x07b"), Cell(value=None, text="")),
    )
    content = render_xlsx([Table(name="plan", title="Plans", columns=columns, rows=rows)])
    sheet = load_workbook(io.BytesIO(content))["plan"]
    assert [cell.value for cell in sheet[1]] == ["name", "step_s"]
    assert (sheet["A2"].value, sheet["A2"].data_type) == ("=1+1", "s")
    assert (sheet["B2"].value, sheet["B2"].data_type) == (0.1234567890123, "n")
    assert (sheet["A3"].value, sheet["B3"].value) == ("a�b", None)
    assert sheet.freeze_panes == "A2"
