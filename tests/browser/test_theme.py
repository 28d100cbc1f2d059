"""Dark and light, as the system asks and as the button says; paper is always light."""

from __future__ import annotations

import base64

import numpy as np
import pytest
from page_names import PAGES

INK = "return getComputedStyle(document.body).color + getComputedStyle(document.body).backgroundColor"
LIGHT, DARK = "rgb(27, 31, 36)rgb(255, 255, 255)", "rgb(232, 234, 237)rgb(20, 23, 28)"
AXIS = "return document.querySelector('[data-chart=\"roofline\"]')?._fullLayout.font.color"

HEIGHTS = "return [...document.querySelectorAll(arguments[0])].map((node) => node.offsetHeight)"
CUT = """
const boxes = [...document.querySelectorAll(".scroll")];
return boxes.filter((box) => box.scrollHeight > box.clientHeight + 1).map((box) => box.getAttribute("aria-label"));
"""

WIDEST = (
    "return Math.max(...[...document.querySelectorAll('.main-svg')].map((node) => node.getBoundingClientRect().width))"
)


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize(("theme", "first", "then"), [("light", LIGHT, DARK), ("dark", DARK, LIGHT)])
def test_the_page_begins_as_the_system_asks_and_the_button_turns_it(screen, pages, name, theme, first, then):
    screen.show(getattr(pages, name), theme=theme)
    button = screen.driver.find_element("id", "theme")
    assert screen.run(INK) == first
    assert button.get_attribute("aria-pressed") == str(first == DARK).lower()
    before = screen.run(AXIS)
    button.click()
    assert screen.run(INK) == then
    assert button.get_attribute("aria-pressed") == str(then == DARK).lower()
    assert before is None or screen.run(AXIS) != before


def test_charts_follow_when_the_system_turns_dark(screen, pages):
    screen.show(pages.report, theme="light")
    light = screen.run(AXIS)
    screen.emulate(theme="dark")
    assert screen.until(f"const axis = (() => {{ {AXIS} }})(); return axis !== arguments[0] && axis", light)
    assert screen.run(INK) == DARK
    assert screen.driver.find_element("id", "theme").get_attribute("aria-pressed") == "true"


def test_printing_gives_pages_and_leaves_the_screen_as_it_was(screen, pages):
    screen.show(pages.report, theme="dark")
    dark = screen.run(AXIS)
    content = base64.b64decode(screen.driver.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"])
    assert content.startswith(b"%PDF-")
    assert len(content) > 50_000
    assert screen.run(AXIS) == dark
    assert screen.run("return document.documentElement.dataset.theme") is None


def test_in_print_style_nothing_is_dark_and_no_control_is_left(screen, pages):
    screen.show(pages.report, theme="dark")
    screen.run("dispatchEvent(new Event('beforeprint'))")
    screen.emulate(media="print", theme="dark")  # a theme that changed would have the charts drawn again
    try:
        assert screen.run(INK) == LIGHT
        assert screen.run(AXIS) == "#1b1f24"
        pixels = screen.image_of("main")
        assert np.median(pixels) == 255
        assert set(screen.run(HEIGHTS, "#theme, nav, .filter, .readout")) == {0}
        assert screen.run(CUT) == []
        assert min(screen.run(HEIGHTS, ".toggles")) > 0  # which say what letters and shapes mean
        assert screen.run(WIDEST) <= 1000
    finally:
        screen.emulate(theme="dark")
        screen.run("dispatchEvent(new Event('afterprint'))")
