"""Curves through points: laws found again, no fall with work, trust in own points, intervals that hold."""

from __future__ import annotations

import numpy as np
import pytest

from hwprof.predict.curves.lattice import Axis
from hwprof.predict.curves.process import Points, Prior, Process, curve

AXES = (Axis(name="m", lowest=1, highest=2**14), Axis(name="n", lowest=1, highest=2**14))


def sizes(count, seed=1):
    return np.exp(np.random.default_rng(seed).uniform(np.log(4), np.log(2**13), (count, 2)))


def scatter(count, seed=2):
    """Normal numbers of standard deviation 1."""
    return np.random.default_rng(seed).normal(0, 1, count)


def law_s(at):
    """What the points follow: three microseconds, and a rate that small sizes do not reach."""
    return 3e-6 + at[:, 0] * at[:, 1] * 1e-11 * (1 + 50 / at[:, 1])


def base_s(at):
    return 1e-6 + at[:, 0] * at[:, 1] * 1e-11


def curve_of(at, seconds, **changes):
    return curve(AXES, Points(at, seconds, base_s(at), **changes), base_s, Prior())


def test_a_law_is_found_again_between_its_points():
    at, fresh = sizes(300), sizes(200, seed=3)
    found = curve_of(at, law_s(at)).at(fresh)[0]
    assert np.quantile(np.abs(np.log(found / law_s(fresh))), 0.9) < 0.03


def test_more_work_never_takes_less_time_whatever_was_measured():
    at = sizes(150)
    noisy = law_s(at) * np.exp(0.5 * scatter(150))
    rows = np.exp(np.linspace(0, np.log(2**16), 400))
    for fixed in (1.0, 37.0, 5000.0):
        for one in (np.stack([rows, np.full(400, fixed)], 1), np.stack([np.full(400, fixed), rows], 1)):
            assert (np.diff(np.log(curve_of(at, noisy).at(one)[0])) >= -1e-9).all()


def test_misses_are_those_of_leaving_points_out():
    at = sizes(40)
    wrong = np.log(law_s(at) / base_s(at)) + 0.05 * scatter(40)
    wrong -= np.median(wrong)
    whole = Process.of(AXES, at, Prior())
    sd, noise, lengths = 0.45, 0.06, 5.0
    apart = np.sqrt((((np.log(at)[:, None] - np.log(at)[None]) / lengths) ** 2).sum(2)) * np.sqrt(3)
    covariance = sd**2 * (1 + apart) * np.exp(-apart)
    for row in range(40):
        rest = np.arange(40) != row
        known = np.linalg.solve(covariance[np.ix_(rest, rest)] + noise**2 * np.eye(39), wrong[rest])
        assert whole.missed(wrong)[row] == pytest.approx(wrong[row] - covariance[row, rest] @ known, abs=1e-9)


def test_own_points_win_where_they_are_and_lent_ones_help_elsewhere():
    own, lent = sizes(60), sizes(300, seed=3)
    own[:, 0] = np.minimum(own[:, 0], 256)
    both = np.concatenate([own, lent])
    seconds = np.concatenate([law_s(own) * 1.5, law_s(lent)])
    found = curve_of(both, seconds, lent=np.arange(360) >= 60)
    near, far = np.array([[64.0, 512.0]]), np.array([[2.0**13, 512.0]])
    assert found.at(near)[0] == pytest.approx(1.5 * law_s(near), rel=0.05)
    assert 1.0 < (found.at(far)[0] / law_s(far))[0] < 1.5 * 1.05


def test_anothers_share_of_its_base_is_taken_over():
    """The points ran at half of what their own device's base says; so does the device asked for, twice as fast."""
    at, fresh = sizes(200), sizes(20, seed=3)
    seconds = 2 * base_s(at) * 3
    found = curve(AXES, Points(at, seconds, base_s(at) * 3), base_s, Prior())
    assert found.at(fresh)[0] == pytest.approx(2 * base_s(fresh), rel=0.03)


def test_intervals_hold_nine_in_ten_fresh_measurements():
    at, fresh = sizes(400), sizes(2000, seed=3)
    found, half_width = curve_of(at, law_s(at) * np.exp(0.15 * scatter(400))).at(fresh)
    measured = law_s(fresh) * np.exp(0.15 * scatter(2000, seed=4))
    assert 0.86 < (np.abs(np.log(found / measured)) <= half_width).mean() < 0.95


def test_intervals_are_wider_where_measurements_scatter_more():
    at = sizes(500)
    sd = np.where(at[:, 0] > 256, 0.3, 0.03)
    curve_found = curve_of(at, law_s(at) * np.exp(sd * scatter(500)))
    calm, wild = curve_found.at(np.array([[16.0, 256.0], [4096.0, 256.0]]))[1]
    assert wild > 2 * calm


def test_doubting_points_that_ran_far_too_long_leaves_the_others_times():
    at, fresh = sizes(300), sizes(100, seed=3)
    slow = np.random.default_rng(5).random(300) < 0.12
    wrong = np.log(law_s(at) * np.where(slow, 6.0, 1.0) / base_s(at))
    process = Process.of(AXES, at, Prior())
    believing, doubting = (one.curve(wrong, base_s).at(fresh)[0] for one in (process, process.doubting(wrong)))
    off = [np.quantile(np.abs(np.log(found / law_s(fresh))), 0.9) for found in (believing, doubting)]
    assert off[1] < 0.15 < off[0]


def test_a_part_that_is_left_out_is_missing_by_as_much():
    at = sizes(300)

    def apart_s(where):
        return 0.5 * base_s(where)

    found = Process.of(AXES, at, Prior()).curve(np.log(law_s(at) / base_s(at)), base_s, apart_s)
    fresh = sizes(100, seed=3)
    assert found.at(fresh)[0] + apart_s(fresh) == pytest.approx(law_s(fresh), rel=0.1)


def test_one_point_alone_moves_the_base_to_it():
    at = np.array([[512.0, 512.0]])
    found, half_width = curve_of(at, 2 * base_s(at)).at(at)
    assert found == pytest.approx(2 * base_s(at), rel=0.01)
    assert 0 < half_width[0] < 1
