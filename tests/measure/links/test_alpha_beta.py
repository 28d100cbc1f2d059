"""Claims about the line through measured times, against closed forms and numpy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwprof.measure.links.alpha_beta import fit_alpha_beta

SIZES = [1024 * 4**step for step in range(8)]


def test_exact_line_is_found_again_with_no_error():
    fit = fit_alpha_beta(SIZES, [20e-6 + size / 5e9 for size in SIZES])
    assert fit.latency_s == pytest.approx(20e-6)
    assert fit.byte_per_s == pytest.approx(5e9)
    assert fit.worst_error < 1e-9
    assert (fit.smallest_bytes, fit.largest_bytes) == (1024, 1024 * 4**7)
    assert fit.time_s(5e9) == pytest.approx(1 + 20e-6)


@given(noise=st.lists(st.floats(-0.2, 0.2), min_size=8, max_size=8))
def test_fit_is_the_weighted_least_squares_of_numpy(noise):
    times = np.array([(50e-6 + size / 1e9) * (1 + e) for size, e in zip(SIZES, noise, strict=True)])
    matrix = np.stack([1 / times, np.array(SIZES) / times], axis=1)
    (alpha, beta), *_ = np.linalg.lstsq(matrix, np.ones(8), rcond=None)
    fit = fit_alpha_beta(SIZES, list(times))
    assert fit.latency_s == pytest.approx(alpha, rel=1e-6)
    assert 1 / fit.byte_per_s == pytest.approx(beta, rel=1e-6)
    residuals = matrix @ (alpha, beta) - 1
    covariance = np.linalg.inv(matrix.T @ matrix) * (residuals @ residuals) / 6
    assert fit.latency_error_s == pytest.approx(covariance[0, 0] ** 0.5, rel=1e-4, abs=1e-15)
    assert fit.byte_per_s_error == pytest.approx(covariance[1, 1] ** 0.5 / beta**2, rel=1e-4, abs=1e-3)
    assert fit.typical_error == pytest.approx(np.sqrt(np.mean(residuals**2)), rel=1e-4, abs=1e-12)


def test_latency_is_never_negative():
    fit = fit_alpha_beta([1000, 2000, 4000], [1e-6, 4e-6, 16e-6])
    assert fit.latency_s == 0
    assert fit.byte_per_s > 0


def test_times_that_do_not_grow_tell_no_bandwidth():
    assert fit_alpha_beta([1000, 2000], [2e-6, 1e-6]) is None


def test_one_size_makes_no_line():
    assert fit_alpha_beta([1000], [1e-6]) is None
