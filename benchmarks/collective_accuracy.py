"""How far off are collectives? On sizes held back, on devices left out, and on published ones beside them?

    python benchmarks/collective_accuracy.py collectives.csv.gz

The table has the columns of ``benchmarks/import_collectives.py``. A quarter of the sizes of each operation and number
of ranks, the same on every device, is held back, each quarter once. A device left out takes the curve of a sibling; the
numbers of its link's file, which rows of its own helped to fit, stay: there the figures flatter, for the A100 and the
RTX PRO 6000, which are alone with their links.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
from import_collectives import COLUMNS, FINE, Row, thinned
from numpy.typing import NDArray

from hwprof.predict.collectives.form import Operation
from hwprof.predict.collectives.measured import SCALE_UP, across_time, inside_time
from hwprof.predict.collectives.rows import collective_rows, machine_for
from hwprof.predict.curves.rows import RowTimes
from hwprof.specs.catalogue.kernel_points import KernelPoints, KernelTable, table_of
from hwprof.specs.catalogue.lookup import list_devices, load_device

Floats = NDArray[np.float64]

FOLDS = 4
SERIES = ("device", "link", "op", "ranks", "devices_per_node")

MIB = 2**20

Published = tuple[str, str, tuple[str, float], Operation, int, dict[int, float]]
"""Source, device, network and its GB/s for a device, operation, ranks in nodes of 8; MiB -> algorithm GB/s."""

EFA, EFA_400, TCPXO = ("efa", 50.0), ("efa-400", 50.0), ("gcp-tcpx", 25.0)

P5 = "crazyguitar/aws-gpu-communication-benchmark@a77f70db, p5 (H100, EFA)"
PUBLISHED: tuple[Published, ...] = (
    (P5, "h100-sxm5-80gb", EFA, "all_reduce", 16, {32: 78.57, 64: 110.4, 256: 194.38, 1024: 232.08, 8192: 254.78}),
    (P5, "h100-sxm5-80gb", EFA, "all_reduce", 32, {32: 49.23, 64: 78.66, 256: 141.08, 1024: 144.67, 8192: 184.25}),
    (P5, "h100-sxm5-80gb", EFA, "all_reduce", 64, {32: 44.06, 64: 52.75, 256: 117.88, 1024: 139.41, 8192: 180.5}),
    (P5, "h100-sxm5-80gb", EFA, "all_reduce", 256, {32: 33.3, 64: 41.97, 256: 69.26, 1024: 110.47, 8192: 161.18}),
    (P5, "h100-sxm5-80gb", EFA, "alltoall", 16, {32: 47.78, 64: 66.3, 256: 79.21, 1024: 82.91, 2048: 84.53}),
    (P5, "h100-sxm5-80gb", EFA, "alltoall", 32, {32: 35.56, 64: 44.53, 256: 56.03, 1024: 55.49, 2048: 55.82}),
    (P5, "h100-sxm5-80gb", EFA, "alltoall", 64, {32: 29.13, 64: 35.24, 256: 45.11, 1024: 49.08, 2048: 50.41}),
    (P5, "h100-sxm5-80gb", EFA, "alltoall", 256, {32: 19.79, 64: 23.01, 256: 30.32, 1024: 38.83, 2048: 40.94}),
    (
        "stas00/ml-engineering@0cc3de50, 4 nodes of B200, EFA",
        "b200-sxm-180gb",
        EFA_400,
        "all_reduce",
        32,
        {1: 6.44, 4: 16.33, 16: 37.06, 64: 102.07, 256: 146.18, 1024: 188.9, 8192: 194.14},
    ),
    (
        "stas00/ml-engineering@0cc3de50, one node of H200, nccl-tests",
        "h200-sxm5-141gb",
        EFA,
        "all_reduce",
        8,
        {1: 41.4, 4: 79.98, 16: 138.54, 64: 211.33, 256: 252.73, 1024: 265.14, 16384: 274.69},
    ),
    (
        "stas00/ml-engineering@0030e63f, one node of A100, nccl-tests",
        "a100-sxm4-80gb",
        EFA,
        "all_reduce",
        8,
        {1: 10.29, 4: 41.33, 16: 60.66, 64: 98.02, 256: 110.9, 1024: 130.88, 16384: 134.22},
    ),
    (
        "lessizzmore/create-a3mega-ztan-fork@02dd8f45, 2 nodes of H100, TCPXO",
        "h100-sxm5-80gb",
        TCPXO,
        "all_reduce",
        16,
        {1: 5.16, 4: 11.5, 16: 17.16, 64: 53.2, 256: 113.7, 1024: 158.86, 8192: 180.71},
    ),
)


def main() -> None:
    """Print all three."""
    table = read(sys.argv[1])
    say("sizes held back", held_back(table))
    say("devices left out, links of one node", left_out(table))
    for one in PUBLISHED:
        say_published(one)


def read(path: str) -> list[Row]:
    """The rows of devices that the catalogue has."""
    known = {device.id for device in list_devices()}
    with gzip.open(path, "rt", newline="") as file:
        return [row for row in csv.DictReader(file) if row["device"] in known]


def held_back(table: list[Row]) -> list[tuple[str, float, bool]]:
    """Group, error and whether the interval held, of each row while it was held back."""
    found = []
    for fold in range(FOLDS):
        known = [row for row in table if fold_of(row) != fold]
        found += predicted(known, [row for row in table if fold_of(row) == fold])
    return found


def left_out(table: list[Row]) -> list[tuple[str, float, bool]]:
    """The same while the row's device was left out."""
    found = []
    for device in sorted({row["device"] for row in table}):
        known = [row for row in table if row["device"] != device]
        own = [row for row in table if row["device"] == device and row["link"] == SCALE_UP]
        found += predicted(known, own)
    return found


def fold_of(row: Row) -> int:
    """Which quarter a size belongs to."""
    shape = "links" + "/".join(row[name] for name in ("op", "ranks", "bytes"))
    return int(hashlib.md5(shape.encode()).hexdigest(), 16) % FOLDS


def predicted(known: list[Row], asked: list[Row]) -> list[tuple[str, float, bool]]:
    """Rows that are asked for, by a model that has seen others."""
    table = KernelTable.holding("collectives", {name: points_of(kept(own)) for name, own in by_device(known).items()})
    found: list[tuple[str, float, bool]] = []
    for device, own in by_device(asked).items():
        truth = points_of(own)
        found += errors(collective_rows(load_device(device), truth, table), truth.seconds)
    return found


def errors(times: RowTimes, measured_s: Floats) -> Iterable[tuple[str, float, bool]]:
    """Group, ln(predicted / measured), and whether the interval holds, of rows that are not refused."""
    for place, group in enumerate(times.group):
        if not times.refused[place]:
            seconds = float(measured_s[place])
            inside = bool(times.lo_s[place] <= seconds <= times.hi_s[place])
            yield group, float(np.log(times.seconds[place] / seconds)), inside


def by_device(table: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows of each device."""
    devices: dict[str, list[Row]] = defaultdict(list)
    for row in table:
        devices[row["device"]].append(row)
    return devices


def kept(table: Sequence[Row]) -> list[Row]:
    """What would ship of these rows."""
    series: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in table:
        series[tuple(row[name] for name in SERIES)].append(row)
    return [row for own in series.values() for row in (thinned(own) if len(own) > FINE else own)]


def points_of(table: Sequence[Row]) -> KernelPoints:
    """The rows as columns."""
    return table_of(COLUMNS, [[row[name] for name in COLUMNS] for row in table], where="the table")


def say(what: str, found: list[tuple[str, float, bool]]) -> None:
    """Median and 90th percentile of the error, bias and coverage of each group."""
    sys.stdout.write(f"{what}\n")
    for group in sorted({one[0] for one in found}):
        off = np.array([error for name, error, _ in found if name == group]) * 100
        held = np.array([inside for name, _, inside in found if name == group])
        middle, far = np.quantile(np.abs(off), [0.5, 0.9])
        sys.stdout.write(
            f"  {group}: {len(off)} rows, median {middle:.1f} %, p90 {far:.1f} %, "
            f"bias {np.median(off):+.1f} %, inside {held.mean():.2f}\n"
        )


def say_published(one: Published) -> None:
    """Predicted over measured time of each size."""
    source, name, (network, gigabytes_per_s), op, ranks, points = one
    size_bytes = np.array(list(points), dtype=float) * MIB
    measured_s = size_bytes / (np.array(list(points.values())) * 1e9)
    device = load_device(name)
    node = device.node.model_copy(update={"network": network, "inter_node_byte_per_s": gigabytes_per_s * 1e9})
    machine = machine_for(device.model_copy(update={"node": node}), ranks, 8)
    wide = np.full_like(size_bytes, ranks)
    near = ranks <= machine.domain
    times = inside_time(op, machine, size_bytes, wide) if near else across_time(op, machine, size_bytes, wide)
    inside = (times.lo_s <= measured_s) & (measured_s <= times.hi_s)
    ratios = ", ".join(
        f"{size} MiB {ratio:.2f}" for size, ratio in zip(points, times.seconds / measured_s, strict=True)
    )
    sys.stdout.write(f"{source}: {op} over {ranks}: {ratios}; {inside.sum()} of {len(inside)} inside\n")


if __name__ == "__main__":
    main()
