"""How is a quantity with a unit read and written? Parsed once at the edge; base units inside."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Literal

from hwprof.errors import InputError

Dimension = Literal["byte", "s", "flop", "byte_per_s", "flop_per_s", "op_per_s", "hertz", "watt", "usd_per_hour"]

_DECIMAL = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}
_BINARY = {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40}


def _scaled(symbols: tuple[str, ...], prefixes: dict[str, float], factor: float = 1.0) -> dict[str, float]:
    return {prefix + symbol: scale * factor for symbol in symbols for prefix, scale in prefixes.items()}


_LONG = {
    name: size
    for names, size in (
        ("second seconds sec 秒", 1.0),
        ("minute minutes 分钟", 60.0),
        ("hour hours hr hrs 小时", 3600.0),
        ("day days 天 日", 86400.0),
        ("week weeks w 周", 7 * 86400.0),
        ("month months 月 个月", 30 * 86400.0),
        ("year years 年", 365 * 86400.0),
    )
    for name in names.split()
}
"""Durations as people type them."""

_UNITS: dict[str, dict[str, float]] = {
    "byte": _scaled(("B", "byte", "bytes"), _DECIMAL) | _scaled(("B",), _BINARY),
    "s": {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9, "min": 60.0, "h": 3600.0, "d": 86400.0, **_LONG},
    "flop": _scaled(("FLOP",), _DECIMAL),
    "byte_per_s": _scaled(("B/s",), _DECIMAL) | _scaled(("B/s",), _BINARY) | _scaled(("b/s", "bit/s"), _DECIMAL, 1 / 8),
    "flop_per_s": _scaled(("FLOP/s",), _DECIMAL),
    "op_per_s": _scaled(("OP/s",), _DECIMAL),
    "hertz": _scaled(("Hz",), _DECIMAL),
    "watt": _scaled(("W",), _DECIMAL),
    "usd_per_hour": {"USD/h": 1.0},
}

_EXAMPLES = {"s": "h", "byte": "GB", "watt": "kW", "byte_per_s": "GB/s"}
"""A unit that people use, of a dimension that they type."""

_QUANTITY = re.compile(r"\s*([0-9][0-9_]*(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)\s*([A-Za-zµ/\u4e00-\u9fff]+)\s*")


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
            remedy="write for example " + repr(f"1.5 {_EXAMPLES.get(dimension, list(units)[-1])}"),
        )
    value = float(Decimal(match.group(1)) * Decimal(repr(units[match.group(2)])))
    if not math.isfinite(value):
        raise InputError(f"{text!r} is not a finite quantity", remedy="write a finite number and a unit")
    return value


def parse_typed(text: str, dimension: Dimension) -> float:
    """As ``parse``, of what a person types: case is free where units have one meaning, ``24G`` of memory are bytes.

    >>> parse_typed("24gb", "byte"), parse_typed("5mw", "watt")
    (24000000000.0, 5000000.0)
    """
    match = _QUANTITY.fullmatch(text)
    if match is None or match[2] in _UNITS[dimension]:
        return parse(text, dimension)
    typed = match[2].lower() + "b" * (dimension == "byte" and not match[2].lower().endswith(("b", "bytes")))
    meant = {size: unit for unit, size in _UNITS[dimension].items() if unit.lower() == typed}
    return parse(f"{match[1]} {next(iter(meant.values()))}" if len(meant) == 1 else text, dimension)


ABSENT = "–"
"""What stands where a value is unknown."""

_PREFIXES = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_TIMES = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
_PREFIXED = {
    "byte": "B",
    "byte_per_s": "B/s",
    "flop": "FLOP",
    "flop_per_s": "FLOP/s",
    "hertz": "Hz",
    "watt": "W",
    "joule": "J",
    "watt_hour": "Wh",
    "usd": " USD",
    "large_count": "",
}
_UNPREFIXED = {
    "fraction": (100.0, "%"),
    "estimate": (100.0, "%"),
    "percent": (1.0, "%"),
    "ratio": (1.0, "×"),
    "celsius": (1.0, "°C"),
    "nats_per_token": (1.0, "nats per token"),
    "count": (1.0, ""),
    "text": (1.0, ""),
}
_DIGITS = {"s": 4, "byte": 4, "flop": 4, "count": 4, "large_count": 4, "nats_per_token": 4, "estimate": 2}
"""Significant digits of a quantity; 3 of one that is not here."""
_LEAST_PERCENT = 0.005
_PLAIN_BELOW = 1e15
"""Numbers from here on have an exponent: a float no longer holds each whole one."""


def number(value: float | None, digits: int = 3) -> str:
    """``digits`` significant digits, the whole part in full, no zeros at the end: ``1,234``, ``0.0123``, ``80``."""
    if value is None or not math.isfinite(value):
        return ABSENT
    rounded = _rounded(value, digits)
    if not rounded:
        return "0"
    if not 1e-4 <= abs(rounded) < _PLAIN_BELOW:
        return f"{rounded:g}"
    text = f"{value:,.{max(digits - 1 - math.floor(math.log10(abs(rounded))), 0)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _rounded(value: float, digits: int) -> float:
    return float(f"{value:.{digits - 1}e}")


def scale(quantity: str, values: Iterable[float]) -> tuple[float, str]:
    """Factor and unit that show ``values`` (base units of ``quantity``) best: ``(1e3, "ms")``.

    A quantity that is not known keeps its own name as unit.
    """
    largest = max(
        (abs(_rounded(value, _DIGITS.get(quantity, 3))) for value in values if math.isfinite(value)), default=0.0
    )
    if quantity == "s":
        base, unit = next((step for step in _TIMES if largest >= step[0]), _TIMES[-1 if largest else 0])
        return 1 / base, unit
    if quantity in _PREFIXED:
        base, prefix = next((step for step in _PREFIXES if largest >= step[0]), (1.0, ""))
        return 1 / base, (prefix + _PREFIXED[quantity]).strip()
    return _UNPREFIXED.get(quantity, (1.0, quantity))


def scaled_text(value: float, quantity: str, factor: float) -> str:
    """The number alone, in the unit that ``factor`` leads to; a share too small to tell from 0 says so."""
    scaled = value * factor
    if quantity in {"fraction", "estimate"} and 0 < abs(scaled) < _LEAST_PERCENT:
        return "< 0.01"
    return number(scaled, _DIGITS.get(quantity, 3))


def format_quantity(value: float | None, quantity: str) -> str:
    """One value with its unit, for people: ``12.35 ms``, ``154 GFLOP/s``."""
    if value is None or not math.isfinite(value):
        return ABSENT
    factor, unit = scale(quantity, [value])
    return f"{scaled_text(value, quantity, factor)} {unit}".strip()


def format_span(interval: tuple[float, float], quantity: str) -> str:
    """An interval in the unit of its larger end, for people: ``405 to 420 ms``; ends that read alike stand once."""
    factor, unit = scale(quantity, interval)
    ends = dict.fromkeys(scaled_text(end, quantity, factor) for end in interval)
    return f"{' to '.join(ends)} {unit}".strip()


def format_flop(flop: float | None) -> str:
    """Work, for people: ``6.21 TFLOP``."""
    return format_quantity(flop, "flop")


def format_flop_per_s(flop_per_s: float | None) -> str:
    """A compute rate, for people: ``989 TFLOP/s``."""
    return format_quantity(flop_per_s, "flop_per_s")


def format_byte_per_s(byte_per_s: float | None) -> str:
    """A transfer rate in decimal bytes, for people: ``3.35 TB/s``."""
    return format_quantity(byte_per_s, "byte_per_s")


def format_bytes(size_bytes: float | None) -> str:
    """A size in decimal bytes, for people: ``80 GB``."""
    return format_quantity(size_bytes, "byte")


def format_count(count: float | None) -> str:
    """A large count in short, for people: ``1.24 G``."""
    return format_quantity(count, "large_count")


def format_seconds(duration_s: float | None) -> str:
    """A duration, for people: ``12.35 ms``."""
    return format_quantity(duration_s, "s")


_LONG_TIMES = ((86400.0, "days"), (3600.0, "hours"), (60.0, "minutes"), (0.0, "s"))


def long_unit(duration_s: float) -> tuple[float, str]:
    """Seconds of the largest unit of which there is one, and its name: of a training, days."""
    size_s, name = next(unit for unit in _LONG_TIMES if duration_s >= unit[0])
    return size_s or 1.0, name


def format_long(duration_s: float) -> str:
    """How long a training takes, for people: ``12.3 days``, ``14 minutes``."""
    size_s, name = long_unit(duration_s)
    return f"{number(duration_s / size_s)} {name}"


def format_fraction(fraction: float | None) -> str:
    """A share, for people: ``38.4 %``."""
    return format_quantity(fraction, "fraction")


def format_estimate(fraction: float | None) -> str:
    """A share that is only predicted, such as a chance or a gain, for people: ``5.1 %``."""
    return format_quantity(fraction, "estimate")


def format_change(fraction: float) -> str:
    """A share more or less, with its sign: ``+20 %``."""
    return f"{'' if fraction < 0 else '+'}{format_fraction(fraction)}"
