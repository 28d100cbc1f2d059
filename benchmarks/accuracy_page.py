"""Write docs/accuracy.md: the errors of `hwprof validate` on the published runs that hwprof ships.

python benchmarks/accuracy_page.py
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from hwprof.specs.catalogue.simulator import HeldOut, simulator_parameters

PAGE = Path(__file__).parents[1] / "docs" / "accuracy.md"

INTRODUCTION = """# How close predictions are to published runs

Written by `benchmarks/accuracy_page.py` from `hwprof validate`; parameters of {fitted_on}, fitted on {rows} runs.

**The runs below are those that the parameters were fitted on.** On software, devices and configurations that the fit
has not seen, expect larger errors, like those [of runs that were held out](#step-time-of-runs-that-were-held-out); the
intervals are meant for those.

| | runs | median | 90th percentile | largest | bias (median) |
|---|---|---|---|---|---|
"""

HEADER = "| {kind} | runs | median | 90th percentile | largest | bias |\n|---|---|---|---|---|---|\n"


def validated() -> dict[str, Any]:
    line = [sys.executable, "-m", "hwprof", "validate", "--format", "json"]
    return json.loads(subprocess.run(line, check=True, capture_output=True, text=True).stdout)


def row(name: str, errors: dict[str, Any]) -> str:
    sizes = " | ".join(f"{errors[key]:.1f} %" for key in ("median_abs_pct", "p90_abs_pct", "max_abs_pct"))
    return f"| {name.replace('|', '/')} | {errors['count']} | {sizes} | {errors['bias_pct']:+.1f} % |\n"


def page(found: dict[str, Any]) -> str:
    table = simulator_parameters()
    text = INTRODUCTION.format(fitted_on=table.fitted_on, rows=table.rows)
    text += row("step time", found["step_time"]) + row("peak memory", found["memory"])
    text += (
        f"\n{found['predicted']} of {found['rows']} runs are predicted ({found['coverage']:.1%}); "
        f"{found['step_time']['interval_coverage']:.1%} of the measured steps lie inside their 90 % interval.\n"
    )
    for kind in ("accelerator", "kind", "source"):
        text += f"\n## Step time by {kind}\n\n" + HEADER.format(kind=kind)
        text += "".join(row(name, errors) for name, errors in found[f"by_{kind}"].items())
    text += held_out(table.held_out)
    text += "\n## Refused\n\n" + "".join(f"- {count} x {reason}\n" for reason, count in found["refused"].items())
    return text


def held_out(figures: dict[str, HeldOut]) -> str:
    """A section; the two figures of all runs first."""
    text = "\n## Step time of runs that were held out\n\nEach group was predicted by a fit without it; "
    text += "sources by the first letters of their rows.\n\n"
    text += "| without | runs | median | 90th percentile |\n|---|---|---|---|\n"
    for name, each in figures.items():
        label = {"configurations": "their configurations (5 folds)", "sources": "their sources, one at a time"}.get(
            name
        )
        text += f"| {label or name} | {each.runs} | {each.median_pct:.1f} % | {each.p90_pct:.1f} % |\n"
    return text


def main() -> None:
    PAGE.write_text(page(validated()), encoding="utf-8")
    print(f"wrote {PAGE}")


if __name__ == "__main__":
    main()
