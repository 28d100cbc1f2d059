"""Do the intervals cover what they should?"""

import numpy as np

from hwprof.compare.bootstrap import median_change, median_ratio_change


def test_equal_samples_are_within_noise_nearly_always():
    """95 % intervals: of 200 pairs drawn alike, about 10 leave out zero; the percentile bootstrap is a little wide."""
    rng = np.random.default_rng(0)
    outside = 0
    for _ in range(200):
        interval = median_ratio_change(rng.normal(1, 0.05, 20), rng.normal(1, 0.05, 20))
        assert interval is not None
        outside += not interval[0] <= 0 <= interval[1]
    assert outside <= 20


def test_a_clear_change_is_found_and_its_size_covered():
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(100):
        interval = median_ratio_change(rng.normal(1, 0.01, 20), rng.normal(1.1, 0.01, 20))
        assert interval is not None
        assert interval[0] > 0
        covered += interval[0] <= 0.1 <= interval[1]
    assert covered >= 88


def test_samples_without_spread_have_an_interval_without_width():
    assert median_change([2.0] * 5, [3.0] * 5) == (1.0, 1.0)


def test_two_samples_say_nothing_of_noise():
    assert median_change([1.0, 2.0], [1.0, 2.0, 3.0]) is None
    assert median_ratio_change([0.0] * 5, [1.0] * 5) is None


def test_the_same_samples_give_the_same_interval():
    a, b = [1.0, 1.1, 0.9, 1.05], [1.2, 1.1, 1.3, 1.0]
    assert median_change(a, b) == median_change(a, b)
