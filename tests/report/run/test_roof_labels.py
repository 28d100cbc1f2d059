"""Do the names of roofs keep clear of points and of each other?"""

from __future__ import annotations

from hwprof.report.run.roof_labels import Spaces

RANGE = (1.0, 1e4)


def level(_):
    return 100.0


def test_a_name_moves_away_from_points():
    assert Spaces(RANGE, RANGE, []).claim(1, 1e4, level, (1.0, 0.5)) == 1e4
    assert Spaces(RANGE, RANGE, [(7e3, 110.0)]).claim(1, 1e4, level, (1.0, 0.5)) == 1e2


def test_two_names_do_not_take_the_same_place():
    spaces = Spaces(RANGE, RANGE, [])
    first, second = (spaces.claim(1, 1e4, level, (1.0, 0.5)) for _ in range(2))
    assert (first, second) == (1e4, 1e2)


def test_where_every_place_is_taken_the_one_that_hides_least_is_used():
    points = [(7e3, 110.0), (8e3, 110.0), (80.0, 110.0)]
    assert Spaces(RANGE, RANGE, points).claim(1, 1e4, level, (1.0, 0.5)) == 1e2
