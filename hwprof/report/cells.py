"""How is one value shown? Columns and cells: each value with the text that people read, scaled and rounded here."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, Literal, TypeVar

from hwprof.units import ABSENT, scale, scaled_text

Value = str | float | None
Style = Literal["text", "number", "bound", "code", "long", "strong", "quiet"]
Quantity = Literal[
    "text",
    "s",
    "byte",
    "byte_per_s",
    "flop",
    "flop_per_s",
    "fraction",
    "estimate",
    "count",
    "ratio",
    "nats_per_token",
]
Item = TypeVar("Item")

_EXACT_BELOW = 1e15
"""Whole numbers below this are written in full to files: a float holds each of them exactly."""


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


def chosen(fields: Sequence[Field[Item]], names: str) -> tuple[Field[Item], ...]:
    """The fields of these names, separated by blanks, in their order."""
    known = {field.name: field for field in fields}
    return tuple(known[name] for name in names.split())


def finite(value: float | None) -> bool:
    """Whether there is a number to show."""
    return value is not None and math.isfinite(value)


def yes(*, answer: bool) -> str:
    """A truth value, for people."""
    return "yes" if answer else "no"


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
        numbers = [one for column in alike or [values] for one in column if isinstance(one, (int, float))]
        factor, unit = scale(field.quantity, numbers)
        style = field.style or ("text" if field.quantity == "text" else "number")
        columns.append(Column(name=field.name, title=field.title, unit=unit, style=style, meaning=field.meaning))
        cells = [_screen_cell(value, field.quantity, factor) for value in values]
        if field.show is not None:
            cells = [replace(cell, text=field.show(item)) for cell, item in zip(cells, items, strict=True)]
        texts.append(cells)
    rows = tuple(zip(*texts, strict=True)) if items else ()
    return Table(name=name, title=title, columns=tuple(columns), rows=rows, note=note, empty="" if items else empty)


def _screen_cell(value: Value, quantity: Quantity, factor: float) -> Cell:
    if value is None or value == "":
        return Cell(value=None, text=ABSENT)
    if isinstance(value, str):
        return Cell(value=value, text=value)
    return Cell(value=value if math.isfinite(value) else None, text=scaled_text(value, quantity, factor))


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
