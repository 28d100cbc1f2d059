"""Statistics of samples against scipy's and Python's own."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from hwprof.specs.measurement import Measurement, median_interval


def measured(*samples):
    return Measurement(name="copy", unit="byte_per_s", samples=samples, warmups=1)


@given(st.lists(st.floats(0.5, 1e6), min_size=1, max_size=40))
def test_median_and_spread_are_those_of_the_statistics_module(samples):
    found = measured(*samples)
    assert found.median == statistics.median(samples)
    if len(samples) > 1:
        low, _, high = statistics.quantiles(samples, n=4, method="inclusive")
        assert found.spread == pytest.approx((high - low) / found.median, rel=1e-12, abs=1e-12)


def test_a_spread_over_nothing_is_none():
    assert measured(0.0, 0.0, 0.0).spread == 0.0


def test_a_tenth_is_a_property_of_the_machine_and_a_half_is_not():
    assert measured(100, 101, 99, 100, 100).stable
    assert not measured(100, 150, 50, 200, 20).stable


@pytest.mark.parametrize("count", [6, 9, 20, 50])
def test_the_interval_of_the_median_holds_95_percent(count):
    """Its ends are order statistics whose ranks leave at most 2.5 % of binomial(n, 1/2) on either side."""
    samples = tuple(float(number) for number in range(count))
    low, high = median_interval(samples)
    assert low + high == count - 1
    outside = binom.cdf(low, count, 0.5) if low else 0.5**count
    assert outside <= 0.025 < binom.cdf(low + 1, count, 0.5)
    assert measured(*samples).interval == (low, high)


def test_few_samples_have_their_range():
    assert median_interval((3.0, 1.0, 2.0)) == (1.0, 3.0)
