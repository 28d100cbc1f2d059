"""Parallel layouts: derived degrees by hand, contradictions refused with the actual numbers."""

from __future__ import annotations

import itertools

import pytest
from pydantic import ValidationError

from hwprof.specs.job.parallel import ParallelLayout


def test_derived_degrees_by_hand():
    layout = ParallelLayout(
        data_parallel=4, tensor_parallel=8, pipeline_parallel=2, context_parallel=2, expert_parallel=16, shard_ranks=4
    )
    assert layout.devices == 128
    assert layout.replicas == 8
    assert layout.shards == 4
    assert layout.chunks == 1


def test_zero_shards_over_all_replicas_unless_it_says_fewer():
    assert ParallelLayout(data_parallel=8, context_parallel=2).shards == 16


def test_two_chunk_schedules_hold_both_ends():
    assert ParallelLayout(pipeline_parallel=4, schedule="zb-v").chunks == 2
    assert ParallelLayout(pipeline_parallel=4, schedule="dualpipe").chunks == 2
    assert ParallelLayout(pipeline_parallel=4, schedule="interleaved", virtual_stages=3).chunks == 3


@pytest.mark.parametrize(
    ("degrees", "reason"),
    [
        ({"virtual_stages": 2, "pipeline_parallel": 2}, "virtual_stages = 2 needs the interleaved schedule"),
        ({"virtual_stages": 2, "schedule": "interleaved"}, "there is one pipeline stage"),
        ({"data_parallel": 6, "shard_ranks": 4}, "shard_ranks = 4 does not divide 6"),
        ({"expert_parallel": 3, "data_parallel": 4}, "expert_parallel = 3 does not divide 4"),
        ({"expert_parallel": 4, "expert_tensor": 2, "data_parallel": 4}, "expert_tensor = 2 x expert_parallel = 4"),
        ({"tensor_parallel": 0}, "greater than 0"),
        ({"zero_stage": 4}, "0, 1, 2 or 3"),
        ({"schedule": "2f2b"}, "gpipe"),
    ],
)
def test_a_contradiction_is_refused(degrees, reason):
    with pytest.raises(ValidationError, match=reason):
        ParallelLayout(**degrees)


def test_an_expert_is_on_as_many_devices_as_is_said():
    """Four tensor ranks share the other matrices; Megatron with ``--expert-tensor-parallel-size 1`` keeps experts."""
    shared = ParallelLayout(data_parallel=8, tensor_parallel=4, expert_parallel=8)
    assert shared.expert_tensor_parallel == 4
    whole = shared.changed(expert_tensor=1)
    assert whole.expert_tensor_parallel == 1
    assert whole.fewest_data_ranks == 2
    assert whole.changed(data_parallel=whole.fewest_data_ranks).expert_tensor_parallel == 1


def test_the_fewest_data_ranks_keep_the_matrices_of_an_expert_on_as_many_devices():
    degrees = itertools.product(range(1, 17), (1, 2, 3), (1, 2, 4), (1, 2, 4, 6, 8))
    for data, context, tensor, expert in degrees:
        if data * context * tensor % expert:
            continue
        layout = ParallelLayout(
            data_parallel=data, context_parallel=context, tensor_parallel=tensor, expert_parallel=expert
        )
        fewest = layout.changed(data_parallel=layout.fewest_data_ranks)
        assert fewest.expert_tensor_parallel == layout.expert_tensor_parallel
        assert fewest.data_parallel <= expert
