"""Do tables sort as numbers and filter, with a mouse and with a keyboard?"""

from __future__ import annotations

import pytest
from selenium.webdriver.common.keys import Keys

COLUMN = """
const [name, title] = arguments, table = document.querySelector(`table[data-table="${name}"]`);
const place = [...table.tHead.rows[0].cells].findIndex((cell) => cell.textContent.trim().startsWith(title));
return [...table.tBodies[0].rows].filter((row) => !row.hidden).map((row) => row.cells[place].textContent.trim());
"""
HEADER = """
const [name, title] = arguments, headers = [...document.querySelectorAll(`table[data-table="${name}"] th`)];
return headers.find((one) => one.textContent.trim().startsWith(title));
"""


LETTERS = "return arguments[0].sort((a, b) => a.localeCompare(b, undefined, {numeric: true}))"


def size(text):
    return float(text.replace(",", ""))


def numbers(texts):
    return [size(text) for text in texts if text != "–"]


@pytest.mark.parametrize(("table", "title"), [("modules", "Time lost"), ("ops", "Time"), ("kernels", "Time")])
def test_a_click_sorts_by_value_and_the_next_turns_the_order(screen, pages, table, title):
    screen.show(pages.report)
    header = screen.run(HEADER, table, title)
    header.find_element("tag name", "button").click()
    falling = numbers(screen.run(COLUMN, table, title))
    assert falling == sorted(falling, reverse=True)
    assert header.get_attribute("aria-sort") == "descending"
    header.find_element("tag name", "button").click()
    rising = numbers(screen.run(COLUMN, table, title))
    assert rising == sorted(falling)
    assert header.get_attribute("aria-sort") == "ascending"


def test_numbers_are_sorted_by_size(screen, pages):
    """An order of letters, even of one that knows whole numbers, would be another."""
    screen.show(pages.report)
    shown = [text for text in screen.run(COLUMN, "phases", "Share") if text != "–"]
    assert screen.run(LETTERS, shown) != sorted(shown, key=size)
    button = screen.run(HEADER, "phases", "Share").find_element("tag name", "button")
    for turned in (True, False):
        button.click()
        found = numbers(screen.run(COLUMN, "phases", "Share"))
        assert found == sorted(found, reverse=turned)


@pytest.mark.parametrize(("table", "title"), [("modules", "Forward"), ("ops", "Intensity")])
def test_what_is_not_known_comes_last(screen, pages, table, title):
    screen.show(pages.report)
    unknown = screen.run(COLUMN, table, title).count("–")
    assert unknown > 1
    for sorted_by in ("Time lost", title):  # blanks begin in the middle, where what was lost put them
        button = screen.run(HEADER, table, sorted_by).find_element("tag name", "button")
        for _ in range(2):
            button.click()
            texts = screen.run(COLUMN, table, title)
            assert sorted_by != title or texts[-unknown:] == ["–"] * unknown


def test_a_word_in_the_box_hides_the_other_rows_and_counts_them(screen, pages):
    screen.show(pages.report)
    every = screen.run(COLUMN, "ops", "Operation")
    box = screen.driver.find_element("css selector", "input[data-filter='ops']")
    box.send_keys("ATTENTION.sc")
    wanted = [name for name in every if "attention.sc" in name]
    assert 0 < len(wanted) < len(every)
    assert screen.run(COLUMN, "ops", "Operation") == wanted
    counter = screen.driver.find_element("css selector", "[data-count='ops']")
    assert counter.text == f"{len(wanted)} of {len(every)} rows"
    box.send_keys(Keys.BACKSPACE * 20)
    assert screen.run(COLUMN, "ops", "Operation") == every


def test_sorting_a_table_of_one_rank_leaves_that_of_the_other(screen, pages):
    screen.show(pages.trace)
    names = screen.run("return [...document.querySelectorAll('[data-table]')].map((table) => table.dataset.table)")
    assert len(set(names)) == len(names)
    first, second = [name for name in names if name.endswith("-kernels")]
    before = screen.run(COLUMN, first, "Calls")
    screen.run("arguments[0].querySelector('button').click()", screen.run(HEADER, second, "Calls"))
    falling = numbers(screen.run(COLUMN, second, "Calls"))
    assert falling == sorted(falling, reverse=True)
    assert screen.run(COLUMN, first, "Calls") == before != screen.run(COLUMN, second, "Calls")


def test_the_list_of_runs_filters_and_compares(screen, pages):
    screen.show(pages.list)
    screen.driver.find_element("css selector", "input[data-filter='runs']").send_keys("two")
    assert screen.run(COLUMN, "runs", "Run") == ["two"]
    screen.driver.find_element("css selector", "input[data-filter='runs']").send_keys(Keys.BACKSPACE * 3)
    screen.driver.find_element("css selector", "input[name='a'][value='one']").click()
    screen.driver.find_element("css selector", "input[name='b'][value='two']").click()
    screen.driver.find_element("css selector", "button[type='submit']").click()
    screen.until("return location.pathname === '/compare'")
    assert "B is slower than A" in screen.driver.find_element("css selector", ".sentence").text


def focused(screen):
    """A word for what has the focus, and whether a ring is drawn around it."""
    return screen.run("""
        const node = document.activeElement, style = getComputedStyle(node), header = node.closest("th");
        const name = node.id || node.dataset.filter && "filter " + node.dataset.filter
            || node.dataset.chart && "chart " + node.dataset.chart || header && "sort " + header.textContent.trim()
            || node.closest(".toggles") && "toggle " + node.textContent || node.tagName + " " + node.textContent;
        return [name, style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2];
    """)


def test_the_tab_key_reaches_everything_and_one_sees_where(screen, pages):
    screen.show(pages.report)
    seen = []
    for _ in range(400):
        screen.press(Keys.TAB)
        name, ringed = focused(screen)
        if name.startswith("BODY"):
            break
        assert ringed, name
        seen.append(name)
    assert {"theme", "chart roofline", "chart targets", "chart memory", "filter ops", "filter modules"} <= set(seen)
    assert {"sort Module", "sort Operation", "toggle Aattention", "toggle ●forward"} <= set(seen)
    assert seen.index("theme") < seen.index("chart roofline") < seen.index("filter ops") < seen.index("sort Operation")


def test_enter_and_space_sort(screen, pages):
    screen.show(pages.report)
    header = screen.run(HEADER, "ops", "Time lost")
    screen.run("arguments[0].querySelector('button').focus()", header)
    screen.press(Keys.ENTER)
    falling = numbers(screen.run(COLUMN, "ops", "Time lost"))
    assert falling == sorted(falling, reverse=True)
    screen.press(Keys.SPACE)
    assert numbers(screen.run(COLUMN, "ops", "Time lost")) == sorted(falling)
