"""Do the charts tell their numbers on pointing at them, hide what they are asked to, and obey the arrow keys?"""

from __future__ import annotations

import re

import pytest
from page_names import CHARTED
from selenium.webdriver import ActionChains
from selenium.webdriver.common.keys import Keys

HOVER = """
return [...document.querySelectorAll(`[data-chart="${arguments[0]}"] .hovertext`)].map((one) => one.textContent).join();
"""
POINT = """
const node = document.querySelector(`[data-chart="roofline"]`), one = node.data.find((trace) => trace.meta);
const {xaxis, yaxis} = node._fullLayout, box = node.getBoundingClientRect();
const [x, y] = [xaxis._offset + xaxis.d2p(one.x[0]), yaxis._offset + yaxis.d2p(one.y[0])];
return {x: x - box.width / 2, y: y - box.height / 2};
"""
VISIBLE = """
const dots = document.querySelector(`[data-chart="roofline"]`).data.filter((one) => one.meta);
return dots.filter((one) => one.visible !== false).map((one) => one.meta);
"""
LETTERS = """
const dots = document.querySelector(`[data-chart="roofline"]`).data.filter((one) => one.meta);
return dots.map((one) => [one.meta.kind, [...new Set(one.text)].join("")]);
"""
LOOKS = """
return document.querySelector(`[data-chart="${arguments[0]}"]`).data.map((one) => one.marker.symbol + one.line.dash);
"""
OVERLAPS = """
const near = (one, other) => Math.min(one.right, other.right) - Math.max(one.left, other.left) > 1
    && Math.min(one.bottom, other.bottom) - Math.max(one.top, other.top) > 3;
return [...document.querySelectorAll("[data-chart]")].flatMap((chart) => {
  const names = ".annotation-text, .xtick text, .ytick text, .xtitle, .ytitle, .bartext, .legendtext";
  const texts = [...chart.querySelectorAll(names)].map((node) => [node.textContent, node.getBoundingClientRect()]);
  return texts.flatMap(([text, box], place) => texts.slice(place + 1).filter(([_, other]) => near(box, other))
      .map(([other]) => `${chart.dataset.chart}: ${text} / ${other}`));
});
"""
NUMBERS = (
    r"time [\d.]+ ms per step",
    r"[\d.]+ FLOP/B",
    r"[\d.]+ GFLOP/s",
    r"[\d.]+ [GM]B/s",
    r"[\d.]+ % of (matmul|memory)\.",
    r"bound by \w+ \(confidence \w+\)",
    r"lost [\d.]+ [µm]s per step",
)


def plot(screen, name):
    return screen.driver.find_element("css selector", f"[data-chart='{name}']")


def test_pointing_at_a_dot_of_the_roofline_gives_its_name_and_numbers_with_units(screen, pages):
    screen.show(pages.report)
    node = plot(screen, "roofline")
    screen.run("arguments[0].scrollIntoView({block: 'center'})", node)
    place = screen.run(POINT)
    ActionChains(screen.driver, duration=0).move_to_element_with_offset(node, place["x"], place["y"]).perform()
    text = screen.until(HOVER, "roofline")
    assert "layers.*" in text
    for shape in NUMBERS:
        assert re.search(shape, text), text


def test_the_arrow_keys_go_through_the_dots_the_longest_first(screen, pages, record):
    screen.show(pages.report)
    node = plot(screen, "roofline")
    screen.run("arguments[0].focus()", node)
    screen.press(Keys.ARROW_RIGHT)
    readout = screen.run("return arguments[0].readout", node)
    longest = max((op for op in record.ops if op.intensity_flop_per_byte), key=lambda op: op.time_s)
    assert readout.text.startswith(f"1 of {len(screen.run('return arguments[0].stops', node))}: {longest.label}")
    assert longest.label in screen.until(HOVER, "roofline")
    times = {f"{op.label}, {op.layer_kind}, {op.direction}": op.time_s for op in record.ops}
    count = len(screen.run("return arguments[0].stops", node))
    told = []
    for _ in range(count):
        told.append(next(time_s for name, time_s in times.items() if f": {name}" in readout.text))
        screen.press(Keys.ARROW_RIGHT)
    assert told == sorted(told, reverse=True)
    assert len(set(told)) > 1
    screen.press(Keys.ARROW_LEFT)
    assert readout.text.startswith(f"{count} of {count}: ")
    screen.press(Keys.ESCAPE)
    assert readout.text == ""
    assert screen.run(HOVER, "roofline") == ""


def test_what_is_read_out_has_its_place_from_the_start(screen, pages):
    """A region that comes into being together with its words is not read out by every screen reader."""
    screen.show(pages.report)
    regions = screen.driver.find_elements("css selector", ".readout")
    assert len(regions) == len(screen.driver.find_elements("css selector", "[data-chart]"))
    for region in regions:
        style = screen.run(
            "const {display, visibility} = getComputedStyle(arguments[0]); return [display, visibility]", region
        )
        assert style == ["block", "visible"]
        assert (region.get_attribute("aria-live"), region.size["height"]) == ("polite", 0)


@pytest.mark.parametrize("name", CHARTED)
def test_every_point_of_every_chart_can_be_read_with_the_keyboard(screen, pages, name):
    screen.show(getattr(pages, name))
    charts = screen.driver.find_elements("css selector", "[data-chart]")
    assert charts
    for chart in charts:
        screen.run("arguments[0].focus()", chart)
        screen.press(Keys.ARROW_RIGHT)
        said = screen.run("return arguments[0].readout.textContent", chart)
        assert re.match(r"1 of \d+: .*\d", said), said
        assert chart.get_attribute("aria-label")


def test_a_button_hides_a_layer_kind_or_a_direction_and_shows_it_again(screen, pages):
    screen.show(pages.report)
    every = screen.run(VISIBLE)
    button = next(b for b in screen.driver.find_elements("css selector", ".toggles button") if "attention" in b.text)
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    assert screen.run(VISIBLE) == [one for one in every if one["kind"] != "attention"] != every
    backward = next(b for b in screen.driver.find_elements("css selector", ".toggles button") if "backward" in b.text)
    screen.run("arguments[0].focus()", backward)
    screen.press(Keys.SPACE)
    left = [one for one in every if one["kind"] != "attention" and one["direction"] != "backward"]
    assert screen.run(VISIBLE) == left
    screen.driver.find_element("id", "theme").click()
    assert screen.run(VISIBLE) == left
    node = plot(screen, "roofline")
    screen.run("arguments[0].focus()", node)
    screen.press(Keys.ARROW_LEFT)
    readout = screen.run("return arguments[0].readout", node)
    last, shown = map(int, re.match(r"(\d+) of (\d+): ", readout.text).groups())
    assert last == shown < len(screen.run("return arguments[0].stops", node))
    for _ in range(shown):
        screen.press(Keys.ARROW_RIGHT)
        assert not re.search(", attention, |, backward, ", readout.text)
    for one in (button, backward):
        one.click()
    assert screen.run(VISIBLE) == every


def test_no_dot_is_told_by_its_colour_alone(screen, pages):
    """Each layer kind has a letter of its own, in its dots and on its button."""
    screen.show(pages.report)
    dots = screen.run(LETTERS)
    letters = dict(dots)
    assert all(letters[kind] == letter for kind, letter in dots)
    assert len(set(letters.values())) == len(letters)
    buttons = {"".join(b.text.split()) for b in screen.driver.find_elements("css selector", ".toggles button")}
    assert {letter + kind for kind, letter in letters.items()} <= buttons


def test_curves_of_a_chart_differ_in_marker_or_dash(screen, pages):
    screen.show(pages.plan)
    for name in ("pareto", "efficiency", "waiting"):
        looks = screen.run(LOOKS, name)
        assert len(set(looks)) == len(looks) > 1


@pytest.mark.parametrize("width", [800, 1600])
@pytest.mark.parametrize("name", CHARTED)
def test_no_text_of_a_chart_covers_another(screen, pages, name, width):
    screen.show(getattr(pages, name), width=width)
    assert screen.run(OVERLAPS) == []


def test_the_check_of_overlaps_sees_one(screen, pages):
    screen.show(pages.report)
    screen.run("document.querySelector('.annotation-text').textContent = 'a very long name '.repeat(9)")
    assert screen.run(OVERLAPS) != []
