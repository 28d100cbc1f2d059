"""Stages of a job for the engine: work is conserved, ends weigh on the ends."""

from __future__ import annotations

import pytest

from hwprof.simulate.prediction import predict_job
from hwprof.specs.catalogue.simulator import simulator_parameters


@pytest.fixture
def stages_of(placed):
    def made(layout, model="llama-3.1-8b", **changes):
        devices = 1
        for name, degree in layout.items():
            devices *= degree if name.endswith("parallel") else 1
        found = predict_job(*placed(model, devices, layout=layout, **changes), simulator_parameters())
        return found.timeline.work.stages, found

    return made


def busy_s(stage):
    return sum(chunk.forward_s + chunk.backward_s for chunk in stage.chunks)


def test_layers_are_shared_evenly_and_ends_weigh_on_the_ends(stages_of):
    stages, _ = stages_of({"pipeline_parallel": 4})
    first, second, third, last = (busy_s(stage) for stage in stages)
    assert second == pytest.approx(third, rel=1e-12)
    assert first > second
    assert last > second


@pytest.mark.parametrize(
    ("schedule", "virtual", "chunks"), [("1f1b", 1, 1), ("interleaved", 2, 2), ("zb-h1", 1, 1), ("zb-v", 1, 2)]
)
def test_work_of_a_micro_batch_is_the_same_under_every_schedule(stages_of, schedule, virtual, chunks):
    """Without the exposed part of sends, of which there are more where there are more chunks."""
    one, _ = stages_of({"pipeline_parallel": 4})
    layout = {"pipeline_parallel": 4, "schedule": schedule, "virtual_stages": virtual}
    stages, _ = stages_of(layout)
    assert {len(stage.chunks) for stage in stages} == {chunks}
    assert sum(map(busy_s, stages)) == pytest.approx(sum(map(busy_s, one)), rel=0.02)


def test_every_device_of_dualpipe_holds_two_stages(stages_of):
    one, _ = stages_of({"pipeline_parallel": 4})
    stages, _ = stages_of({"pipeline_parallel": 4, "schedule": "dualpipe"})
    assert sum(map(busy_s, stages)) == pytest.approx(2 * sum(map(busy_s, one)), rel=0.02)
    assert busy_s(stages[0]) == pytest.approx(busy_s(stages[3]))


def test_the_timeline_needs_the_memory_that_was_counted(stages_of):
    """Activations of 1F1B fall from stage to stage; the engine's peak is within 5 % of the memory model's."""
    _, found = stages_of({"pipeline_parallel": 4}, global_batch=32)
    by_engine = found.timeline.peak_bytes
    assert by_engine == pytest.approx(found.memory.stage_bytes, rel=0.05)


def test_gradients_are_reduced_and_weights_updated_once(stages_of):
    stages, _ = stages_of({"pipeline_parallel": 2, "data_parallel": 4})
    assert all(stage.reduce_s > 0 and stage.optimizer_s > 0 for stage in stages)
    alone, _ = stages_of({"pipeline_parallel": 2})
    assert all(stage.reduce_s == 0 for stage in alone)
