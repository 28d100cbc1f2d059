"""A changed record is a checked record."""

import ast
from pathlib import Path

import pytest
from pydantic import ValidationError

import hwprof
from hwprof.specs.catalogue.lookup import list_clusters, list_devices, list_links, list_models
from hwprof.specs.frozen import Record
from hwprof.specs.job.parallel import ParallelLayout


def test_a_changed_record_has_the_new_values_and_the_others_as_they_were():
    layout = ParallelLayout(data_parallel=4, tensor_parallel=2).changed(data_parallel=8)
    assert (layout.data_parallel, layout.tensor_parallel) == (8, 2)
    assert layout.model_fields_set == {"data_parallel", "tensor_parallel"}


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"data_paralel": 8}, "Extra inputs are not permitted"),
        ({"data_parallel": "eight"}, "valid integer"),
        ({"shard_ranks": 3}, "shard_ranks = 3 does not divide 4"),
    ],
)
def test_a_change_is_checked_as_a_new_record_is(fields, reason):
    with pytest.raises(ValidationError, match=reason):
        ParallelLayout(data_parallel=4).changed(**fields)


def test_every_record_of_the_catalogue_can_be_changed_at_any_depth():
    """What files write as text with units, under shorter names, is taken again as the number that it became."""
    records = [*list_models(), *list_devices(), *list_links(), *list_clusters()]
    assert len(records) > 250
    for record in records:
        assert record.changed() == record
        for inner in (value for _, value in record if isinstance(value, Record)):
            assert inner.changed() == inner


def test_no_record_is_copied_without_a_check():
    unchecked = [
        f"{path.name}:{call.lineno}"
        for path in Path(hwprof.__file__).parent.rglob("*.py")
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "model_copy"
    ]
    assert unchecked == []
