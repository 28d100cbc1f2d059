"""Do the pages open without a complaint, load nothing, fit the screen, and never run a name from outside?"""

from __future__ import annotations

from urllib.parse import quote

import pytest
from page_names import EVIL, PAGES

EVIL_PAGES = ["evil_report", "evil_plan", "list", "comparison"]


@pytest.mark.parametrize("name", [*PAGES, "served"])
def test_a_page_opens_without_a_complaint_and_asks_for_nothing_else(screen, pages, name):
    address = getattr(pages, name)
    screen.show(address)
    assert screen.console() == []
    allowed = {address, f"{pages.root}/favicon.ico"}
    assert {url for url in screen.requests() if not url.startswith(("data:", "blob:", "about:"))} <= allowed


def test_the_check_of_requests_sees_one(screen, pages):
    screen.show(pages.list)
    screen.run("new Image().src = '/compare?' + Math.random()")
    screen.until("return performance.getEntriesByType('resource').length")
    assert [url for url in screen.requests() if "/compare?" in url]


@pytest.mark.parametrize("width", [800, 1600])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_no_wider_than_the_screen_and_no_chart_hangs_out_of_it(screen, pages, name, width):
    screen.show(getattr(pages, name), width=width)
    assert screen.run("return document.documentElement.scrollWidth") == width
    right = screen.run(
        "return [...document.querySelectorAll('.plot, .plot text')].map((n) => n.getBoundingClientRect().right)"
    )
    assert max(right, default=0) <= width


@pytest.mark.parametrize("name", EVIL_PAGES)
def test_a_name_from_outside_is_text_and_never_runs(screen, pages, name):
    address = f"{pages.root}/compare?a=one&b={quote(EVIL)}" if name == "comparison" else getattr(pages, name)
    screen.show(address)
    assert EVIL in screen.run("return document.body.textContent")
    for chart in range(screen.run("return document.querySelectorAll('.plot').length")):
        screen.run("document.querySelectorAll('.plot')[arguments[0]].focus()", chart)
        screen.press("\ue014")
        screen.until("return document.activeElement.parentElement.querySelector('.readout').textContent")
    assert screen.run("return window.stolen") is None
    assert screen.run("return document.querySelectorAll('main img, main b > b, script').length") <= 3
    assert screen.console() == []


def test_a_page_says_what_it_lacks_where_scripts_are_off(screen, pages):
    screen.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        screen.driver.get(pages.report)
        shown = screen.driver.find_element("tag name", "noscript").text
    finally:
        screen.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert shown == "The charts need JavaScript; all tables work without it."
