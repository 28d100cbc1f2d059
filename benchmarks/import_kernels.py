"""Which measured kernels ship with hwprof? Splits a table of all devices into a file of each, its rows as they are.

    python benchmarks/import_kernels.py KIND FOLDER

FOLDER holds KIND.csv.gz with a column ``device``. Rows keep their text and their source, and their order but for
elementwise kernels, which lie by kernel, source and time: so their files are a tenth smaller. Files are written to
hardware_specs/kernels/KIND, byte for byte the same each time.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import lzma
from collections import defaultdict
from pathlib import Path

from hwprof.specs.catalogue.kernel_points import FOLDER, KINDS
from hwprof.specs.catalogue.lookup import load_device
from hwprof.specs.files import data_roots, write_atomically


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    with gzip.open(args.folder / f"{args.kind}.csv.gz", "rt", newline="") as file:
        names, *rows = csv.reader(file)
    place = names.index("device")
    kept = names[:place] + names[place + 1 :]
    by_device = defaultdict(list)
    for row in rows:
        by_device[row[place]].append(row[:place] + row[place + 1 :])
    folder = data_roots()[0] / FOLDER / args.kind
    folder.mkdir(parents=True, exist_ok=True)
    for device, its in sorted(by_device.items()):
        load_device(device)
        if args.kind == "elementwise":
            kernel, source, seconds = (kept.index(name) for name in ("op", "source", "seconds"))
            its.sort(key=lambda row: (row[kernel], row[source], float(row[seconds])))
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([kept, *its])
        packed = lzma.compress(text.getvalue().encode(), preset=9 | lzma.PRESET_EXTREME)
        write_atomically(folder / f"{device}.csv.xz", packed)
        print(f"{device}: {len(its)} rows")


if __name__ == "__main__":
    main()
