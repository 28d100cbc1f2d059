"""Quantities are parsed once, exactly, nothing that is no quantity passes, and each value has one text."""

import math
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwprof import units
from hwprof.errors import InputError


@pytest.mark.parametrize(
    ("text", "dimension", "value"),
    [
        ("80 GB", "byte", 80_000_000_000),
        ("80 GiB", "byte", 85_899_345_920),
        ("50 MiB", "byte", 52_428_800),
        ("3.35 TB/s", "byte_per_s", 3_350_000_000_000),
        ("400 Gb/s", "byte_per_s", 50_000_000_000),
        ("400Gbit/s", "byte_per_s", 50_000_000_000),
        ("989.4 TFLOP/s", "flop_per_s", 989_400_000_000_000),
        ("2.25 PFLOP/s", "flop_per_s", 2_250_000_000_000_000),
        ("1979 TOP/s", "op_per_s", 1_979_000_000_000_000),
        ("1830 MHz", "hertz", 1_830_000_000),
        ("3.4 us", "s", 0.000_003_4),
        ("3.4 µs", "s", 0.000_003_4),
        ("700 W", "watt", 700),
        ("2.95 USD/h", "usd_per_hour", 2.95),
        ("1e3 B", "byte", 1000),
    ],
)
def test_a_datasheet_quantity_becomes_base_units(text, dimension, value):
    assert units.parse(text, dimension) == pytest.approx(value, rel=1e-15)


@pytest.mark.parametrize(
    "text", ["", "80", "GB", "-80 GB", "80 gb", "80 GB/s", "80 GHz", "nan GB", "inf GB", "80 GB 80 GB", "8,0 GB"]
)
def test_what_is_no_size_is_refused_with_an_example(text):
    with pytest.raises(InputError, match=r"not a quantity in byte; expected a number and a unit such as .*; write"):
        units.parse(text, "byte")


def test_a_quantity_beyond_floats_is_refused():
    with pytest.raises(InputError, match="finite"):
        units.parse("1e999 GB", "byte")


def test_bits_are_an_eighth_of_bytes_and_gibi_is_seven_percent_above_giga():
    assert units.parse("8 Gb/s", "byte_per_s") == units.parse("1 GB/s", "byte_per_s")
    assert units.parse("1 GiB", "byte") / units.parse("1 GB", "byte") == pytest.approx(1.073741824)


@given(st.floats(min_value=1e-3, max_value=999))
def test_formatting_keeps_three_digits_of_what_was_parsed(number):
    rate = units.parse(f"{number:.6f} TB/s", "byte_per_s")
    text = units.format_byte_per_s(rate)
    if "e" not in text:
        assert units.parse(text, "byte_per_s") == pytest.approx(rate, rel=0.006)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (units.format_flop(6.21e12), "6.21 TFLOP"),
        (units.format_flop_per_s(989.4e12), "989 TFLOP/s"),
        (units.format_byte_per_s(3.35e12), "3.35 TB/s"),
        (units.format_bytes(80e9), "80 GB"),
        (units.format_count(1.24e9), "1.24 G"),
        (units.format_count(12), "12"),
        (units.format_seconds(0.012346), "12.35 ms"),
        (units.format_seconds(0.99996), "1 s"),
        (units.format_seconds(2.5), "2.5 s"),
        (units.format_seconds(86400.4), "86,400 s"),
        (units.format_seconds(3.4e-6), "3.4 µs"),
        (units.format_seconds(5e-9), "5 ns"),
        (units.format_seconds(0), "0 s"),
        (units.format_fraction(0.384), "38.4 %"),
        (units.format_fraction(0.00689), "0.689 %"),
        (units.format_fraction(1e-6), "< 0.01 %"),
        (units.format_fraction(-0.02), "-2 %"),
        (units.format_fraction(0.0), "0 %"),
        (units.format_fraction(None), units.ABSENT),
        (units.format_estimate(0.0512), "5.1 %"),
        (units.format_change(0.2), "+20 %"),
        (units.format_change(-0.0333), "-3.33 %"),
        (units.format_quantity(2.9e9, "hertz"), "2.9 GHz"),
        (units.format_quantity(55.0, "percent"), "55 %"),
        (units.format_quantity(61.0, "celsius"), "61 °C"),
        (units.format_quantity(700.0, "watt"), "700 W"),
        (units.format_quantity(12.5e6, "watt_hour"), "12.5 MWh"),
        (units.format_quantity(77.74e6, "usd"), "77.7 M USD"),
        (units.format_quantity(19.9, "usd"), "19.9 USD"),
        (units.format_quantity(3527.4, "count"), "3,527"),
        (units.format_quantity(2.3104, "nats_per_token"), "2.31 nats per token"),
        (units.format_quantity(3.0, "widgets"), "3 widgets"),
        (units.format_quantity(math.nan, "byte"), units.ABSENT),
        (units.format_span((0.405, 1.2), "s"), "0.405 to 1.2 s"),
        (units.format_span((0.0512, 0.14), "estimate"), "5.1 to 14 %"),
        (units.format_span((20.0, 20.0), "usd"), "20 USD"),
    ],
)
def test_numbers_for_people_carry_prefix_and_unit(text, expected):
    assert text == expected


@pytest.mark.parametrize(
    ("value", "digits", "expected"),
    [
        (0.0, 3, "0"),
        (123.4, 3, "123"),
        (12.34, 3, "12.3"),
        (0.01234, 3, "0.0123"),
        (999.7, 3, "1,000"),
        (1234567.0, 3, "1,234,567"),
        (-2.5, 3, "-2.5"),
        (3e15, 3, "3e+15"),
        (2e-7, 3, "2e-07"),
        (math.inf, 3, units.ABSENT),
    ],
)
def test_a_number_has_the_asked_digits_its_whole_part_and_no_zeros_at_the_end(value, digits, expected):
    assert units.number(value, digits) == expected


@given(st.floats(min_value=1e-4, max_value=1e8), st.integers(1, 4))
def test_a_number_is_within_half_a_unit_of_its_last_digit(value, digits):
    assert float(units.number(value, digits).replace(",", "")) == pytest.approx(value, rel=5.01 * 10**-digits)


def test_values_of_a_column_share_the_unit_that_suits_the_largest():
    assert units.scale("s", [0.25, 5e-4]) == (1e3, "ms")
    assert units.scale("byte", [64e3, 2e6, math.inf]) == (pytest.approx(1e-6), "MB")
    assert units.scale("s", []) == (1.0, "s")
    assert units.scale("fraction", [0.001]) == (100.0, "%")


def test_no_other_module_writes_a_share_in_a_way_of_its_own():
    package = Path(units.__file__).parent
    own = [path.name for path in package.rglob("*.py") if re.search(r":\.\d%}", path.read_text(encoding="utf-8"))]
    assert own == []
