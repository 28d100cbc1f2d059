"""Write docs/accuracy.md: the errors of `hwprof validate` on the published runs that hwprof ships, and those by level.

    python benchmarks/accuracy_page.py

Figures of kernels and collectives are those of docs/kernels.md, which other benchmarks write.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hwprof.count.memory.job import job_memory
from hwprof.predict.parameters import BOUNDS
from hwprof.simulate.published.case import RefusedError, case_of
from hwprof.specs.catalogue.published import PublishedRun, read_published
from hwprof.specs.catalogue.simulator import HeldOut, SimulatorParameters, simulator_parameters

PAGE = Path(__file__).parents[1] / "docs" / "accuracy.md"
KERNELS = PAGE.with_name("kernels.md")

LEVELS = {
    "products of training size": (5, 15),
    "small products": (10, 35),
    "attention from 1,024 tokens": (8, 20),
    "experts": (12, 35),
    "without products, from a million": (12, 35),
    "decode attention": (12, 35),
    "sizes held back, over 1 MB": (10, 30),
    "sizes held back, under 256 kB": (25, 60),
}
"""First words of a line of docs/kernels.md, and the median and 90th percentile aimed at, in percent."""

LEFT_OUT = (15, 35)
"""The same where a device is left out whole."""

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
    text += held_out(table.held_out) + by_level(found, table) + WHY + at_bounds(table)
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


def by_level(found: dict[str, Any], table: SimulatorParameters) -> str:
    """A section: each level held to measurements of its own, beside what is aimed at."""
    held, fitted, memory = table.held_out["sources"], found["step_time"], found["memory"]
    over, runs = needing_too_much()
    lines = [
        *kernel_levels(),
        _aimed("a step, its source held out", (held.median_pct, held.p90_pct), (6, 20)),
        _aimed("a step, in the fit", (fitted["median_abs_pct"], fitted["p90_abs_pct"]), (4, 13)),
        _aimed("memory, published peaks (median)", (memory["median_abs_pct"],), (3,)),
        _aimed(f"runs that need more than their device has ({over} of {runs})", (100 * over / runs,), (1,)),
    ]
    text = "\n## Level by level\n\nKernels and collectives: shapes held back, and devices left out whole "
    text += "([all of them](kernels.md#how-far-off)). Runs that everybody knows (Llama 3 405B, MT-NLG 530B, PaLM 540B, "
    text += "DeepSeek-V3, OPT-175B) lie inside their intervals; a test holds them there.\n\n"
    return text + "| | median / 90th percentile | aimed at | |\n|---|---|---|---|\n" + "".join(lines)


def kernel_levels() -> Iterator[str]:
    """Lines of the tables of docs/kernels.md that have an aim."""
    for line in KERNELS.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        aim = next((aim for words, aim in LEVELS.items() if cells[0].startswith(words)), None)
        if aim is None or len(cells) < FEWEST_CELLS:
            continue
        name = re.sub(r" \(.*\)", "", cells[0])
        label = f"collectives, {name}" if name.startswith("sizes") else f"{name}, shapes held back"
        yield _aimed(label, _percents(cells[2:4]), aim)
        if len(cells) > FEWEST_CELLS:
            yield _aimed(f"{name}, device left out", _percents(cells[5:7]), LEFT_OUT)


FEWEST_CELLS = 5


def _percents(cells: list[str]) -> tuple[float, ...]:
    return tuple(float(cell.removesuffix(" %")) for cell in cells)


def _aimed(name: str, figures: tuple[float, ...], aims: tuple[float, ...]) -> str:
    met = all(figure <= aim for figure, aim in zip(figures, aims, strict=True))
    shown, wanted = (" / ".join(f"{each:.3g} %" for each in row) for row in (figures, aims))
    return f"| {name} | {shown} | {wanted} | {'met' if met else 'missed'} |\n"


def needing_too_much() -> tuple[int, int]:
    """Runs whose tensors and libraries are predicted above what their device has, and all that are predicted."""
    over, runs = 0, 0
    for run in read_published():
        try:
            case = case_of(run) if isinstance(run, PublishedRun) else None
        except RefusedError:
            case = None
        if case is not None:
            runs += 1
            over += job_memory(case.job).least_bytes > case.machine.capacity_bytes
    return over, runs


NEAR = 0.001
"""Share of a bound within which a value, written in four digits, is at it."""


def at_bounds(table: SimulatorParameters) -> str:
    """A section: which fitted values physics stopped."""
    found = defaultdict(list)
    for owner, values in (*table.device.items(), *table.stack.items()):
        for name, value in values.values.items():
            limits = BOUNDS.get(name)
            for word, limit in (("least", limits.low), ("most", limits.high)) if limits else ():
                if abs(value - limit) <= NEAR * limit:
                    found[f"`{name}` at its {word}, {limit:g} ({limits.why})"].append(owner)
    text = "\n## Parameters that reached a bound\n\nWhat the fit wanted beyond is a mechanism that is not modelled.\n\n"
    return text + "".join(f"- {name}: {', '.join(owners)}\n" for name, owners in sorted(found.items()))


WHY = """
## Why what is missed is missed

- Sources held out: nine of 27 are the only one of their software (nanotron, fms-fsdp, NeMo 23, XTuner, DeepSpeed), and
  predicted from its family; Blackwell's experts are timed by H100's curve, since nobody published layers of B200.
- Experts on a device left out: RTX PRO 6000's fp8-block layers run two to five times slower than others' on their share
  of the peak; its bf16 and fp8 ones faster by a quarter, as weights that were just used stay in its cache of 128 MB.
- Decode on a device left out: RTX PRO 6000 again. Products: L4 and P4, which keep less of their peak than others.
- An optimizer on the host: its users measured 2 to 30 GB/s a rank, by cores and threads that no table has.
"""


def main() -> None:
    PAGE.write_text(page(validated()), encoding="utf-8")
    print(f"wrote {PAGE}")


if __name__ == "__main__":
    main()
