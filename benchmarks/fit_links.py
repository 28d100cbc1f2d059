"""What do collectives reach over a link? Fit the traits of links to the measured rows that hwprof ships.

    python benchmarks/fit_links.py

For each link that devices with measured collectives of their own have: the numbers of its table ``[collectives]``, and
by how much the form with them is off, median and 90th percentile of |ln(predicted / measured)| in percent.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from hwprof.predict.collectives.form import OPERATIONS, form_s
from hwprof.predict.collectives.ways import Ways, ways_of
from hwprof.predict.machine import Machine, machine_of
from hwprof.specs.catalogue.kernel_points import KernelPoints, kernel_table
from hwprof.specs.catalogue.lookup import load_cluster

Floats = NDArray[np.float64]

NAMES = ("op_s", "step_s", "share", "pair_share", "exchange_share", "switch_op_s", "switch_share")
LOWEST = np.array([1e-7, 1e-7, 0.05, 0.05, 0.05, 1e-5, 0.05])
HIGHEST = np.array([1e-4, 1e-4, 1.0, 1.0, 1.0, 3e-5, 1.0])
BEYOND = 0.1
"""Errors above this count linearly."""


def main() -> None:
    """Fit each link and print its numbers."""
    links: dict[str, list[tuple[Machine, KernelPoints]]] = defaultdict(list)
    table = kernel_table("collectives")
    for name in table.devices():
        machine, points = machine_of(load_cluster(f"8x{name}")), table.of(name)
        assert points is not None
        own = points.where(points.words["link"] == "scale-up")
        if len(own):
            links[machine.inside.id].append((machine, own))
    for link, found in links.items():
        sys.stdout.write(fitted(link, found) + "\n")


def fitted(link: str, found: list[tuple[Machine, KernelPoints]]) -> str:
    """The numbers of one link in words."""
    errors = [errors_of(machine, points) for machine, points in found]

    def all_errors(logarithms: Floats) -> Floats:
        return np.concatenate([one(np.exp(logarithms)) for one in errors])

    start = np.array([5e-6, 1e-6, 0.7, 0.6, 0.7, 1.5e-5, 0.6])
    best = least_squares(
        all_errors, np.log(start), bounds=(np.log(LOWEST), np.log(HIGHEST) + 1e-9), loss="soft_l1", f_scale=BEYOND
    )
    numbers = ", ".join(
        f"{name} {value * 1e6:.2f} us" if name.endswith("_s") else f"{name} {value:.3f}"
        for name, value in zip(NAMES, np.exp(best.x), strict=True)
    )
    off = np.abs(all_errors(best.x)) * 100
    return f"{link}: {numbers}; off by {np.median(off):.1f} %, {np.quantile(off, 0.9):.1f} % ({len(off)} rows)"


def errors_of(machine: Machine, points: KernelPoints) -> Callable[[Floats], Floats]:
    """ln(predicted / measured) of a device's rows for given traits of its link."""
    ways = ways_of([machine])
    groups = {op: points.where(points.words["op"] == op) for op in OPERATIONS}

    def errors(traits: Floats) -> Floats:
        changed = {name: np.array([value]) for name, value in zip(NAMES, traits, strict=True)}
        if not ways.switch_share[0]:
            changed["switch_share"] = np.zeros(1)
        own = replace(ways, **changed)
        return np.concatenate([of_op(own, op, rows) for op, rows in groups.items() if len(rows)])

    def of_op(own: Ways, op: str, rows: KernelPoints) -> Floats:
        wide = own.at(np.zeros(len(rows), dtype=np.int64))
        one = np.ones(len(rows))
        off: Floats = np.log(form_s(op, rows.numbers["bytes"], rows.numbers["ranks"], one, wide) / rows.seconds)  # type: ignore[arg-type]
        return off

    return errors


if __name__ == "__main__":
    main()
