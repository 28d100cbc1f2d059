"""A rank's part of a parameter is the one that torch would have cut."""

import pytest
import torch
from torch.distributed.fsdp._fully_shard._fsdp_common import _chunk_with_empty

from hwprof.emulate.run.stand_ins import Shards


@pytest.mark.parametrize(("rows", "count", "dim"), [(8, 4, 0), (10, 4, 0), (5, 4, 0), (3, 8, 0), (6, 4, 1), (1, 1, 0)])
def test_parts_are_those_of_torch(rows, count, dim):
    tensor = torch.arange(rows * rows).reshape(rows, rows)
    expected = _chunk_with_empty(tensor, count, dim)
    parts = Shards(tensor, count, dim)
    assert len(parts) == len(expected) == count
    for part, other in zip(parts, expected, strict=True):
        assert part.shape == other.shape
        assert torch.equal(part, other)
    assert parts[-1].shape == expected[-1].shape
