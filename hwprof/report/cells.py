"""How is one value shown? Columns and cells: each value with the text that people read, scaled and rounded here."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, Literal, TypeVar

Value = str | float | None
Style = Literal["text", "number", "bound", "code", "long"]
Quantity = Literal["text", "s", "byte", "byte_per_s", "flop", "flop_per_s", "fraction", "count", "ratio"]
Item = TypeVar("Item")

ABSENT = "–"
"""What stands where a value is unknown."""

_PREFIXES = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_SMALL_TIMES = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
_EXACT_BELOW = 1e15
"""Whole numbers below this are written in full to files: a float holds each of them exactly."""
_LEAST_SHARE = 5e-5
"""Smaller shares are shown as "< 0.01 %"."""
_SYMBOLS = {
    "byte": "B",
    "byte_per_s": "B/s",
    "flop": "FLOP",
    "flop_per_s": "FLOP/s",
    "hertz": "Hz",
    "watt": "W",
    "joule": "J",
}
_FIXED = {"fraction": (100.0, "%"), "percent": (1.0, "%"), "ratio": (1.0, "×"), "celsius": (1.0, "°C")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column: ``name`` for files (with its unit), ``title`` and ``unit`` for people, ``meaning`` in a sentence."""

    name: str
    title: str
    unit: str = ""
    style: Style = "text"
    meaning: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One value to sort by, and the text to show."""

    value: Value
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows under columns; ``empty`` says why there are none, ``note`` what to know when reading them."""

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""
    empty: str = ""


@dataclass(frozen=True, slots=True)
class Field(Generic[Item]):
    """How a column reads its value from an item; ``quantity`` is the dimension of that value, in base units.

    ``show``, where given, words the value for people; the column still sorts by what ``read`` returns.
    """

    name: str
    title: str
    read: Callable[[Item], Value]
    quantity: Quantity = "text"
    style: Style | None = None
    meaning: str = ""
    show: Callable[[Item], str] | None = None


def finite(value: float | None) -> bool:
    """Whether there is a number to show."""
    return value is not None and math.isfinite(value)


def number(value: float, digits: int = 3) -> str:
    """A number with ``digits`` significant digits and no exponent between 1e-4 and 1e9: ``1,234``, ``0.0123``."""
    if value == 0:
        return "0"
    if not math.isfinite(value):
        return ABSENT
    rounded = float(f"{value:.{digits - 1}e}")
    magnitude = math.floor(math.log10(abs(rounded)))
    if not -4 <= magnitude < 9:
        return f"{value:.{digits - 1}e}"
    return f"{value:,.{max(digits - 1 - magnitude, 0)}f}"


def count(value: float) -> str:
    """A plain count: whole numbers as they are, with thousands separators."""
    if not math.isfinite(value):
        return ABSENT
    return f"{int(value):,}" if float(value).is_integer() else f"{value:,.2f}"


def yes(*, answer: bool) -> str:
    """A truth value, for people."""
    return "yes" if answer else "no"


def percent(fraction: float | None, digits: int = 3) -> str:
    """A share, for people: ``38.4 %``."""
    if fraction is None or not math.isfinite(fraction):
        return ABSENT
    if 0 < abs(fraction) < 0.01:
        return f"{100 * fraction:.2f} %" if abs(fraction) >= _LEAST_SHARE else "< 0.01 %"
    return f"{number(100 * fraction, digits)} %"


def scale(quantity: str, values: Iterable[float]) -> tuple[float, str]:
    """Factor and unit that show ``values`` (base units of ``quantity``) best: ``(1e3, "ms")``.

    A quantity that is not known keeps its own name as unit.
    """
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    if quantity in _FIXED:
        return _FIXED[quantity]
    if quantity == "s":
        base, unit = next(((base, unit) for base, unit in _SMALL_TIMES if largest >= base), (1e-9, "ns"))
        return (1 / base, unit) if largest else (1e3, "ms")
    if quantity not in _SYMBOLS:
        return 1.0, "" if quantity in {"text", "count"} else quantity
    base, prefix = next(((base, prefix) for base, prefix in _PREFIXES if largest >= base), (1.0, ""))
    return 1 / base, prefix + _SYMBOLS[quantity]


def quantity_text(value: float | None, quantity: str, digits: int = 3) -> str:
    """One number with its unit, for people: ``12.3 ms``, ``154 GFLOP/s``."""
    if value is None or not math.isfinite(value):
        return ABSENT
    factor, unit = scale(quantity, [value])
    return f"{number(value * factor, digits)} {unit}".strip()


def span_text(interval: tuple[float, float], quantity: str, digits: int = 3) -> str:
    """An interval with its unit, for people: ``405–420 ms``."""
    factor, unit = scale(quantity, interval)
    low, high = (number(end * factor, digits) for end in interval)
    return f"{low} to {high} {unit}".strip()


def build_table(
    name: str,
    title: str,
    fields: Sequence[Field[Item]],
    items: Sequence[Item],
    *,
    note: str = "",
    empty: str = "",
    one_unit: bool = False,
) -> Table:
    """A table for people: each numeric column is scaled to the unit that its largest value suits.

    With ``one_unit`` columns of the same quantity have the unit of the largest value of them all, to be compared.
    """
    columns, texts = [], []
    read = [[field.read(item) for item in items] for field in fields]
    for field, values in zip(fields, read, strict=True):
        alike = [v for other, v in zip(fields, read, strict=True) if one_unit and other.quantity == field.quantity]
        column, cells = _screen_column(field, values, alike or [values])
        columns.append(column)
        texts.append(cells if field.show is None else _worded(cells, map(field.show, items)))
    rows = tuple(zip(*texts, strict=True)) if items else ()
    return Table(name=name, title=title, columns=tuple(columns), rows=rows, note=note, empty="" if items else empty)


def _screen_column(
    field: Field[Item], values: Sequence[Value], alike: Sequence[Sequence[Value]]
) -> tuple[Column, list[Cell]]:
    numbers = [value for column in alike for value in column if isinstance(value, (int, float))]
    factor, unit = scale(field.quantity, numbers)
    style = field.style or ("text" if field.quantity == "text" else "number")
    column = Column(name=field.name, title=field.title, unit=unit, style=style, meaning=field.meaning)
    return column, [_screen_cell(value, field.quantity, factor) for value in values]


def _worded(cells: Sequence[Cell], words: Iterable[str]) -> list[Cell]:
    return [replace(cell, text=text) for cell, text in zip(cells, words, strict=True)]


def _screen_cell(value: Value, quantity: Quantity, factor: float) -> Cell:
    if value is None or value == "":
        return Cell(value=None, text=ABSENT)
    if isinstance(value, str):
        return Cell(value=value, text=value)
    text = count(value) if quantity == "count" else number(value * factor)
    return Cell(value=value if math.isfinite(value) else None, text=text)


def build_sheet(name: str, title: str, fields: Sequence[Field[Item]], items: Sequence[Item]) -> Table:
    """A table for spreadsheets: nothing is scaled, a field reads its value in the unit that its name ends in."""
    columns = tuple(
        Column(name=field.name, title=field.title, style="text" if field.quantity == "text" else "number")
        for field in fields
    )
    rows = tuple(tuple(_sheet_cell(field.read(item)) for field in fields) for item in items)
    return Table(name=name, title=title, columns=columns, rows=rows)


def _sheet_cell(value: Value) -> Cell:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return Cell(value=None, text="")
    if isinstance(value, str):
        return Cell(value=value, text=value)
    whole = float(value).is_integer() and abs(value) < _EXACT_BELOW
    return Cell(value=value, text=str(int(value)) if whole else f"{value:.9g}")
