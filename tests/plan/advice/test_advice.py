"""Every layer kind under every bound gets one line, and the table's own entries are reached."""

from __future__ import annotations

import itertools
from typing import get_args

import pytest

from hwprof.plan.advice.operations import advice_for
from hwprof.specs.record.run import BoundClass, LayerKind


@pytest.mark.parametrize(("kind", "bound"), list(itertools.product(get_args(LayerKind), get_args(BoundClass))))
@pytest.mark.parametrize("faster", [None, "bf16"])
@pytest.mark.parametrize("compiled", [True, False])
def test_every_kind_and_bound_has_one_line(kind, bound, faster, compiled):
    line = advice_for(kind, bound, faster=faster, compiled=compiled)
    assert line
    assert "\n" not in line
    assert len(line) <= 120
    assert not (compiled and "--compile" in line)


def test_a_kind_of_its_own_comes_before_the_bound():
    assert advice_for("norm", "memory", faster="bf16", compiled=False) == "fuse: --compile or a fused norm kernel"
    assert (
        advice_for("other", "memory", faster=None, compiled=False)
        == "at the memory roof: fuse with neighbours (--compile) or store less"
    )


@pytest.mark.parametrize("kind", ["attention", "ffn", "head", "other"])
def test_lower_precision_is_advised_only_where_the_device_was_found_faster_in_it(kind):
    assert "--dtype bf16" in advice_for(kind, "compute", faster="bf16", compiled=False)
    assert "--dtype" not in advice_for(kind, "compute", faster=None, compiled=False)
