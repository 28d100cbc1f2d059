"""How many steps does a measurement take?"""

import pytest

from hwprof.errors import InputError
from hwprof.loop.schedule import Schedule


def test_steps_of_the_default_are_those_of_its_documentation():
    assert Schedule().steps == 5 + 20 + 1 + 3 + 1
    assert Schedule().most_steps == Schedule().steps + 2 * 4


def test_without_a_window_there_is_no_memory_step_either():
    assert Schedule(warmup=2, timed=7, profiled=0).steps == 2 + 8
    assert Schedule(profiled=0).most_steps == Schedule(profiled=0).steps


@pytest.mark.parametrize("wrong", [{"warmup": 1}, {"timed": 0}, {"profiled": -1}, {"every": 0}])
def test_too_few_steps_are_refused(wrong):
    with pytest.raises(InputError, match="expected"):
        Schedule(**wrong)
