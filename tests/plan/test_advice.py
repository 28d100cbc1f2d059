"""Every layer kind under every bound gets one line, and the table's own entries are reached."""

from __future__ import annotations

import itertools
from typing import get_args

import pytest

from hwprof.plan.advice import advice_for
from hwprof.specs.run import BoundClass, LayerKind


@pytest.mark.parametrize(("kind", "bound"), list(itertools.product(get_args(LayerKind), get_args(BoundClass))))
def test_every_kind_and_bound_has_one_line(kind, bound):
    line = advice_for(kind, bound)
    assert line
    assert "\n" not in line
    assert len(line) <= 120


def test_a_kind_of_its_own_comes_before_the_bound():
    assert advice_for("norm", "memory") == "fuse: --compile or a fused norm kernel"
    assert advice_for("other", "memory") == "at the memory roof: fuse with neighbours (--compile) or store less"
