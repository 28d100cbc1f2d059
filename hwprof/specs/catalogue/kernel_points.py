"""Which times of single kernels did anyone measure on a device? A table a kind and device, each row with its source."""

from __future__ import annotations

import csv
import functools
import gzip
import lzma
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from hwprof.errors import SpecError
from hwprof.specs.files import data_roots

Floats = NDArray[np.float64]
Words = NDArray[np.str_]

Kind = Literal["gemm", "grouped", "attention", "decode", "elementwise", "training_ops", "collectives"]
KINDS: tuple[Kind, ...] = get_args(Kind)

FOLDER = Path("hardware_specs") / "kernels"

_PACKED: dict[str, Callable[..., IO[Any]]] = {".gz": gzip.open, ".xz": lzma.open}
"""Ending of a packed table -> what opens it."""

WORDS = frozenset({
    "cache_dtype", "causal", "device", "direction", "distribution", "dtype", "kernel", "link", "op", "provider",
    "source"
})  # fmt: skip
"""Columns of words; all others are numbers."""


@dataclass(frozen=True, slots=True, eq=False)
class KernelPoints:
    """Measured kernels of one device and kind: columns of equal length, numbers in base units."""

    numbers: dict[str, Floats]
    words: dict[str, Words]

    @property
    def seconds(self) -> Floats:
        """Measured times."""
        return self.numbers["seconds"]

    def __len__(self) -> int:
        return len(self.seconds)

    def sizes(self, *names: str) -> Floats:
        """The columns [points, names] of these numbers."""
        return np.stack([self.numbers[name] for name in names], axis=1)

    def where(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> KernelPoints:
        """The chosen points alone."""
        return KernelPoints(
            {name: column[chosen] for name, column in self.numbers.items()},
            {name: column[chosen] for name, column in self.words.items()},
        )


@dataclass(frozen=True, slots=True, eq=False)
class KernelTable:
    """The measured kernels of one kind by device; two tables are the same only if they are one object."""

    kind: Kind
    files: Mapping[str, tuple[Path, ...]]
    held: Mapping[str, KernelPoints] | None = None

    @classmethod
    def holding(cls, kind: Kind, points: Mapping[str, KernelPoints]) -> KernelTable:
        """A table of points that are at hand, by device id."""
        return cls(kind, {}, points)

    def devices(self) -> tuple[str, ...]:
        """Ids of the devices that were measured."""
        return tuple(self.files) if self.held is None else tuple(self.held)

    def of(self, device_id: str) -> KernelPoints | None:
        """The points of one device, of all its files together; None where nobody measured it.

        Raises:
            SpecError: a file can't be read, or is no table of numbers.
        """
        if self.held is not None:
            return self.held.get(device_id)
        tables = [read_points(path) for path in self.files.get(device_id, ())]
        return joined(tables) if tables else None


def kernel_table(kind: Kind) -> KernelTable:
    """What hwprof's own files and those of HWPROF_PATH say of a kind; the same object as long as they are the same."""
    return _table(kind, data_roots())


@functools.lru_cache(maxsize=64)
def _table(kind: Kind, roots: tuple[Path, ...]) -> KernelTable:
    files: dict[str, tuple[Path, ...]] = {}
    for root in roots:
        for path in sorted((root / FOLDER / kind).glob("*.csv*")):
            name = path.name.removesuffix(path.suffix if path.suffix in _PACKED else "").removesuffix(".csv")
            files[name] = (*files.get(name, ()), path)
    return KernelTable(kind, dict(sorted(files.items())))


def joined(tables: Sequence[KernelPoints]) -> KernelPoints:
    """The rows of several tables with the same columns, one after another."""
    return KernelPoints(
        {name: np.concatenate([one.numbers[name] for one in tables]) for name in tables[0].numbers},
        {name: np.concatenate([one.words[name] for one in tables]) for name in tables[0].words},
    )


@functools.lru_cache(maxsize=256)
def read_points(path: Path) -> KernelPoints:
    """The points of one file, ``.csv``, ``.csv.xz`` or ``.csv.gz``.

    Raises:
        SpecError: it can't be read, has no column ``seconds``, or a number in it is none.
    """
    try:
        with _PACKED.get(path.suffix, open)(path, "rt", newline="") as file:
            names, *rows = csv.reader(file)
    except (OSError, ValueError, EOFError, csv.Error, lzma.LZMAError) as error:
        raise SpecError(
            f"cannot read {path}: {error}", remedy="take the file that hwprof ships, or remove it"
        ) from error
    return table_of(names, rows, where=str(path))


def table_of(names: Sequence[str], rows: Iterable[Sequence[str]], *, where: str) -> KernelPoints:
    """Named columns of text as numbers and words; ``where`` names them in errors.

    Raises:
        SpecError: there is no column ``seconds``, rows have other lengths, or a number is none.
    """
    try:
        columns = dict(zip(names, zip(*rows, strict=True), strict=True))
        numbers = {name: np.array(cells, dtype=np.float64) for name, cells in columns.items() if name not in WORDS}
        words = {name: np.array(cells, dtype=np.str_) for name, cells in columns.items() if name in WORDS}
        return KernelPoints({"seconds": numbers.pop("seconds"), **numbers}, words)
    except (ValueError, KeyError) as error:
        raise SpecError(
            f"{where} is no table of measured kernels: {error}",
            expectation="expected a line of column names with seconds among them, then as many cells in every row",
            remedy="take the columns of a file of the same kind that hwprof ships",
        ) from error
