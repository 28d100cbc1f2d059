"""Whole numbers are read as people type them, alone and in lists."""

from __future__ import annotations

import click
import pytest

from hwprof.cli.job_options import TOKENS
from hwprof.cli.options import Listed, Whole


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("1024", 1024), ("1,024", 1024), ("1_024", 1024), ("16,384", 16384), ("4k", 4000), ("2M", 2_000_000), (8, 8)],
)
def test_a_number(typed, meant):
    assert Whole().convert(typed, None, None) == meant


def test_lengths_go_by_powers_of_two():
    assert [TOKENS.convert(typed, None, None) for typed in ("4k", "128K", "1M", "2048")] == [
        4096,
        131072,
        1048576,
        2048,
    ]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("1,024", (1024,)), ("8,16", (8, 16)), ("64,128", (64, 128)), ("2,048", (2048,)), ("1k,2k", (1000, 2000))],
)
def test_a_list_has_no_part_with_a_leading_zero(typed, meant):
    assert Listed(Whole()).convert(typed, None, None) == meant


@pytest.mark.parametrize("typed", ["0", "-1", "1.5", "x", "1,02", "", "1,024,8"])
def test_what_is_no_number_is_refused(typed):
    with pytest.raises(click.BadParameter):
        Listed(Whole()).convert(typed, None, None) if "," in typed else Whole().convert(typed, None, None)
