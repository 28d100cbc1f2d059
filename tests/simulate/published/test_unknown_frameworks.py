"""A framework that no rule names is not taken for PyTorch in silence."""

from __future__ import annotations

import pytest

from hwprof.predict.stacks import framework_known, stack_named
from hwprof.simulate.published.case import case_of
from hwprof.specs.catalogue.published import PublishedRun, read_published


def test_every_framework_of_the_shipped_table_but_none_is_known():
    frameworks = {run.framework for run in read_published() if isinstance(run, PublishedRun)}
    assert {name for name in frameworks if not framework_known(name)} == set()


@pytest.mark.parametrize("name", ["", "FlexTrain 3"])
def test_an_unknown_framework_is_stated_as_an_assumption(name):
    assert not framework_known(name)
    assert stack_named(name).name == "torch"
    run = next(run for run in read_published() if isinstance(run, PublishedRun))
    found = case_of(run.model_copy(update={"framework": name}))
    assert any(line.startswith("framework ") and line.endswith("overheads of torch") for line in found.assumptions)
