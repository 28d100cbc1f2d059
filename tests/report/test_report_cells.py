"""Are numbers shown with the right digits and units?"""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwprof.report.cells import (
    ABSENT,
    Field,
    build_sheet,
    build_table,
    count,
    number,
    percent,
    quantity_text,
    span_text,
)


@pytest.mark.parametrize(
    ("value", "digits", "expected"),
    [
        (0.0, 3, "0"),
        (123.4, 3, "123"),
        (12.34, 3, "12.3"),
        (1.234, 3, "1.23"),
        (0.01234, 3, "0.0123"),
        (999.7, 3, "1,000"),
        (1234567.0, 3, "1,234,567"),
        (-2.5, 3, "-2.50"),
        (3e12, 3, "3.00e+12"),
        (2e-7, 3, "2.00e-07"),
        (math.inf, 3, ABSENT),
        (math.nan, 3, ABSENT),
    ],
)
def test_number_has_the_asked_significant_digits(value: float, digits: int, expected: str) -> None:
    assert expected == number(value, digits)


@given(st.floats(min_value=1e-4, max_value=1e8))
def test_number_is_within_half_a_unit_of_its_third_digit(value: float) -> None:
    assert float(number(value).replace(",", "")) == pytest.approx(value, rel=5.01e-3)


@pytest.mark.parametrize(
    ("value", "quantity", "expected"),
    [
        (0.0123, "s", "12.3 ms"),
        (4.1e-6, "s", "4.10 µs"),
        (61.0, "s", "61.0 s"),
        (18.4e9, "byte_per_s", "18.4 GB/s"),
        (989e12, "flop_per_s", "989 TFLOP/s"),
        (80e9, "byte", "80.0 GB"),
        (0.384, "fraction", "38.4 %"),
        (2.9e9, "hertz", "2.90 GHz"),
        (55.0, "percent", "55.0 %"),
        (61.0, "celsius", "61.0 °C"),
        (700.0, "watt", "700 W"),
        (3.0, "widgets", "3.00 widgets"),
        (None, "s", ABSENT),
        (math.nan, "byte", ABSENT),
    ],
)
def test_quantity_names_its_unit(value: float | None, quantity: str, expected: str) -> None:
    assert expected == quantity_text(value, quantity)


def test_interval_shares_one_unit() -> None:
    assert span_text((0.405, 1.2), "s") == "0.405 to 1.20 s"


@pytest.mark.parametrize(
    ("fraction", "expected"),
    [(0.384, "38.4 %"), (0.0007, "0.07 %"), (0.00001, "< 0.01 %"), (0.0, "0 %"), (1.0, "100 %"), (None, ABSENT)],
)
def test_share_keeps_two_decimals_at_most_below_one_percent(fraction: float | None, expected: str) -> None:
    assert expected == percent(fraction)


def test_whole_counts_have_no_decimals() -> None:
    assert [count(636), count(1e6), count(2.5)] == ["636", "1,000,000", "2.50"]


def test_a_column_has_one_unit_that_suits_its_largest_value() -> None:
    fields = (Field("name", "Name", lambda item: item[0]), Field("time", "Time", lambda item: item[1], "s"))
    table = build_table("t", "T", fields, [("a", 0.25), ("b", 0.0005), ("c", None)])
    assert [column.unit for column in table.columns] == ["", "ms"]
    assert [row[1].text for row in table.rows] == ["250", "0.500", ABSENT]
    assert [row[1].value for row in table.rows] == [0.25, 0.0005, None]


def test_an_empty_table_keeps_its_columns_and_says_why() -> None:
    table = build_table("t", "T", (Field("time", "Time", lambda item: item, "s"),), [], empty="nothing was measured")
    assert (len(table.columns), table.rows, table.empty) == (1, (), "nothing was measured")


def test_a_sheet_scales_nothing_and_leaves_unknown_values_blank() -> None:
    sheet = build_sheet("t", "T", (Field("time_s", "Time", lambda item: item, "s"),), [0.25, None, math.inf, 8.2e9])
    assert [row[0].text for row in sheet.rows] == ["0.25", "", "", "8200000000"]


def test_columns_to_be_compared_have_one_unit() -> None:
    fields: tuple[Field[tuple[float, float]], ...] = (
        Field("a", "A", lambda pair: pair[0], "s"),
        Field("b", "B", lambda pair: pair[1], "s"),
        Field("size", "Size", lambda pair: pair[0], "byte"),
    )
    table = build_table("t", "T", fields, [(0.445, 4.17)], one_unit=True)
    assert [column.unit for column in table.columns] == ["s", "s", "B"]
    assert [cell.text for cell in table.rows[0]] == ["0.445", "4.17", "0.445"]
    assert [column.unit for column in build_table("t", "T", fields, [(0.445, 4.17)]).columns] == ["ms", "s", "B"]
