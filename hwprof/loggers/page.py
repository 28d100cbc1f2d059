"""Live metrics as a page that a browser reloads by itself: step time as a curve, the newest values in a table."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path

from hwprof.specs.files import write_atomically
from hwprof.units import format_bytes, format_fraction, format_seconds, number

_POINTS = 500
_WIDTH, _HEIGHT = 800, 160
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="{seconds}">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>hwprof: step {step}</title>
<style>:root{{color-scheme:light dark}}body{{font:16px sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}}
td{{padding:.2rem 1rem .2rem 0}}td+td{{text-align:right;font-variant-numeric:tabular-nums}}
svg{{width:100%;background:#8882}}</style></head>
<body><h1>Step {step}</h1>
<p>Step time of the last {count} entries, {low} to {high}; the curve goes from 0 to {high}</p>
<svg viewBox="0 -4 {width} {taller}" role="img" aria-label="step time"><polyline fill="none" stroke="#1e88d2"
stroke-width="2" points="{points}"/></svg>
<table>{rows}</table></body></html>
"""


class LivePage:
    """Replaces a page with the newest metrics, whole or not at all; it opens offline and asks nobody for anything.

    Args:
        path: of the page.
        reload_s: how often a browser shall read it again.
    """

    def __init__(self, path: str | Path, *, reload_s: int = 5) -> None:
        self._path = Path(path)
        self._reload_s = reload_s
        self._steps_s: deque[float] = deque(maxlen=_POINTS)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Write the metrics of a step.

        Raises:
            WorkError: the file can't be written.
        """
        if "hwprof/step_time_s" in metrics:
            self._steps_s.append(metrics["hwprof/step_time_s"])
        rows = "".join(
            f"<tr><td>{escape(words)}</td><td>{escape(shown)}</td></tr>"
            for words, shown in (_said(name.removeprefix("hwprof/"), value) for name, value in metrics.items())
        )
        times = tuple(self._steps_s)
        page = _PAGE.format(
            seconds=self._reload_s, step=step, count=len(times), low=format_seconds(min(times, default=0.0)),
            high=format_seconds(max(times, default=0.0)), width=_WIDTH, taller=_HEIGHT + 8, points=_points(times),
            rows=rows,
        )  # fmt: skip
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self._path, page)

    def close(self) -> None:
        """The page stays as it was written last."""


_SHOWN: tuple[tuple[str, Callable[[float], str]], ...] = (
    ("_per_s", lambda value: f"{number(value)} a second"),
    ("_bytes_per_step", lambda value: f"{format_bytes(value)} a step"),
    ("_bytes", format_bytes),
    ("_s", format_seconds),
)
"""How the name of a metric ends, and how such values are shown."""

_SHARES = frozenset({"mfu", "hfu", "drift", "exposed_communication_share", "bound_share"})


def _said(name: str, value: float) -> tuple[str, str]:
    """A metric and its value in words, with the unit that its name has."""
    first, _, rest = name.partition("/")
    if first in _SHARES:
        words = f"bound: {rest}" if rest else {"mfu": "MFU", "hfu": "HFU"}.get(first, first.removesuffix("_share"))
        return words.replace("_", " "), format_fraction(value)
    for ending, shown in _SHOWN:
        if name.endswith(ending):
            return name.removesuffix(ending).replace("_", " "), shown(value)
    return name.replace("_", " ").replace("/", ": "), number(value, 6)


def _points(times: Sequence[float]) -> str:
    """A curve from 0 to the longest, over the whole width."""
    most = max(times, default=0) or 1.0
    across = _WIDTH / max(len(times) - 1, 1)
    return " ".join(f"{place * across:.1f},{_HEIGHT * (1 - each / most):.1f}" for place, each in enumerate(times))
