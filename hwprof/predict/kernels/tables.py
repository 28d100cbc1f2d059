"""What does the model say of a table of measured kernels, whichever kind it is, and how far off is it?"""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import isfinite, nan
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hwprof.errors import InputError
from hwprof.predict.collectives.rows import COLLECTIVE_COLUMNS, collective_rows
from hwprof.predict.curves.kernel_time import Basis
from hwprof.predict.curves.misses import GroupErrors
from hwprof.predict.curves.rows import RowTimes
from hwprof.predict.kernels.attention.rows import ATTENTION_COLUMNS, DECODE_COLUMNS, attention_rows, decode_rows
from hwprof.predict.kernels.grouped_rows import GROUPED_COLUMNS, grouped_rows
from hwprof.predict.kernels.product_rows import PRODUCT_COLUMNS, product_rows
from hwprof.predict.kernels.traffic.rows import ELEMENTWISE_COLUMNS, elementwise_rows
from hwprof.specs.catalogue.kernel_points import WORDS, KernelPoints, KernelTable, Kind, kernel_table
from hwprof.specs.catalogue.lookup import load_device
from hwprof.specs.hardware.spec import DeviceSpec
from hwprof.specs.reading import MOST_BYTES, content_of

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class TableKind:
    """One kind of table: the columns that it must have beside ``device``, and what predicts rows of one device."""

    kind: Kind
    columns: tuple[str, ...]
    rows: Callable[[DeviceSpec, KernelPoints, KernelTable], RowTimes]


TABLE_KINDS = (
    TableKind("gemm", PRODUCT_COLUMNS, product_rows),
    TableKind("grouped", GROUPED_COLUMNS, grouped_rows),
    TableKind("attention", ATTENTION_COLUMNS, attention_rows),
    TableKind("decode", DECODE_COLUMNS, decode_rows),
    TableKind("elementwise", ELEMENTWISE_COLUMNS, elementwise_rows),
    TableKind("collectives", COLLECTIVE_COLUMNS, collective_rows),
)

MAY_BE_ZERO = frozenset({"window"})
"""Sizes of which 0 means that there is none."""


@dataclass(frozen=True, slots=True, eq=False)
class TableTimes:
    """Predictions of a table's rows, in its order.

    Attributes:
        names, cells: the table as it was given.
        times: predictions, refusals and groups.
        measured_s: what the table says; not a number where it says nothing.
    """

    names: Sequence[str]
    cells: Sequence[Sequence[str]]
    times: RowTimes
    measured_s: Floats


def predicted_file(path: Path) -> TableTimes:
    """Predictions of the rows of a file, ``.csv`` or gzip of one; its column ``seconds`` is not read for them.

    Raises:
        InputError: the file can't be read, or is no table of a known kind.
    """
    names, cells = _read(path)
    kind = _kind_of(names, path)
    return _predicted(kind, names, cells)


def predicted_shipped() -> Iterator[RowTimesOfDevice]:
    """Predictions of all measured points that hwprof ships, which its curves have seen."""
    for kind in TABLE_KINDS:
        table = kernel_table(kind.kind)
        for name in table.devices():
            points = table.of(name)
            assert points is not None
            device = load_device(name)
            times = kind.rows(device, points, table)
            yield RowTimesOfDevice(replace(times, bases=_bases(times, device)), points.seconds)


@dataclass(frozen=True, slots=True, eq=False)
class RowTimesOfDevice:
    """Predictions of rows, and what was measured."""

    times: RowTimes
    measured_s: Floats


def _read(path: Path) -> tuple[list[str], list[list[str]]]:
    data = content_of(path, remedy="give a CSV file, or gzip of one")
    try:
        if data[:2] == b"\x1f\x8b":
            data = gzip.GzipFile(fileobj=io.BytesIO(data)).read(MOST_BYTES)
        text = data.decode("utf-8-sig")
        names, *cells = csv.reader(io.StringIO(text, newline=""))
    except (OSError, EOFError, ValueError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or str(error) or "it is not complete"
        raise InputError(f"cannot read {path}: {reason}", expectation="expected a CSV file, or gzip of one") from error
    return [name.strip() for name in names], [row for row in cells if row]


def _kind_of(names: Sequence[str], path: Path) -> TableKind:
    for kind in TABLE_KINDS:
        if {"device", *kind.columns} <= set(names):
            return kind
    known = "; ".join(f"{kind.kind}: device, {', '.join(kind.columns)}" for kind in TABLE_KINDS)
    raise InputError(
        f"{path} is no table of kernels that are predicted one by one: its columns are {', '.join(names)}",
        expectation=f"expected those of one kind, {known}",
        remedy="`hwprof validate --data` takes training runs",
    )


def _predicted(kind: TableKind, names: Sequence[str], cells: Sequence[Sequence[str]]) -> TableTimes:
    times = RowTimes.empty(len(cells))
    numbers = [name for name in kind.columns if name not in WORDS]
    good: dict[str, list[int]] = {}
    for row, values in enumerate(cells):
        fault = _fault(names, values, kind, numbers)
        if fault:
            times.refuse(np.array([row]), fault)
        else:
            good.setdefault(values[names.index("device")].strip(), []).append(row)
    for name, index in good.items():
        points = _points(kind, names, [cells[row] for row in index])
        try:
            device = load_device(name)
            found = kind.rows(device, points, kernel_table(kind.kind))
        except InputError as error:
            times.refuse(np.array(index), str(error))
        else:
            _place(times, np.array(index), found, device)
    measured_s = np.array([_seconds(names, values) for values in cells], dtype=np.float64)
    return TableTimes(names, cells, times, measured_s)


def _fault(names: Sequence[str], values: Sequence[str], kind: TableKind, numbers: Sequence[str]) -> str:
    """What is wrong with a row's cells; empty where nothing is."""
    if len(values) != len(names):
        return f"the row has {len(values)} cells, the table {len(names)} columns"
    row = dict(zip(names, (value.strip() for value in values), strict=True))
    blank = [name for name in ("device", *kind.columns) if not row[name]]
    if blank:
        return f"{blank[0]} is blank"
    for name in numbers:
        number = _number(row[name])
        if not isfinite(number) or number < 0 or (number == 0 and name not in MAY_BE_ZERO):
            return f"{name} is {row[name]!r}; expected a number above 0"
    return ""


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return nan


def _seconds(names: Sequence[str], values: Sequence[str]) -> float:
    """What a row says that was measured; not a number where it says nothing that can be."""
    row = dict(zip(names, values, strict=False))
    seconds = _number(row.get("seconds", ""))
    return seconds if isfinite(seconds) and seconds > 0 else nan


def _points(kind: TableKind, names: Sequence[str], cells: Sequence[Sequence[str]]) -> KernelPoints:
    """The rows of one device as points without a time. Columns of the kind alone, and those that may stand beside."""
    columns = dict(zip(names, zip(*cells, strict=True), strict=True))
    words = {name: np.array([cell.strip() for cell in columns[name]]) for name in names if name in WORDS}
    numbers = {name: np.array(columns[name], dtype=np.float64) for name in kind.columns if name not in WORDS}
    beside = {name: column for name in names if name in BESIDE and (column := _all_numbers(columns[name])) is not None}
    return KernelPoints({"seconds": np.full(len(cells), nan), **numbers, **beside}, words)


BESIDE = ("value_dim",)
"""Columns of numbers that a kind knows but does not need."""


def _all_numbers(cells: Sequence[str]) -> Floats | None:
    numbers = np.array([_number(cell) for cell in cells], dtype=np.float64)
    return numbers if (numbers > 0).all() else None


def _place(times: RowTimes, index: NDArray[np.int64], found: RowTimes, device: DeviceSpec) -> None:
    """Put one device's predictions where its rows stand in the table."""
    for whole, part in ((times.seconds, found.seconds), (times.lo_s, found.lo_s), (times.hi_s, found.hi_s)):
        whole[index] = part
    for place, row in enumerate(index):
        times.refused[row], times.group[row] = found.refused[place], found.group[place]
    times.bases.update(_bases(found, device))


def _bases(found: RowTimes, device: DeviceSpec) -> dict[str, Basis]:
    return {f"{device.id}, {name.removeprefix(f'{device.id} ')}": basis for name, basis in found.bases.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class TableErrors:
    """What came of tables: how many rows, how many of them predicted, errors by group, refusals, who said the times."""

    rows: int
    predicted: int
    groups: dict[str, GroupErrors]
    refused: dict[str, int]
    bases: dict[str, Basis]


def table_errors(found: Sequence[TableTimes | RowTimesOfDevice]) -> TableErrors:
    """Errors of predictions over several tables or devices."""
    miss, inside, groups, refused = [], [], [], []
    for one in found:
        miss.append(np.log(one.times.seconds / one.measured_s))
        inside.append((one.times.lo_s <= one.measured_s) & (one.measured_s <= one.times.hi_s))
        groups += one.times.group
        refused += one.times.refused
    every_miss, every_inside, every_group = np.concatenate(miss), np.concatenate(inside), np.array(groups)
    known = np.isfinite(every_miss)
    by_name = {name: known & (every_group == name) for name in sorted(set(every_group[known].tolist()))}
    reasons = [reason for reason in refused if reason]
    return TableErrors(
        rows=len(groups),
        predicted=len(groups) - len(reasons),
        groups={name: GroupErrors.of(every_miss[chosen], every_inside[chosen]) for name, chosen in by_name.items()},
        refused={reason: reasons.count(reason) for reason in dict.fromkeys(reasons)},
        bases={name: basis for one in found for name, basis in one.times.bases.items()},
    )
