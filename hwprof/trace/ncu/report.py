"""What did Nsight Compute count? Its CSV (``ncu --csv``, raw or details page), one record for each kernel."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hwprof.errors import InputError
from hwprof.specs.reading import content_of
from hwprof.specs.record.counters import KernelCounters
from hwprof.specs.record.doctor import COUNTERS_REFUSED, COUNTERS_REMEDY
from hwprof.trace.ncu.values import Quantity, value_of

KERNEL = "Kernel Name"
_METRIC_COLUMNS = ("Metric Name", "Metric Unit", "Metric Value")
_COLLECT = "ncu --csv --page raw, as docs/counters.md shows"


@dataclass(slots=True)
class _Launch:
    kernel: str
    values: dict[Quantity, float] = field(default_factory=dict)

    def add(self, metric: str, unit: str, text: str) -> None:
        """Keep a value; of several pipes the busiest, and of a metric that comes twice the first."""
        value = value_of(metric, unit, text)
        if value is None:
            return
        if value.quantity in {"pipe", "tensor"}:
            self.values[value.quantity] = max(self.values.get(value.quantity, 0.0), value.number)
        else:
            self.values.setdefault(value.quantity, value.number)

    @property
    def dram_bytes(self) -> float | None:
        """Read and written, or their rate over the launch's time."""
        values = self.values
        if "read_bytes" in values and "write_bytes" in values:
            return values["read_bytes"] + values["write_bytes"]
        if "dram_bytes" in values:
            return values["dram_bytes"]
        if "dram_byte_per_s" in values and "time_s" in values:
            return values["dram_byte_per_s"] * values["time_s"]
        return None

    @property
    def pipe_fraction(self) -> float | None:
        """Of the busiest pipe."""
        return max((self.values[name] for name in ("pipe", "tensor") if name in self.values), default=None)


def read_counters(path: Path) -> tuple[KernelCounters, ...]:
    """The kernels of a CSV that ``ncu`` wrote, the most time first.

    What the profiled program or ncu itself printed before or between the rows is passed over.

    Raises:
        InputError: there is no such file, it is no such CSV, nothing was counted, or the driver refused the counters.
    """
    text = content_of(path, remedy=_COLLECT).decode("utf-8-sig", errors="replace")
    launches = list(_launches(path, text))
    if not any(launch.values for launch in launches):
        _refuse(path, text, launches)
    return tuple(sorted(_by_kernel(launches), key=lambda kernel: -(kernel.time_s or 0.0) * kernel.launches))


def _refuse(path: Path, text: str, launches: Sequence[_Launch]) -> None:
    if "ERR_NVGPUCTRPERM" in text:
        raise InputError(
            f"{path} has no counters: the driver gives them {COUNTERS_REFUSED}",
            expectation="expected rows of kernels",
            remedy=COUNTERS_REMEDY,
        )
    if launches:
        raise InputError(
            f"{path} has {len(launches)} kernels and none of the metrics that hwprof reads",
            expectation="expected dram__bytes_read.sum, dram__bytes_write.sum, gpu__time_duration.sum and the like",
            remedy=f"collect them with {_COLLECT}",
        )
    raise InputError(
        f"{path} has a header and no kernel", expectation="expected rows of kernels", remedy=f"collect with {_COLLECT}"
    )


def _launches(path: Path, text: str) -> Iterator[_Launch]:
    try:
        rows = list(csv.reader(text.replace("\0", "").splitlines()))
    except csv.Error as error:
        raise InputError(f"{path} is no CSV: {error}", remedy=f"collect with {_COLLECT}") from error
    start = next((at for at, row in enumerate(rows) if KERNEL in row), None)
    if start is None:
        if "ERR_NVGPUCTRPERM" in text:
            return
        raise InputError(
            f'{path} is no CSV of Nsight Compute: no row has "{KERNEL}"',
            expectation="expected what ncu --csv prints",
            remedy=f"collect with {_COLLECT}",
        )
    head = rows[start]
    body = [row for row in rows[start + 1 :] if len(row) == len(head) and row != head]
    yield from _long_page(head, body) if set(_METRIC_COLUMNS) <= set(head) else _raw_page(head, body)


def _raw_page(head: Sequence[str], body: Sequence[Sequence[str]]) -> Iterator[_Launch]:
    """A column for each metric; the row below the header has the units."""
    name = head.index(KERNEL)
    units: Sequence[str] = [""] * len(head)
    for row in body:
        if not row[name]:
            units = row
            continue
        launch = _Launch(row[name])
        for metric, unit, text in zip(head, units, row, strict=True):
            launch.add(metric, unit, text)
        yield launch


def _long_page(head: Sequence[str], body: Sequence[Sequence[str]]) -> Iterator[_Launch]:
    """A row for each metric of each launch."""
    name = head.index(KERNEL)
    metric, unit, text = (head.index(column) for column in _METRIC_COLUMNS)
    identity = [head.index(column) for column in ("ID", "Process ID", "Context", "Stream") if column in head]
    launches: dict[tuple[str, ...], _Launch] = {}
    for row in body:
        key = (row[name], *(row[at] for at in identity))
        launches.setdefault(key, _Launch(row[name])).add(row[metric], row[unit], row[text])
    yield from launches.values()


def _by_kernel(launches: Iterable[_Launch]) -> Iterator[KernelCounters]:
    groups: dict[str, list[_Launch]] = defaultdict(list)
    for launch in launches:
        groups[launch.kernel].append(launch)
    for name, group in groups.items():
        times_s = [launch.values.get("time_s", 0.0) for launch in group]
        weights = times_s if all(times_s) else None
        yield KernelCounters(
            name=name,
            launches=len(group),
            time_s=_mean([launch.values.get("time_s") for launch in group]),
            dram_bytes=_mean([launch.dram_bytes for launch in group]),
            dram_fraction=_mean([launch.values.get("dram") for launch in group], weights),
            l2_fraction=_mean([launch.values.get("l2") for launch in group], weights),
            tensor_fraction=_mean([launch.values.get("tensor") for launch in group], weights),
            pipe_fraction=_mean([launch.pipe_fraction for launch in group], weights),
        )


def _mean(values: Sequence[float | None], weights: Sequence[float] | None = None) -> float | None:
    """The mean of what is known; of shares of a peak, weighted by time."""
    known = [
        (value, weight)
        for value, weight in zip(values, weights or [1.0] * len(values), strict=True)
        if value is not None
    ]
    return sum(value * weight for value, weight in known) / sum(weight for _, weight in known) if known else None
