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


@pytest.mark.parametrize(("swept_bytes", "sets"), [(25.0, 3), (100.0, 10), (101.0, 16), (1e9, 16)])
def test_what_a_cache_holds_of_a_whole_step_is_found_there_again(monkeypatch, swept_bytes, sets):
    """As many sets as the step touches, if the cache holds these; else more than it holds."""
    monkeypatch.setattr(rotation, "cache_bytes", lambda: 100)
    make, made = _numbered()
    rotating(make, 10.0, CPU, swept_bytes=swept_bytes)
    assert len(made) == sets


def test_a_gpu_has_one_set_as_its_cache_is_emptied(monkeypatch):
    monkeypatch.setattr(rotation, "cache_bytes", lambda: 10**9)
    make, made = _numbered()
    rotating(make, 10.0, torch.device("cuda", 0))
    assert made == [0]
