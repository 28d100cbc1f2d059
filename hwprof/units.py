"""How is a quantity with a unit read and written? Parsed once at the edge; base units inside."""

from __future__ import annotations

import math
import re
from decimal import Decimal
from typing import Literal

from hwprof.errors import InputError

Dimension = Literal["byte", "s", "flop", "byte_per_s", "flop_per_s", "op_per_s", "hertz", "watt", "usd_per_hour"]

_DECIMAL = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}
_BINARY = {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40}


def _scaled(symbols: tuple[str, ...], prefixes: dict[str, float], factor: float = 1.0) -> dict[str, float]:
    return {prefix + symbol: scale * factor for symbol in symbols for prefix, scale in prefixes.items()}


_UNITS: dict[str, dict[str, float]] = {
    "byte": _scaled(("B", "byte", "bytes"), _DECIMAL) | _scaled(("B",), _BINARY),
    "s": {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9, "min": 60.0, "h": 3600.0, "d": 86400.0},
    "flop": _scaled(("FLOP",), _DECIMAL),
    "byte_per_s": _scaled(("B/s",), _DECIMAL) | _scaled(("B/s",), _BINARY) | _scaled(("b/s", "bit/s"), _DECIMAL, 1 / 8),
    "flop_per_s": _scaled(("FLOP/s",), _DECIMAL),
    "op_per_s": _scaled(("OP/s",), _DECIMAL),
    "hertz": _scaled(("Hz",), _DECIMAL),
    "watt": _scaled(("W",), _DECIMAL),
    "usd_per_hour": {"USD/h": 1.0},
}

_QUANTITY = re.compile(r"\s*([0-9][0-9_]*(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)\s*([A-Za-zµ/]+)\s*")


def parse(text: str, dimension: Dimension) -> float:
    """The quantity ``text`` in base units of ``dimension``.

    Bits and bytes (``Gb/s``, ``GB/s``), decimal and binary prefixes (``GB``, ``GiB``) are distinct and case matters.

    Raises:
        InputError: the text is no number with a unit, or its unit belongs to another dimension.

    >>> parse("3.35 TB/s", "byte_per_s")
    3350000000000.0
    >>> parse("400 Gb/s", "byte_per_s")
    50000000000.0
    """
    match = _QUANTITY.fullmatch(text)
    units = _UNITS[dimension]
    if match is None or match.group(2) not in units:
        examples = ", ".join(list(units)[:8])
        raise InputError(
            f"{text!r} is not a quantity in {dimension}",
            expectation=f"expected a number and a unit such as {examples}",
            remedy="write for example " + repr(f"1.5 {list(units)[-1]}"),
        )
    value = float(Decimal(match.group(1)) * Decimal(repr(units[match.group(2)])))
    if not math.isfinite(value):
        raise InputError(f"{text!r} is not a finite quantity", remedy="write a finite number and a unit")
    return value


_FORMAT_PREFIXES = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))


def _significant(value: float, digits: int) -> float:
    return float(f"{value:.{digits}g}")


def _with_prefix(value: float, symbol: str, digits: int) -> str:
    rounded = _significant(value, digits)
    scale, prefix = next(((s, p) for s, p in _FORMAT_PREFIXES if abs(rounded) >= s), (1.0, ""))
    number = f"{rounded / scale:.{digits}g}"
    if "e" in number:  # at or above the largest prefix, or far below one
        number = f"{rounded / scale:.0f}" if abs(rounded) >= scale else number
    return f"{number} {prefix}{symbol}"


def format_flop(flop: float) -> str:
    """Work, for people: ``6.21 TFLOP``."""
    return _with_prefix(flop, "FLOP", 4)


def format_flop_per_s(flop_per_s: float) -> str:
    """A compute rate, for people: ``989 TFLOP/s``."""
    return _with_prefix(flop_per_s, "FLOP/s", 3)


def format_byte_per_s(byte_per_s: float) -> str:
    """A transfer rate in decimal bytes, for people: ``3.35 TB/s``."""
    return _with_prefix(byte_per_s, "B/s", 3)


def format_bytes(size_bytes: float) -> str:
    """A size in decimal bytes, for people: ``80 GB``."""
    return _with_prefix(size_bytes, "B", 4)


def format_count(count: float) -> str:
    """A plain count, for people: ``1.24 G``."""
    return _with_prefix(count, "", 4).strip()


def format_seconds(duration_s: float) -> str:
    """A duration, for people: ``12.3 ms``."""
    rounded = _significant(duration_s, 4)
    for limit, scale, symbol in ((1.0, 1.0, "s"), (1e-3, 1e-3, "ms"), (1e-6, 1e-6, "µs")):
        if abs(rounded) >= limit:
            number = rounded / scale
            return f"{number:.4g} {symbol}" if abs(number) < 1e4 else f"{number:.0f} {symbol}"
    return f"{rounded / 1e-9:.4g} ns" if rounded else "0 s"


def format_fraction(fraction: float) -> str:
    """A share, for people: ``38.4 %``."""
    percent = _significant(100 * fraction, 3)
    return f"{percent:.3g} %" if abs(percent) < 1e3 else f"{percent:.0f} %"
