"""How well are kernels predicted whose shape, or whose device, the model has not seen?

    python benchmarks/kernel_accuracy.py KIND FOLDER

FOLDER holds the tables of measured kernels (KIND.csv.gz). Shapes are held back by a hash of their sizes, the same on
every device, a quarter at a time; then each device is left out whole, so that others lend it their points.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np

from hwprof.errors import InputError
from hwprof.predict.curves.rows import RowTimes
from hwprof.predict.kernels.grouped_rows import grouped_rows
from hwprof.predict.kernels.product_rows import product_rows
from hwprof.specs.catalogue.kernel_points import KernelPoints, KernelTable, table_of
from hwprof.specs.catalogue.lookup import load_device
from hwprof.specs.hardware.spec import DeviceSpec

ROWS: dict[str, Callable[[DeviceSpec, KernelPoints, KernelTable], RowTimes]] = {
    "gemm": product_rows,
    "grouped": grouped_rows,
}
FOLDS = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=ROWS)
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    devices = read(args.folder / f"{args.kind}.csv.gz")
    print(f"{args.kind}: shapes held back, a quarter at a time")
    show(held_back(args.kind, devices))
    print(f"{args.kind}: each device left out whole")
    show(left_out(args.kind, devices))


def read(path: Path) -> dict[str, KernelPoints]:
    """The points of each device that the catalogue has."""
    with gzip.open(path, "rt", newline="") as file:
        names, *rows = csv.reader(file)
    by_device = defaultdict(list)
    for row in rows:
        by_device[row[names.index("device")]].append(row)
    known = {}
    for device, its in by_device.items():
        try:
            load_device(device)
        except InputError as error:
            print(f"left out: {error}")
            continue
        known[device] = table_of(names, its, where=str(path))
    return known


def fold_of(points: KernelPoints) -> np.ndarray:
    """Which quarter each shape is in, by its sizes alone."""
    sizes = [name for name in points.numbers if name != "seconds"]
    texts = zip(*(points.numbers[name] for name in sizes), strict=True)
    return np.array([int(hashlib.md5(repr(one).encode()).hexdigest(), 16) % FOLDS for one in texts])


Found = Iterable[tuple[str, KernelPoints, RowTimes]]


def held_back(kind: str, devices: Mapping[str, KernelPoints]) -> Found:
    folds = {device: fold_of(points) for device, points in devices.items()}
    for fold in range(FOLDS):
        table = KernelTable.holding(kind, {name: one.where(folds[name] != fold) for name, one in devices.items()})
        for name, points in devices.items():
            asked = points.where(folds[name] == fold)
            yield name, asked, ROWS[kind](load_device(name), asked, table)


def left_out(kind: str, devices: Mapping[str, KernelPoints]) -> Found:
    for name, points in devices.items():
        table = KernelTable.holding(kind, {other: one for other, one in devices.items() if other != name})
        yield name, points, ROWS[kind](load_device(name), points, table)


def show(found: Found) -> None:
    errors = defaultdict(list)
    lenders = defaultdict(set)
    for device, points, times in found:
        for key, basis in times.bases.items():
            lenders[key].add(f"{basis.word}: {basis.text}")
        for row in range(len(points)):
            if times.refused[row]:
                errors["refused", ""].append((0.0, False))
                continue
            miss = np.log(times.seconds[row] / points.seconds[row])
            inside = times.lo_s[row] <= points.seconds[row] <= times.hi_s[row]
            name = f"{device} {points.words['dtype'][row] if 'dtype' in points.words else ''}"
            errors[times.group[row], ""].append((miss, inside))
            errors[times.group[row], name].append((miss, inside))
    for (group, name), rows in sorted(errors.items()):
        miss, inside = (np.array(column) for column in zip(*rows, strict=True))
        size = 100 * np.expm1(np.abs(miss))
        middle, high = np.quantile(size, (0.5, 0.9))
        bias = 100 * np.expm1(np.median(miss))
        print(
            f"  {group:26} {name:40} n {len(rows):5}  median {middle:5.1f} %  p90 {high:6.1f} %"
            f"  bias {bias:+6.1f} %  inside {inside.mean():5.1%}"
        )
    for key, texts in sorted(lenders.items()):
        if any("sibling" in text or "assumed" in text for text in texts):
            print(f"  {key}: {' | '.join(sorted(texts))}")


if __name__ == "__main__":
    main()
