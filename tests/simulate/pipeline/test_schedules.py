"""Orders of work: complete, without deadlock, and those of the papers and of torch.distributed.pipelining."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from hwprof.errors import InputError, UnknownNameError
from hwprof.simulate.pipeline.dependencies import dependency_graph
from hwprof.simulate.pipeline.engine import simulate_pipeline
from hwprof.simulate.pipeline.schedules import group_sizes, pipeline_order, schedule_refusal

LETTERS = {"forward": "F", "backward": "B", "backward_input": "I", "backward_weight": "W"}


def written(items):
    """Items of one stage as text: kind, chunk, micro-batch."""
    return " ".join("+".join(f"{LETTERS[one.kind]}{one.chunk}.{one.micro_batch}" for one in item) for item in items)


def test_every_pass_runs_once_and_backward_after_forward(sizes):
    order = pipeline_order(**sizes)
    for stage, items in enumerate(order.items):
        passes = [one for item in items for one in item]
        for route in order.routes:
            chunks = [chunk for place, chunk in route if place == stage]
            share = range(sizes["micro_batches"])
            if sizes["schedule"] == "dualpipe":
                half = sizes["micro_batches"] // 2
                share = range(half) if chunks == [0] else range(half, 2 * half)
            for chunk in chunks:
                for k in share:
                    kinds = [one.kind for one in passes if (one.chunk, one.micro_batch) == (chunk, k)]
                    assert kinds in (["forward", "backward"], ["forward", "backward_input", "backward_weight"])


@pytest.mark.parametrize("stages", [2, 3, 4, 5, 8])
@pytest.mark.parametrize("chunks", [2, 3, 5])
def test_interleaved_never_gets_stuck(stages, chunks):
    for micro_batches in range(1, 3 * stages + 2):
        graph = dependency_graph("interleaved", stages=stages, chunks=chunks, micro_batches=micro_batches)
        assert len(graph.passes) == 2 * stages * chunks * micro_batches


@pytest.mark.parametrize("schedule", ["gpipe", "1f1b", "zb-h1", "zb-v"])
def test_any_number_of_micro_batches_runs(schedule):
    chunks = 2 if schedule == "zb-v" else 1
    for stages in range(1, 8):
        for micro_batches in range(1, 2 * stages + 3):
            graph = dependency_graph(schedule, stages=stages, chunks=chunks, micro_batches=micro_batches)
            kinds = 3 if schedule.startswith("zb") else 2
            assert len(graph.passes) == kinds * stages * chunks * micro_batches


def test_dualpipe_runs_from_two_micro_batches_a_stage_on():
    for stages in range(2, 13, 2):
        for micro_batches in range(2 * stages, 2 * stages + 9, 2):
            graph = dependency_graph("dualpipe", stages=stages, chunks=2, micro_batches=micro_batches)
            forward = [one for item in graph.passes for one in item if one.kind == "forward"]
            assert len(forward) == stages * micro_batches


def torch_order(class_name, *, stages, chunks, micro_batches, stage):
    """What torch runs on one rank, without the idle slots of its table: (kind, model chunk from 0, micro-batch)."""
    schedules = pytest.importorskip("torch.distributed.pipelining.schedules")
    rounds = max(1, micro_batches // stages)
    me = SimpleNamespace(
        pp_group_size=stages,
        _num_stages=stages * chunks,
        num_stages=stages * chunks,
        n_local_stages=chunks,
        _n_microbatches=micro_batches,
        number_of_rounds=rounds,
        microbatches_per_round=micro_batches // rounds,
        rank=stage,
    )
    actions = getattr(schedules, class_name)._calculate_single_rank_operations(me, stage)
    letter = {"FORWARD": "F", "FULL_BACKWARD": "B", "BACKWARD_INPUT": "I", "BACKWARD_WEIGHT": "W"}
    return [
        (letter[action.computation_type.name], action.stage_index, action.microbatch_index)
        for action in actions
        if action is not None and action.computation_type.name in letter
    ]


@pytest.mark.parametrize(
    ("schedule", "class_name", "stages", "chunks", "micro_batches"),
    [
        ("interleaved", "ScheduleInterleaved1F1B", 4, 2, 8),
        ("interleaved", "ScheduleInterleaved1F1B", 4, 3, 12),
        ("interleaved", "ScheduleInterleaved1F1B", 8, 4, 8),
        ("interleaved", "ScheduleInterleaved1F1B", 4, 2, 10),
        ("zb-v", "ScheduleZBVZeroBubble", 4, 2, 12),
        ("zb-v", "ScheduleZBVZeroBubble", 4, 2, 5),
        ("zb-v", "ScheduleZBVZeroBubble", 3, 2, 5),
    ],
)
def test_order_is_that_of_torch(schedule, class_name, stages, chunks, micro_batches):
    order = pipeline_order(schedule, stages=stages, chunks=chunks, micro_batches=micro_batches)
    depth = {place: number for number, place in enumerate(order.routes[0])}
    for stage in range(stages):
        ours = [
            (LETTERS[one.kind], depth[stage, one.chunk], one.micro_batch) for item in order.items[stage] for one in item
        ]
        theirs = torch_order(class_name, stages=stages, chunks=chunks, micro_batches=micro_batches, stage=stage)
        assert theirs == ours


def test_1f1b_by_hand():
    """Narayanan et al. 2021, figure 4: warm-up, one forward and one backward in turn, cool-down."""
    order = pipeline_order("1f1b", stages=3, chunks=1, micro_batches=4)
    assert written(order.items[0]) == "F0.0 F0.1 F0.2 B0.0 F0.3 B0.1 B0.2 B0.3"
    assert written(order.items[1]) == "F0.0 F0.1 B0.0 F0.2 B0.1 F0.3 B0.2 B0.3"
    assert written(order.items[2]) == "F0.0 B0.0 F0.1 B0.1 F0.2 B0.2 F0.3 B0.3"


def test_zb_h1_puts_weight_gradients_off_by_the_stage():
    """Qi et al. 2023, figure 3: the first stage follows 1F1B, the last keeps as many micro-batches as the first."""
    order = pipeline_order("zb-h1", stages=3, chunks=1, micro_batches=4)
    assert written(order.items[0]) == "F0.0 F0.1 F0.2 I0.0 W0.0 F0.3 I0.1 W0.1 I0.2 W0.2 I0.3 W0.3"
    assert written(order.items[2]) == "F0.0 I0.0 F0.1 I0.1 F0.2 I0.2 W0.0 F0.3 I0.3 W0.1 W0.2 W0.3"


def test_dualpipe_overlaps_the_two_directions():
    """The published schedule for the first of 4 stages: steps 1 to 8 with half_rank 0, 8 micro-batches."""
    order = pipeline_order("dualpipe", stages=4, chunks=2, micro_batches=8)
    assert written(order.items[0]) == (
        "F0.0 F0.1 F0.2 F1.4 I1.4 W1.4 F1.5 F0.3+B1.5 F1.6+B0.0 B1.6 F1.7+B0.1 B1.7 I0.2 W0.2 I0.3 W0.3"
    )


@pytest.mark.parametrize(
    ("stages", "micro_batches", "expected"),
    [(4, 8, [4, 4]), (4, 10, [5, 5]), (4, 11, [6, 5]), (4, 3, [3]), (8, 20, [10, 10]), (4, 4, [4])],
)
def test_groups_hold_at_least_as_many_micro_batches_as_stages(stages, micro_batches, expected):
    assert expected == group_sizes(stages=stages, micro_batches=micro_batches)


@pytest.mark.parametrize(
    ("schedule", "stages", "chunks", "micro_batches", "reason"),
    [
        ("1f1b", 4, 2, 8, "1f1b puts 1 chunk on each stage, not 2"),
        ("zb-v", 4, 1, 8, "zb-v puts 2 chunks on each stage, not 1"),
        ("interleaved", 1, 2, 8, "interleaved needs at least 2 stages"),
        ("dualpipe", 3, 2, 8, "dualpipe needs an even number of stages, not 3"),
        ("dualpipe", 4, 2, 9, "dualpipe needs an even number of micro-batches from 8 on, not 9"),
        ("dualpipe", 4, 2, 6, "dualpipe needs an even number of micro-batches from 8 on, not 6"),
        ("1f1b", 4, 1, 0, "4 stages, 1 chunks and 0 micro-batches must be positive"),
    ],
)
def test_what_a_schedule_cannot_do_is_refused_with_a_reason(schedule, stages, chunks, micro_batches, reason):
    assert reason == schedule_refusal(schedule, stages=stages, chunks=chunks, micro_batches=micro_batches)
    with pytest.raises(InputError, match=reason):
        pipeline_order(schedule, stages=stages, chunks=chunks, micro_batches=micro_batches)


def test_unknown_schedule_names_near_ones():
    with pytest.raises(UnknownNameError, match="did you mean zb-h1"):
        pipeline_order("zb-h2", stages=4, chunks=1, micro_batches=8)


def test_orders_are_made_once(uniform):
    work = uniform("1f1b", stages=4, micro_batches=8)
    assert simulate_pipeline(work).graph is simulate_pipeline(work).graph
