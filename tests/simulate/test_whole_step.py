"""The step in closed form against the event engine, on jobs drawn at random under every schedule."""

from __future__ import annotations

import random

import numpy as np
import pytest

from hwprof.count.job.pipeline_stages import device_chunks, layers_held
from hwprof.simulate.jobs import jobs_of
from hwprof.simulate.pipeline.schedules import schedule_refusal
from hwprof.simulate.prediction import predict_job
from hwprof.simulate.whole_step import held_layers
from hwprof.specs.catalogue.simulator import simulator_parameters
from hwprof.specs.job.schedules import SCHEDULES

MODELS = {"llama-3.1-405b": 126, "llama-3.1-70b": 80, "gpt3-175b": 96, "bloom-176b": 70, "mixtral-8x7b": 32}


def drawn(seed, schedule, count, *, even):
    """Layouts whose chunks are equal but for shorter ends (``even``), or others."""
    rng = random.Random(seed)
    while count:
        stages, virtual = rng.choice([2, 4, 8, 16]), rng.choice([2, 3, 4]) if schedule == "interleaved" else 1
        name, share = rng.choice(list(MODELS)), rng.choice([1, 2, 3, 4, 8])
        cut = device_chunks(schedule, stages=stages, virtual_stages=virtual)
        chunks = {"zb-v": 2, "dualpipe": 2}.get(schedule, virtual)
        if MODELS[name] < cut or (MODELS[name] % cut in {0, cut - 2}) != even:
            continue
        if schedule_refusal(schedule, stages=stages, chunks=chunks, micro_batches=share * stages):
            continue
        count -= 1
        layout = {
            "pipeline_parallel": stages,
            "virtual_stages": virtual,
            "schedule": schedule,
            "tensor_parallel": rng.choice([1, 4, 8]),
            "data_parallel": rng.choice([1, 2]),
        }
        changes = {"global_batch": share * stages * layout["data_parallel"], "recompute": rng.choice(["none", "full"])}
        yield name, layout, changes


@pytest.fixture(scope="module")
def off(placed, closed_form_s):
    def error(name, layout, changes):
        devices = layout["pipeline_parallel"] * layout["tensor_parallel"] * layout["data_parallel"]
        job = placed(name, devices, layout=layout, **changes)
        step_s, parts = closed_form_s(*job)
        assert sum(parts.values()) == pytest.approx(step_s, rel=1e-9)
        assert min(parts.values()) >= -1e-9 * step_s
        return abs(step_s / predict_job(*job, simulator_parameters()).step_s - 1)

    return error


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_closed_form_agrees_with_the_engine_to_one_percent(schedule, off):
    """Where chunks are equal, or the two ends shorter, as Megatron-LM and the planner cut a model."""
    assert max(off(*each) for each in drawn(1, schedule, 15, even=True)) < 0.01


@pytest.mark.parametrize("schedule", sorted({*SCHEDULES} - {"interleaved", "zb-v"}))
def test_closed_form_agrees_to_five_percent_where_some_stages_hold_a_layer_more(schedule, off):
    assert max(off(*each) for each in drawn(2, schedule, 10, even=False)) < 0.05


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_layers_lie_where_memory_counts_them(schedule, placed):
    """The fullest device, and what the ends hold less, against the layers of every device."""
    for name, layout, changes in drawn(3, schedule, 8, even=True):
        layout |= {"tensor_parallel": 1, "data_parallel": 1}
        stages, virtual = layout["pipeline_parallel"], layout["virtual_stages"]
        job = placed(name, stages, layout=layout, **changes | {"global_batch": 2 * stages})
        found = held_layers(jobs_of([job]))
        _, held = layers_held(
            schedule, np.arange(stages), stages=stages, virtual_stages=virtual, layers=MODELS[name], leading=0
        )
        copies = 2 if schedule == "dualpipe" else 1
        assert found.most[0] * copies == max(held)
        ends = {"zb-v": held[0] - max(held), "dualpipe": held[0] - max(held)}
        assert found.first[0] + found.last[0] == ends.get(schedule, held[0] + held[-1] - 2 * max(held))
