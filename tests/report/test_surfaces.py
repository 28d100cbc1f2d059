"""Has one value one text wherever it stands? Texts of every surface against the numbers of what they show.

A text that is a recorded number rounded has to be rounded as everywhere: to four digits of times, sizes and work, three
of rates and shares, without zeros at the end. Digits are counted here, by Python's own format.
"""

from __future__ import annotations

import io
import json
import re
from html.parser import HTMLParser
from itertools import chain

import pytest
from made_up_trace import made_up_device, made_up_report
from plan_answers import make_answer
from records import make_ranks, make_slower

from hwprof.compare.diff import compare
from hwprof.compare.sides import side_of_run
from hwprof.report import png
from hwprof.report.cells import Table
from hwprof.report.diff_figures import diff_pictures
from hwprof.report.diff_text import print_diff
from hwprof.report.files.trace import trace_page
from hwprof.report.html import render_html, render_notebook, render_page, render_plan
from hwprof.report.plan.text import print_plan
from hwprof.report.plan.view import build_plan_view
from hwprof.report.run.text import print_summary
from hwprof.report.run.view import build_view
from hwprof.report.trace.text import print_trace
from hwprof.specs.record.counters import CounterRow, CountersResult

SCALES = {"s": 1.0, "ms": 1e-3, "µs": 1e-6, "ns": 1e-9, "%": 1e-2} | {
    prefix + symbol: scale
    for symbol in ("B", "FLOP", "B/s", "FLOP/s")
    for prefix, scale in (("", 1.0), ("k", 1e3), ("M", 1e6), ("G", 1e9), ("T", 1e12), ("P", 1e15))
}
DIMENSIONS = {"s": "s", "ms": "s", "µs": "s", "ns": "s", "%": "fraction"}
ENDINGS = {
    "s": re.compile(r"_s$"),
    "B": re.compile(r"_bytes$"),
    "FLOP": re.compile(r"_flop(_full|_causal)?$"),
    "B/s": re.compile(r"byte_per_s$"),
    "FLOP/s": re.compile(r"flop_per_s$"),
    "fraction": re.compile(r"(_fraction|^share|^mfu|^hfu|^mfu_causal|^spread|^margin|^efficiency)$"),
}
DIGITS = {"s": 4, "B": 4, "FLOP": 4, "B/s": 3, "FLOP/s": 3, "fraction": 3}
TEXT = re.compile(r"(-?\d[\d,]*\.?\d*)(?: to (-?\d[\d,]*\.?\d*))? (%|[kMGTPE]?(?:FLOP|B)(?:/s)?|[mµn]?s)(?![\w/])")


class Words(HTMLParser):
    """The visible texts of a page, titles of its elements, and the texts of its charts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.tag = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tag = tag
        self.texts += [value for name, value in attrs if name in {"title", "aria-label"} and value]

    def handle_data(self, data):
        if self.tag == "script" and data.startswith("{"):
            self.texts += strings(json.loads(data))
        elif self.tag not in {"script", "style"}:
            self.texts.append(data)


def strings(value):
    """Every text in nested lists and dicts."""
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return list(chain.from_iterable(map(strings, inner)))


def numbers(value, name="", found=None):
    """Dimension -> every number of a record that a name with a unit holds."""
    found = {dimension: set() for dimension in ENDINGS} if found is None else found
    if isinstance(value, dict):
        for key, inner in value.items():
            numbers(inner, f"{name}_s" if name == "phases_s" else str(key) if isinstance(key, str) else name, found)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            numbers(inner, name, found)
    elif isinstance(value, float) and value:
        for dimension, ending in ENDINGS.items():
            if ending.search(name):
                found[dimension].add(value)
                break
    return found


def written(surface: str):
    """(the text, its number, its unit) of all quantities in a text."""
    for match in TEXT.finditer(surface):
        low, high, unit = match.groups()
        for one in filter(None, (low, high)):
            yield match[0], one, unit


def cells_of(tables: dict[str, Table]):
    """The same of the cells of tables, whose unit stands in the heading."""
    for table in tables.values():
        for row in table.rows:
            for column, cell in zip(table.columns, row, strict=True):
                if column.unit in SCALES and re.fullmatch(r"-?[\d,.]+", cell.text):
                    yield f"{table.name}.{column.name}: {cell.text} {column.unit}", cell.text, column.unit


def unlike(quantities, known):
    """Texts that are a number rounded, but to other digits than its quantity has."""
    wrong = []
    for text, number, unit in quantities:
        dimension = DIMENSIONS.get(unit) or unit.lstrip("kMGTPE")
        plain = number.replace(",", "")
        digits, shown = len(re.sub(r"^-?0*\.?0*|\.", "", plain)), float(plain)
        near = [one / SCALES[unit] for one in known[dimension] if abs(one / SCALES[unit] - shown) <= 5e-3 * abs(shown)]
        other = [one for one in near if float(f"{one:.{max(digits, 1)}g}") == shown]
        alike = [one for one in near if float(f"{one:.{DIGITS[dimension]}g}") == shown]
        if (other and not alike) or (alike and "." in plain and plain.endswith("0")):
            wrong.append((text, other))
    return wrong


@pytest.fixture
def slide_texts(monkeypatch):
    """Every text that is drawn on a slide."""
    from matplotlib.text import Text

    texts, whole = [], png._png

    def kept(figure):
        texts.extend(text.get_text() for text in figure.findobj(Text))
        return whole(figure)

    monkeypatch.setattr(png, "_png", kept)
    return texts


def printed(show, *arguments, **options):
    pipe = io.StringIO()
    show(*arguments, pipe, **options)
    return pipe.getvalue()


@pytest.fixture(scope="module")
def full_record(record):
    """A run on several ranks, with counters; the step takes a time that three digits and four tell apart."""
    row = CounterRow(
        kernel="gemm",
        launches=3,
        calls=4.0,
        time_s=0.0123456,
        label="head",
        direction="forward",
        op_fraction=0.87654,
        other_ops=0,
        counted_bytes=3.4567e6,
        measured_bytes=2.3456e6,
        dram_fraction=0.34567,
        tensor_fraction=0.77654,
        counted_bound="compute",
        measured_bound="compute",
    )
    counters = CountersResult(
        source="ncu.csv", rows=(row,), run_kernels=4, file_kernels=5, matched_time_fraction=0.83678
    )
    step = record.step.model_copy(update={"median_s": 0.0123456, "interval_s": (0.0119876, 0.0127654)})
    return make_ranks(record.model_copy(update={"step": step, "counters": counters}))


def test_a_run_reads_alike_on_its_page_its_slides_in_a_notebook_and_a_terminal(full_record, slide_texts) -> None:
    view, known = build_view(full_record), numbers(full_record.model_dump())
    for render in (png.render_roofline, png.render_step, png.render_memory):
        render(view)
    surfaces = {
        "page": Words(render_html(view)).texts,
        "notebook": Words(render_notebook(view)).texts,
        "terminal": [printed(print_summary, full_record)],
        "slides": slide_texts,
    }
    for name, texts in surfaces.items():
        found = [one for text in texts for one in written(text)]
        assert len(found) > 20, name
        assert unlike(found, known) == [], name
        assert "12.35 ms" in {text for text, _, _ in found}, name
    assert unlike(cells_of(view.tables), known) == []
    assert len(list(cells_of(view.tables))) > 500


def rounded(value, digits):
    """Significant digits, without zeros at the end and without an exponent."""
    return f"{float(f'{value:.{digits}g}'):g}"


def test_a_plan_reads_alike_on_its_page_and_in_a_terminal() -> None:
    answer = make_answer()
    view, terminal = build_plan_view(answer), printed(print_plan, answer, verbose=True)
    table = view.tables["plans"]
    units = {column.name: column.unit for column in table.columns}
    assert (units["step_s"], units["memory_bytes"], units["mfu_fraction"]) == ("ms", "GB", "%")
    for plan, row in list(zip(answer.plans, table.rows, strict=True))[:3]:
        found, minutes = plan.prediction, 24 * 60 * plan.bill.days
        took = f"{rounded(minutes, 3)} minutes" if minutes < 60 else f"{rounded(minutes / 60, 3)} hours"
        step, low, high = (rounded(1e3 * one, 4) for one in (found.step_s, *found.interval_s))
        memory, mfu = rounded(1e-9 * found.memory.device_bytes, 4), rounded(100 * found.mfu, 3)
        cells = dict(zip(units, (cell.text for cell in row), strict=True))
        assert (cells["step_s"], cells["interval"]) == (step, f"{low} to {high} ms")
        assert (cells["memory_bytes"], cells["mfu_fraction"]) == (memory, mfu)
        assert f"step {step} ms (90 %: {low} to {high} ms), MFU {mfu} %" in terminal
        assert f"memory {memory} GB" in terminal
        assert f"{took}, {cells['cost']}, {cells['energy']}\n" in terminal
        if plan.ahead is not None:
            assert cells["faster_than_next_probability"] == rounded(100 * plan.ahead, 2)
            assert f"{rounded(100 * plan.ahead, 2)} % sure to beat the next" in terminal
    step = f"{rounded(1e3 * answer.plans[0].prediction.step_s, 4)} ms"
    assert f'<p class="value">{step}</p>' in render_plan(view)
    assert f"step {step}" in view.pictures["pareto"].lines[0].texts[0]


def test_traces_and_a_comparison_read_alike_on_a_page_and_in_a_terminal(record) -> None:
    report = made_up_report(made_up_device(step_median_s=0.0123456))
    page = Words(render_page("trace.html.j2", page=trace_page(report))).texts
    for texts in (page, [printed(print_trace, report, top=5)]):
        assert unlike(chain.from_iterable(map(written, texts)), numbers(report.model_dump())) == []
        assert any("12.35 ms" in text for text in texts)
    diff = compare(side_of_run("a", record), side_of_run("b", make_slower(record)))
    pictures = [bar.detail for picture in diff_pictures(diff) for bar in picture.bars]
    for texts in (pictures, [printed(print_diff, diff, top=5)]):
        assert unlike(chain.from_iterable(map(written, texts)), numbers(diff.model_dump())) == []
    assert pictures[0] == "backward: +52.37 ms, from 174.6 ms to 226.9 ms, beyond noise"


@pytest.mark.parametrize("text", ["12.3 ms", "12.346 ms", "0.0123 s", "0.01 to 12.3 ms"])
def test_a_text_with_other_digits_is_seen(text) -> None:
    known = numbers({"median_s": 0.0123456})
    assert [wrong for wrong, _ in unlike(written(text), known)] == [text]
    assert unlike(written("12.35 ms, 0.01235 s, 12.41 ms, 12.35 %"), known) == []
    assert unlike(written("12.30 ms"), numbers({"median_s": 0.0123})) == [("12.30 ms", [12.3])]


def test_values_that_are_recorded_are_found_by_the_unit_in_their_name() -> None:
    known = numbers({"step": {"median_s": 0.5, "interval_s": (0.4, 0.6), "mfu": 0.4}, "peak_bytes": 2.0, "calls": 3.0})
    assert (known["s"], known["B"], known["fraction"]) == ({0.5, 0.4, 0.6}, {2.0}, {0.4})
