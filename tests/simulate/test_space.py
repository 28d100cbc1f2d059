"""Many layouts at once are the same as one by one."""

from __future__ import annotations

import numpy as np
import pytest

from hwprof.predict.parameters import parameters_for
from hwprof.simulate.space import Space, predict_space
from hwprof.specs.catalogue.simulator import simulator_parameters
from hwprof.specs.job.schedules import SCHEDULES
from hwprof.specs.job.settings import RECOMPUTE

GPUS = 64


def some_layouts(rng, count, experts):
    """Random layouts of 64 devices; every degree, switch, schedule and ZeRO stage comes up."""
    rows = []
    while len(rows) < count:
        tensor, context, pipeline = (int(rng.choice([1, 2, 4])) for _ in range(3))
        data = GPUS // (tensor * context * pipeline)
        schedule = int(rng.integers(len(SCHEDULES)))
        name = SCHEDULES[schedule]
        if pipeline == 1 and name not in {"gpipe", "1f1b"}:
            continue
        replicas = data * context
        expert = int(rng.choice([1, 2, 4])) if experts else 1
        rows.append(
            {
                "tensor": tensor,
                "context": context,
                "expert": expert,
                "expert_tensor": int(rng.choice([1, tensor])) if replicas % expert == 0 and experts else 1,
                "pipeline": pipeline,
                "virtual": 2 if name == "interleaved" else 1,
                "data": data,
                "micro_batch": int(rng.choice([1, 2])),
                "zero_stage": int(rng.integers(4)),
                "shard_ranks": int(rng.choice([replicas, max(replicas // 2, 1)])),
                "recompute": int(rng.integers(len(RECOMPUTE))),
                "schedule": schedule,
                "sequence_parallel": bool(rng.integers(2)),
                "overlap": bool(rng.integers(2)),
            }
        )
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


@pytest.mark.parametrize(
    ("model", "changes"),
    [
        ("llama-3.1-8b", {}),
        ("llama-3.1-8b", {"dtype": "fp8", "attention": "materialised"}),
        ("mixtral-8x7b", {}),
        ("deepseek-v3", {"dtype": "fp8"}),
    ],
)
def test_a_space_is_predicted_as_its_jobs_are_one_by_one(model, changes, placed, closed_form_s):
    base, machine, stack = placed(model, GPUS, layout={"data_parallel": GPUS}, **{"global_batch": 2048} | changes)
    space = Space(base=base, **some_layouts(np.random.default_rng(4), 40, experts=base.model.moe is not None))
    parameters, _ = parameters_for(simulator_parameters(), machine, stack)
    at_once = predict_space(space, machine, stack, parameters)
    singly = [closed_form_s(space.job(row), machine, stack) for row in range(len(space))]
    assert at_once.step_s == pytest.approx([step for step, _ in singly], rel=1e-9)
    for name, values in at_once.parts.items():
        assert values == pytest.approx([parts[name] for _, parts in singly], rel=1e-9, abs=1e-12), name
