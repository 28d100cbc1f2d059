"""Live metrics as a page that a browser reloads by itself: step time as a curve, the newest values in a table."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from hwprof.specs.files import write_atomically

_POINTS = 500
_WIDTH, _HEIGHT = 800, 160
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="{seconds}">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>hwprof: step {step}</title>
<style>body{{font:16px sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}}td{{padding:.2rem 1rem .2rem 0}}
td+td{{text-align:right;font-variant-numeric:tabular-nums}}svg{{width:100%;background:#f4f4f4}}</style></head>
<body><h1>Step {step}</h1>
<p>Step time of the last {count} entries, {low:.4g} to {high:.4g} s</p>
<svg viewBox="0 0 {width} {height}" role="img" aria-label="step time"><polyline fill="none" stroke="#0072b2"
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
            f"<tr><td>{escape(name.removeprefix('hwprof/'))}</td><td>{value:.6g}</td></tr>"
            for name, value in metrics.items()
        )
        times = tuple(self._steps_s)
        page = _PAGE.format(
            seconds=self._reload_s, step=step, count=len(times), low=min(times, default=0), high=max(times, default=0),
            width=_WIDTH, height=_HEIGHT, points=_points(times), rows=rows,
        )  # fmt: skip
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self._path, page)

    def close(self) -> None:
        """The page stays as it was written last."""


def _points(times: Sequence[float]) -> str:
    """A curve from 0 to the longest, over the whole width."""
    most = max(times, default=0) or 1.0
    across = _WIDTH / max(len(times) - 1, 1)
    return " ".join(f"{place * across:.1f},{_HEIGHT * (1 - each / most):.1f}" for place, each in enumerate(times))
