"""A launch made by hand: 8B on two nodes of 8 devices; each test changes what it is about."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hwprof.plan.settings.launch import Launch
from hwprof.specs.catalogue.lookup import load_model
from hwprof.specs.job.parallel import ParallelLayout
from hwprof.specs.job.step import TrainingJob

LaunchBuilder = Callable[..., Launch]


@pytest.fixture
def launch() -> LaunchBuilder:
    """``layout`` takes degrees; the rest goes to the job, but for what a launch itself has."""

    def build(model: str = "llama-3.1-8b", layout: dict[str, Any] | None = None, **changes: Any) -> Launch:
        own = {
            "backend": "cuda",
            "device": "h100",
            "stack": "torch",
            "nodes": 2,
            "devices_per_node": 8,
            "steps": 1000,
            "architecture": None,
        }
        own |= {name: changes.pop(name) for name in tuple(own) if name in changes}
        fields = {"seq_len": 8192, "global_batch": 64, "storage": "autocast"} | changes
        degrees = ParallelLayout(**({"data_parallel": 16, "zero_stage": 3} if layout is None else layout))
        return Launch(job=TrainingJob(model=load_model(model), layout=degrees, **fields), **own)

    return build
