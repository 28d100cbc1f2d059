"""Do the charts look as they did? Screens of a made-up run against kept pictures; a curve that is missing is seen.

Letters and the room that they take are left out, for they differ with fonts; other tests read them.
"""

from __future__ import annotations

import pytest
from fixed_pictures import FIXED
from pictures import MOST_APART, apart, cells_of, golden_cells
from PIL import Image

CHARTS = {
    "report": ("roofline", "targets", "waterfall", "samples", "memory", "timeline", "loss", "telemetry-0"),
    "fixed_plan": tuple(FIXED),
    "comparison": ("diff-phase", "diff-operation"),
}
BARE = """
const style = document.createElement("style");
style.textContent = ".plot text, .plot .annotation, .plot .legend, .modebar-container { display: none }";
document.head.append(style);
const fixed = {margin: {l: 60, r: 60, t: 30, b: 60}, "xaxis.automargin": false, "yaxis.automargin": false};
const charts = [...document.querySelectorAll("[data-chart]")];
const fits = (chart) => chart.offsetParent && Plotly.Plots.resize(chart); // what the page does itself, some time later
return Promise.all(charts.map((chart) => Plotly.relayout(chart, fixed).then(() => fits(chart)))).then(() => null);
"""
FADE = (
    "Plotly.restyle(document.querySelector(`[data-chart='${arguments[0]}']`), {opacity: arguments[2]}, [arguments[1]])"
)
COUNTS = """
return document.querySelector(`[data-chart="${arguments[0]}"]`).data.map((trace) => trace.x.length);
"""


def chart_cells(screen, name, keep=None):
    pixels = screen.image_of(f"[data-chart='{name}']")
    if keep:
        Image.fromarray(pixels).save(keep)
    return cells_of(pixels)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("page", CHARTS)
def test_charts_look_as_they_did(screen, pages, page, theme, tmp_path):
    screen.show(getattr(pages, page), theme=theme)
    screen.run(BARE)
    found = {}
    for chart in CHARTS[page] if theme == "light" else CHARTS[page][:2]:
        cells = chart_cells(screen, chart, tmp_path / f"{chart}.png")
        found[chart] = apart(cells, golden_cells(f"{page}-{chart}-{theme}", cells))
    assert {chart: far for chart, far in found.items() if far > MOST_APART} == {}, f"see {tmp_path}"


@pytest.mark.parametrize("page", CHARTS)
def test_a_trace_that_is_missing_is_seen(screen, pages, page):
    screen.show(getattr(pages, page))
    screen.run(BARE)
    missed = []
    for chart in CHARTS[page]:
        whole = chart_cells(screen, chart)
        for trace in [place for place, count in enumerate(screen.run(COUNTS, chart)) if count]:
            screen.run(FADE, chart, trace, 0)
            without = chart_cells(screen, chart)
            screen.run(FADE, chart, trace, 1)
            if apart(whole, without) <= MOST_APART:
                missed.append((chart, trace, apart(whole, without)))
    assert missed == []
