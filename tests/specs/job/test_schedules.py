"""Traits of schedules against the orders of work that the simulator makes of them."""

from __future__ import annotations

import numpy as np
import pytest

from hwprof.simulate.pipeline.schedules import pipeline_order, schedule_refusal
from hwprof.specs.job.schedules import SCHEDULES, TRAITS, with_trait

STAGES = 4


def order_of(schedule, micro_batches=16):
    chunks = next(
        number
        for number in (3, 2, 1)
        if not schedule_refusal(schedule, stages=STAGES, chunks=number, micro_batches=micro_batches)
    )
    return pipeline_order(schedule, stages=STAGES, chunks=chunks, micro_batches=micro_batches)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_chunks_and_ways_are_those_of_the_orders(schedule):
    order, traits = order_of(schedule), TRAITS[schedule]
    assert order.chunks == (3 if traits.virtual else 2 if traits.two_chunks else 1)
    assert {route[0][0] for route in order.routes} == ({0, STAGES - 1} if traits.two_way else {0})
    assert any(route[-1] == (0, 1) and len(route) == 2 * STAGES for route in order.routes) == traits.turns_back


@pytest.mark.parametrize(
    ("trait", "names"),
    [
        (lambda traits: traits.two_chunks, {"zb-v", "dualpipe"}),
        (lambda traits: traits.one_chunk, {"gpipe", "1f1b", "zb-h1"}),
        (lambda traits: traits.two_way, {"dualpipe"}),
        (lambda traits: traits.in_groups, {"interleaved"}),
        (lambda traits: traits.fewest == 1, {"zb-h1", "zb-v"}),
        (lambda traits: traits.fewest > 5, set()),
    ],
)
def test_codes_of_schedules_with_a_trait(trait, names):
    assert set(TRAITS) == set(SCHEDULES)
    codes = np.arange(len(SCHEDULES))
    assert {SCHEDULES[code] for code in codes[with_trait(codes, trait)]} == names
    assert [with_trait(code, trait) for code in range(len(SCHEDULES))] == [name in names for name in SCHEDULES]
