"""What does a value of Nsight Compute mean? Numbers with thousands separators, units, and which metric says what."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Quantity = Literal[
    "time_s", "read_bytes", "write_bytes", "dram_bytes", "dram_byte_per_s", "dram", "l2", "tensor", "pipe"
]

_PREFIXES = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12, "p": 1e15}
_SECONDS = {
    "ns": 1e-9,
    "nsecond": 1e-9,
    "us": 1e-6,
    "usecond": 1e-6,
    "ms": 1e-3,
    "msecond": 1e-3,
    "s": 1.0,
    "second": 1.0,
}
_BYTES = re.compile(r"([kmgtp]?)byte(?:/(s|second|ns|nsecond))?")
_GROUPED = re.compile(r"-?\d{1,3}(?:,\d{3})+(?:\.\d+)?|-?\d{1,3}(?:\.\d{3})+,\d+|-?\d{1,3}(?:\.\d{3}){2,}")
_SECTOR_BYTES = 32.0
"""A sector, the unit in which DRAM and L2 are read and written (Nsight Compute, Kernel Profiling Guide)."""

_METRICS: tuple[tuple[str, Quantity], ...] = (
    (r"gpu__time_duration\.(sum|avg|max)|duration", "time_s"),
    (r"dram__(bytes|sectors)(_op)?_read\.sum", "read_bytes"),
    (r"dram__(bytes|sectors)(_op)?_write\.sum", "write_bytes"),
    (r"dram__(bytes|sectors)\.sum", "dram_bytes"),
    (r"dram__bytes\.sum\.per_second|memory throughput", "dram_byte_per_s"),
    (r"(gpu__dram|dram_)_throughput\.avg\.pct_of_peak_sustained_elapsed|dram throughput", "dram"),
    (r"lts__t(_bytes|_sectors|hroughput)\.avg\.pct_of_peak_sustained_elapsed|l2 cache throughput", "l2"),
    (r"sm__(inst_executed_)?pipe_tensor\w*\.avg\.pct_of_peak_sustained_(active|elapsed)", "tensor"),
    (r"sm__(inst_executed_)?pipe_\w+\.avg\.pct_of_peak_sustained_(active|elapsed)", "pipe"),
    (r"sm__throughput\.avg\.pct_of_peak_sustained_elapsed|compute \(sm\) throughput", "pipe"),
)
"""Metric, by its own name or by that of the details page in lower case, and what it says; the first match counts."""


@dataclass(frozen=True, slots=True)
class Value:
    """One number in base units: seconds, bytes, bytes per second, or a fraction."""

    quantity: Quantity
    number: float


def value_of(metric: str, unit: str, text: str) -> Value | None:
    """The value of one cell; None where hwprof does not use the metric, or the GPU does not have it ("n/a")."""
    name = metric.strip().lower()
    quantity = next((quantity for pattern, quantity in _METRICS if re.fullmatch(pattern, name)), None)
    number = _number(text.strip())
    if quantity is None or number is None:
        return None
    factor = _factor(quantity, metric.lower(), unit.strip().lower())
    return None if factor is None else Value(quantity, number * factor)


def _number(text: str) -> float | None:
    """A number of the locale that ncu ran in: ``1,234.5``, ``1.234,5`` or ``1234.5``.

    A comma that does not stand before three digits is a decimal one.
    """
    if _GROUPED.fullmatch(text):
        between = next(sign for sign in text if sign in ",.")
        text = text.replace(between, "").replace(",", ".")
    elif re.fullmatch(r"-?\d+,\d+", text):
        text = text.replace(",", ".")
    try:
        return float(text)
    except ValueError:
        return None


def _factor(quantity: Quantity, metric: str, unit: str) -> float | None:
    """To base units; None where the unit is not of the quantity (the details page has two "Memory Throughput")."""
    if quantity == "time_s":
        return _SECONDS.get(unit)
    if quantity in {"read_bytes", "write_bytes", "dram_bytes", "dram_byte_per_s"}:
        if "sectors" in metric:
            return _SECTOR_BYTES
        found = _BYTES.fullmatch(unit or "byte")
        if found is None or bool(found[2]) != (quantity == "dram_byte_per_s"):
            return None
        return _PREFIXES[found[1]] / _SECONDS.get(found[2] or "s", 1.0)
    return 1e-2 if unit in {"%", ""} else None
