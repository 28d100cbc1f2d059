"""Which measured collectives does hwprof ship? Bring a table of them into ``hardware_specs/kernels/collectives``.

    python benchmarks/import_collectives.py collectives.csv.gz

Columns: device, link, op, ranks, devices_per_node, bytes, seconds, source. Long series of one source, with many sizes
in each octave, are thinned to three rows in a quarter octave. Devices that the catalogue lacks are named and left out.
"""

from __future__ import annotations

import csv
import gzip
import io
import lzma
import math
import sys
from collections import defaultdict
from pathlib import Path

from hwprof.specs.catalogue.lookup import list_devices

FOLDER = Path(__file__).resolve().parents[1] / "hardware_specs" / "kernels" / "collectives"
COLUMNS = ("link", "op", "ranks", "devices_per_node", "bytes", "seconds", "source")
FINE = 100
"""A series of more rows than this is thinned."""

BINS_PER_OCTAVE, KEPT = 4, 3

Row = dict[str, str]


def main() -> None:
    """Write a file for each device."""
    devices: dict[str, dict[tuple[str, ...], list[Row]]] = defaultdict(lambda: defaultdict(list))
    with gzip.open(sys.argv[1], "rt", newline="") as file:
        for row in csv.DictReader(file):
            devices[row["device"]][tuple(row[name] for name in ("link", "op", "ranks", "devices_per_node"))].append(row)
    FOLDER.mkdir(parents=True, exist_ok=True)
    known = {device.id for device in list_devices()}
    for device, series in devices.items():
        if device not in known:
            sys.stdout.write(f"{device}: not in the catalogue, left out\n")
            continue
        rows = [row for rows in series.values() for row in (thinned(rows) if len(rows) > FINE else rows)]
        rows.sort(key=lambda row: (row["link"], row["op"], *(int(row[name]) for name in COLUMNS[2:5])))
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        packed = lzma.compress(text.getvalue().encode(), preset=9 | lzma.PRESET_EXTREME)
        (FOLDER / f"{device}.csv.xz").write_bytes(packed)
        sys.stdout.write(f"{device}: {len(rows)} rows\n")


def thinned(rows: list[Row]) -> list[Row]:
    """Three rows of each quarter octave, evenly over its rows in the order of size: they scatter as all do."""
    bins: dict[int, list[Row]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: int(row["bytes"])):
        bins[round(math.log2(int(row["bytes"])) * BINS_PER_OCTAVE)].append(row)
    return [row for alike in bins.values() for row in _some(alike)]


def _some(rows: list[Row]) -> list[Row]:
    places = {int(len(rows) * (place + 0.5) / KEPT) for place in range(KEPT)}
    return [rows[place] for place in sorted(places)]


if __name__ == "__main__":
    main()
