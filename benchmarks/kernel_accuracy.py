"""How well are kernels predicted whose shape, or whose device, the model has not seen?

    python benchmarks/kernel_accuracy.py gemm

Of the measured points that hwprof ships, shapes are held back by a hash of their sizes, the same on every device, a
quarter at a time; then each device is left out whole, so that others speak for it.
"""

from __future__ import annotations

import argparse
import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping

import numpy as np

from hwprof.predict.curves.rows import RowTimes
from hwprof.predict.kernels.tables import TABLE_KINDS, TableKind
from hwprof.specs.catalogue.kernel_points import KernelPoints, KernelTable, kernel_table
from hwprof.specs.catalogue.lookup import load_device

KINDS = {kind.kind: kind for kind in TABLE_KINDS}
FOLDS = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=KINDS)
    kind = KINDS[parser.parse_args().kind]
    table = kernel_table(kind.kind)
    devices = {name: points for name in table.devices() if (points := table.of(name)) is not None}
    print(f"{kind.kind}: shapes held back, a quarter at a time")
    show(held_back(kind, devices))
    print(f"{kind.kind}: each device left out whole")
    show(left_out(kind, devices))


def fold_of(points: KernelPoints) -> np.ndarray:
    """Which quarter each shape is in, by its sizes alone."""
    sizes = [name for name in points.numbers if name != "seconds"]
    texts = zip(*(points.numbers[name] for name in sizes), strict=True)
    return np.array([int(hashlib.md5(repr(one).encode()).hexdigest(), 16) % FOLDS for one in texts])


Found = Iterable[tuple[str, KernelPoints, RowTimes]]


def held_back(kind: TableKind, devices: Mapping[str, KernelPoints]) -> Found:
    folds = {device: fold_of(points) for device, points in devices.items()}
    for fold in range(FOLDS):
        rest = {name: one.where(folds[name] != fold) for name, one in devices.items()}
        table = KernelTable.holding(kind.kind, rest)
        for name, points in devices.items():
            asked = points.where(folds[name] == fold)
            yield name, asked, kind.rows(load_device(name), asked, table)


def left_out(kind: TableKind, devices: Mapping[str, KernelPoints]) -> Found:
    for name, points in devices.items():
        rest = {other: one for other, one in devices.items() if other != name}
        yield name, points, kind.rows(load_device(name), points, KernelTable.holding(kind.kind, rest))


def show(found: Found) -> None:
    errors = defaultdict(list)
    lenders = defaultdict(set)
    for device, points, times in found:
        for name, basis in times.bases.items():
            lenders[device, name].add(f"{basis.word}: {basis.text}")
        miss = np.log(times.seconds / points.seconds)
        inside = (times.lo_s <= points.seconds) & (points.seconds <= times.hi_s)
        dtypes = points.words.get("dtype", np.full(len(points), ""))
        for row, group in enumerate(times.group):
            name = "refused" if times.refused[row] else group
            errors[name, ""].append((miss[row], inside[row]))
            errors[name, f"{device} {dtypes[row]}"].append((miss[row], inside[row]))
    for (group, name), rows in sorted(errors.items()):
        miss, inside = (np.array(column) for column in zip(*rows, strict=True))
        size = 100 * np.expm1(np.abs(miss))
        middle, high = np.quantile(size, (0.5, 0.9))
        print(
            f"  {group:26} {name:40} n {len(rows):5}  median {middle:5.1f} %  p90 {high:6.1f} %"
            f"  bias {100 * np.expm1(np.median(miss)):+6.1f} %  inside {inside.mean():5.1%}"
        )
    for (device, name), texts in sorted(lenders.items()):
        if not all(text.startswith("measured: ") for text in texts):
            print(f"  {device}, {name}: {' | '.join(sorted(texts))}")


if __name__ == "__main__":
    main()
