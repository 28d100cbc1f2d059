"""Do several sets of tensors take turns where one would stay in the caches?"""

import pytest
import torch

from hwprof.measure.probes import rotation
from hwprof.measure.probes.rotation import rotating, sets_of

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("moved_bytes", "cache_bytes", "sets"), [(10, 25, 5), (50, 25, 1), (49, 25, 2), (1, 10**9, 16), (10, 0, 1)]
)
def test_all_sets_together_move_twice_what_the_last_cache_holds(moved_bytes, cache_bytes, sets):
    assert sets_of(moved_bytes, cache_bytes) == sets


def _numbered():
    made = []

    def make():
        number = len(made)
        made.append(number)
        return lambda: number

    return make, made


def test_each_call_takes_the_next_set(monkeypatch):
    monkeypatch.setattr(rotation, "cache_bytes", lambda: 15)
    make, made = _numbered()
    work = rotating(make, 10.0, CPU)
    assert made == [0, 1, 2]
    assert [work() for _ in range(4)] == [0, 1, 2, 0]


def test_a_gpu_has_one_set_as_its_cache_is_emptied(monkeypatch):
    monkeypatch.setattr(rotation, "cache_bytes", lambda: 10**9)
    make, made = _numbered()
    rotating(make, 10.0, torch.device("cuda", 0))
    assert made == [0]
