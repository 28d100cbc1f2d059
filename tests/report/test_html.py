"""Is report.html complete, self-contained and safe?"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from hwprof.report.html import embedded_json, render_html
from hwprof.report.run.view import build_view
from hwprof.specs.record.run import RunRecord

VOID = {"meta", "input", "br", "link", "img", "hr"}


class Page(HTMLParser):
    """Collects elements and visible text, and checks that tags nest."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.scripts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        (self.scripts if self.open[-1:] == ["script"] else self.text).append(data)


@pytest.fixture(scope="module")
def page(record: RunRecord) -> Page:
    return Page(render_html(build_view(record)))


def test_tags_nest_and_close(page: Page) -> None:
    assert page.open == []


def test_page_loads_nothing_from_anywhere(page: Page) -> None:
    for tag, attributes in page.elements:
        assert tag not in {"link", "img", "iframe", "object", "embed"}
        assert "src" not in attributes
        href = attributes.get("href")
        assert href is None or href.startswith("#")
    policy = next(a["content"] for tag, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'")


def test_page_is_below_two_megabytes(record: RunRecord) -> None:
    assert len(render_html(build_view(record)).encode()) < 2e6


def test_the_report_of_a_real_run_is_below_two_megabytes_too() -> None:
    example = Path(__file__).parents[2] / "reports" / "example" / "report.html"
    assert example.stat().st_size < 2e6


def test_every_ceiling_skipped_probe_and_operation_is_on_the_page(page: Page, record: RunRecord) -> None:
    text = "\n".join(page.text)
    for ceiling in record.ceilings:
        assert ceiling.name in text
    for item in record.skipped:
        assert item.reason in text
    for op in record.ops:
        assert op.label in text


def test_links_lead_to_sections_of_the_page(page: Page) -> None:
    ids = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    targets = {str(a["href"])[1:] for tag, a in page.elements if tag == "a"}
    assert targets <= ids


def test_every_chart_has_its_data(page: Page) -> None:
    data = json.loads(page.scripts[0])
    drawn = {str(attributes["data-chart"]) for _, attributes in page.elements if "data-chart" in attributes}
    assert {"roofline", "waterfall", "samples", "loss", "memory", "timeline", "telemetry-0"} <= drawn
    assert drawn <= set(data["charts"])


def test_numeric_cells_sort_by_value_and_headers_are_buttons(page: Page) -> None:
    headers = [attributes for tag, attributes in page.elements if tag == "th"]
    assert headers
    assert all(attributes["aria-sort"] == "none" for attributes in headers)
    values = [float(str(a["data-value"])) for tag, a in page.elements if tag == "td" and "data-value" in a]
    assert len(values) > 300


def test_names_from_outside_never_become_markup(hostile_record: RunRecord) -> None:
    html = render_html(build_view(hostile_record))
    page = Page(html)
    assert "<script>alert(1)" not in html
    assert [a for tag, a in page.elements if tag == "script"] == [
        {"type": "application/json", "id": "report-data"},
        {},
        {},
    ]
    assert "<script>alert(1)</script>" in "".join(page.text)


def test_embedded_json_cannot_end_its_script_and_reads_back() -> None:
    value = {"name": "</script><!--\u2028\u2029&模型"}
    text = str(embedded_json(value))
    assert not re.search(r"[<>&\u2028\u2029]", text)
    assert json.loads(text) == value


def test_the_first_screen_is_the_golden_one(record: RunRecord, golden: Callable[[str, str], None]) -> None:
    page = render_html(build_view(record))
    first, end = page.index('<section id="verdict"'), "</section>"
    golden("verdict.html", page[first : page.index(end, first) + len(end)])


def test_an_interrupted_run_gives_a_page_that_says_what_is_missing(bare_record: RunRecord) -> None:
    page = Page(render_html(build_view(bare_record)))
    text = " ".join(page.text)
    assert "This run is interrupted: what was finished before is shown (Ctrl-C in warm-up)." in text
    assert "No step time: the run was interrupted first (Ctrl-C in warm-up)." in text
    assert not [a for _, a in page.elements if "data-chart" in a]


PARTS = ["ceilings", "ops", "phases", "kernels", "layouts", "telemetry", "losses", "recommendations", "layer_kinds"]
SINGLE = ["step", "work", "attribution", "memory", "prediction", "verdict"]


@pytest.mark.parametrize("part", [*PARTS, *SINGLE])
def test_any_one_part_may_be_missing(part: str, record: RunRecord) -> None:
    partial = record.model_copy(update={part: () if part in PARTS else None, "status": "partial"})
    assert Page(render_html(build_view(partial))).open == []
