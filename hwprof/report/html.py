"""How does a view become one HTML file that opens offline? Templates, style, script and plotly are all inlined."""

from __future__ import annotations

import json
import lzma
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from hwprof.report import palette
from hwprof.report.chinese import Language, chinese
from hwprof.report.pictures import Picture
from hwprof.report.plan.view import PlanView
from hwprof.report.run.roofline import RooflineFigure
from hwprof.report.run.view import View

_HERE = Path(__file__).parent
_TEMPLATES = _HERE / "templates"
_PLOTLY = _HERE / "assets" / "plotly-basic.min.js.xz"
_CHARTS = ("roofline", "targets", "waterfall", "samples", "loss", "memory", "timeline")
_SCRIPTS = ("charts.js", "bars.js", "lines.js", "roofline.js", "tables.js", "page.js")


def render_html(view: View, language: Language = "en") -> str:
    """The whole page; every text from outside is escaped, and the page may load nothing from anywhere."""
    charts = {name: getattr(view, name) for name in _CHARTS}
    charts |= {f"telemetry-{place}": picture for place, picture in enumerate(view.telemetry)}
    return _rendered("report.html.j2", view, charts, language)


def render_plan(view: PlanView, language: Language = "en") -> str:
    """The planner's page, in the report's style and with its script."""
    return _rendered("plan.html.j2", view, view.pictures, language)


def render_page(template: str, *, page: object, pictures: Iterable[Picture] = (), language: Language = "en") -> str:
    """A page from a template of its own, with the report's style and script; plotly comes with its ``pictures``."""
    return _rendered(template, page, {picture.name: picture for picture in pictures}, language)


def _rendered(
    template: str, page: object, charts: Mapping[str, Picture | RooflineFigure], language: Language = "en"
) -> str:
    return (
        _environment(language)
        .get_template(template)
        .render(
            page=page,
            language=language,
            css=_own_text(_TEMPLATES / "report.css"),
            js=_script(),
            plotly=_plotly() if charts else "",
            data=_embedded({name: asdict(chart) for name, chart in charts.items()}),
        )
    )


def render_notebook(view: View) -> str:
    """The first screen with its own style, as a fragment that a notebook shows below a cell."""
    css = _own_text(_TEMPLATES / "notebook.css")
    return _environment("en").get_template("notebook.html.j2").render(page=view, css=css)


def run_address(key: str, file: str) -> str:
    """Where a page that is served finds a file of the run ``key``; what means something in addresses is escaped."""
    folder = "" if key == "." else quote(os.fsencode(key), safe="/") + "/"
    return f"/runs/{folder}{quote(os.fsencode(file))}"


def embedded_json(value: object) -> Markup:
    """JSON that cannot end the ``<script>`` element it stands in: ``<``, ``>``, ``&`` and all non-ASCII are escaped.

    Raises:
        ValueError: a number is not finite; JSON has no word for it.
    """
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    safe = text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return Markup(safe)  # noqa: S704 (escaped in the line above)


def _environment(language: Language) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(bound_colours=palette.BOUND_COLOURS, ink=palette.ink, address=run_address)
    environment.globals["t"] = chinese if language == "zh" else str
    return environment


def _own_text(path: Path) -> Markup:
    """A file of this package, which is trusted as it is."""
    return Markup(path.read_text(encoding="utf-8"))  # noqa: S704 (shipped with the package, nothing from outside)


@cache
def _plotly() -> Markup:
    """The library that draws the charts; packed, it is a quarter of its size in the package."""
    return Markup(lzma.decompress(_PLOTLY.read_bytes()).decode())  # noqa: S704 (shipped with the package, too)


def _script() -> Markup:
    """The page's own script, in one piece that shares no names with plotly."""
    parts = Markup("\n").join(_own_text(_TEMPLATES / name) for name in _SCRIPTS)
    return Markup('"use strict";\n(() => {{\n{}\n}})();').format(parts)


def _embedded(charts: Mapping[str, Any]) -> Markup:
    inks = {colour: palette.ink(colour) for colour in palette.COLOURS}
    markers = {direction: marker.plotly for direction, marker in palette.MARKERS.items()}
    return embedded_json({"charts": charts, "markers": markers, "inks": inks})
