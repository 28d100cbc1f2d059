"""Do columns show each value with the right digits and unit, and files the value itself?"""

from __future__ import annotations

import math

import pytest

from hwprof.report.cells import Field, build_sheet, build_table, chosen
from hwprof.units import ABSENT


def test_a_column_has_one_unit_that_suits_its_largest_value() -> None:
    fields = (Field("name", "Name", lambda item: item[0]), Field("time", "Time", lambda item: item[1], "s"))
    table = build_table("t", "T", fields, [("a", 0.25), ("b", 0.0005), ("c", None)])
    assert [column.unit for column in table.columns] == ["", "ms"]
    assert [row[1].text for row in table.rows] == ["250", "0.5", ABSENT]
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


def test_shares_too_small_to_tell_from_zero_say_so_and_sort_by_their_value() -> None:
    table = build_table("t", "T", (Field("share", "Share", lambda item: item, "fraction"),), [0.384, 1e-6, 0.0])
    assert [row[0].text for row in table.rows] == ["38.4", "< 0.01", "0"]
    assert [row[0].value for row in table.rows] == [0.384, 1e-6, 0.0]
    assert table.columns[0].unit == "%"


def test_a_number_that_is_none_is_absent_and_has_nothing_to_sort_by() -> None:
    table = build_table("t", "T", (Field("time_s", "Time", lambda item: item, "s"),), [math.nan, math.inf])
    assert [(row[0].text, row[0].value) for row in table.rows] == [(ABSENT, None), (ABSENT, None)]


def test_words_stand_for_a_value_on_pages_and_the_value_in_files() -> None:
    fields = (Field("rule", "Rule", lambda item: item, show=lambda item: item.replace("_", " ")),)
    assert build_table("t", "T", fields, ["memory_fits"]).rows[0][0].text == "memory fits"
    assert build_sheet("t", "T", fields, ["memory_fits"]).rows[0][0].text == "memory_fits"


def test_columns_are_chosen_by_name_in_the_asked_order() -> None:
    fields = tuple(Field(name, name, str) for name in ("a", "b", "c"))
    assert [field.name for field in chosen(fields, "c a")] == ["c", "a"]
    with pytest.raises(KeyError):
        chosen(fields, "a nosuch")
