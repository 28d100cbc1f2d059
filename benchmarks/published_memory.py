"""How near are predicted peaks to published ones, and how wide does the interval have to be?

    python benchmarks/published_memory.py [--data CSV ...]

Prints errors by source, the quantiles of ``[memory]`` in ``hardware_specs/simulator/parameters.toml``, and how
many figures of each source lie inside an interval that was made without it. In the quantiles each source has one
weight, whatever the number of its runs. That an unknown framework doubles the interval is assumed: no row has one.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hwprof.predict.stacks import framework_known
from hwprof.simulate.memory_interval import memory_interval_bytes
from hwprof.simulate.published.case import RefusedError, case_of
from hwprof.simulate.published.memory import GIB, published_memory
from hwprof.specs.catalogue.published import PublishedRun, read_published
from hwprof.specs.catalogue.simulator import ErrorModel, simulator_parameters

EXACT = ErrorModel(coefficients={"base": 0.0}, low=0.0, high=0.0)
TAILS = (0.05, 0.95)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A published peak.

    Attributes:
        source: code of its source.
        error: predicted over measured, less 1.
        miss: ln(measured / predicted), from the nearer end of what versions of the software need.
        unsure: circumstances that make it less sure.
        inside: whether it lies in the interval that hwprof ships.
    """

    source: str
    error: float
    miss: float
    unsure: tuple[str, ...]
    inside: bool


def figures(paths: Sequence[Path | None]) -> Iterator[Figure]:
    """All rows that have a peak and can be modelled."""
    table = simulator_parameters()
    for run in (run for path in paths for run in read_published(path)):
        if not isinstance(run, PublishedRun) or run.peak_mem_gib_per_device is None:
            continue
        try:
            case = case_of(run)
        except RefusedError:
            continue
        low, high = (
            size / GIB for size in memory_interval_bytes(case.job, case.stack, EXACT, reading=case.stack.reading)
        )
        found, measured = published_memory(case, table.memory), run.peak_mem_gib_per_device
        assert found.gib is not None
        assert found.interval_gib is not None
        yield Figure(
            source=run.id.split("-")[0],
            error=found.gib / measured - 1,
            miss=math.log(measured / min(max(measured, low), high)),
            unsure=case.memory_unsure if framework_known(run.framework) else (*case.memory_unsure, "framework"),
            inside=found.interval_gib[0] <= measured <= found.interval_gib[1],
        )


def quantile(values: Sequence[Figure], share: float, *, size: bool = False) -> float:
    """Of misses, or of their size; every source has the same weight."""
    runs = Counter(each.source for each in values)
    ranked = sorted((abs(each.miss) if size else each.miss, 1 / runs[each.source]) for each in values)
    reached, wanted = 0.0, share * len(runs)
    for value, weight in ranked:
        reached += weight
        if reached >= wanted - 1e-9:
            return value
    return ranked[-1][0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, action="append", default=[], help="beside the table that hwprof ships")
    found = list(figures([None, *parser.parse_args().data]))
    sure = [each for each in found if not each.unsure]
    for source in sorted({each.source for each in found}):
        own, others = ([each for each in found if (each.source == source) == mine] for mine in (True, False))
        low, high = (quantile([each for each in others if not each.unsure], tail) for tail in TAILS)
        plain = [each for each in own if not each.unsure]
        held_out = f"{sum(low <= each.miss <= high for each in plain):3} of {len(plain):3}" if plain else "   none  "
        sizes = sorted(abs(each.error) for each in own)
        print(
            f"{source:6} {len(own):4} runs  median {statistics.median(sizes):6.1%}  "
            f"p90 {sizes[int(0.9 * (len(own) - 1))]:6.1%}  "
            f"left out: [{low:+.3f}, {high:+.3f}] holds {held_out}  shipped interval holds {sum(e.inside for e in own)}"
        )
    sizes = sorted(abs(each.error) for each in found)
    print(
        f"all    {len(found):4} runs  median {statistics.median(sizes):6.1%}  p90 {sizes[int(0.9 * len(sizes))]:6.1%}"
    )
    print(f"low = {quantile(sure, TAILS[0]):.3f}\nhigh = {quantile(sure, TAILS[1]):.3f}")
    for name in sorted({name for each in found for name in each.unsure}):
        own = [each for each in found if name in each.unsure]
        wider = quantile(own, 0.9, size=True) / quantile(sure, 0.9, size=True)
        print(f'"{name}" = {math.log(wider):.2f}  ({len(own)} runs)')


if __name__ == "__main__":
    main()
