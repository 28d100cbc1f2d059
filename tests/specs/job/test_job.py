"""A training job: batches by hand, and batches that do not divide."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from hwprof.specs.catalogue.lookup import load_model
from hwprof.specs.job.parallel import ParallelLayout
from hwprof.specs.job.step import LoraSpec, TrainingJob


def test_micro_batches_and_tokens_by_hand():
    layout = ParallelLayout(data_parallel=4, pipeline_parallel=2)
    job = TrainingJob(model=load_model("tiny"), seq_len=128, global_batch=64, micro_batch=2, layout=layout)
    assert job.micro_batches == 8
    assert job.tokens == 8192


def test_a_batch_that_does_not_divide_is_refused_with_the_product():
    said = "global_batch = 6 does not divide by micro_batch x data_parallel = 4; the nearest that do: 4 and 8"
    with pytest.raises(ValidationError, match=said):
        TrainingJob(
            model=load_model("tiny"),
            seq_len=8,
            global_batch=6,
            micro_batch=2,
            layout=ParallelLayout(data_parallel=2),
        )
    with pytest.raises(ValidationError, match="the least that does: 40"):
        TrainingJob(
            model=load_model("tiny"),
            seq_len=8,
            global_batch=12,
            micro_batch=5,
            layout=ParallelLayout(data_parallel=8),
        )


def test_jobs_are_values():
    def make():
        return TrainingJob(model=load_model("tiny"), seq_len=8, global_batch=2, lora=LoraSpec(rank=4))

    assert make() == make()
    assert hash(make()) == hash(make())
    with pytest.raises(ValidationError, match="frozen"):
        make().seq_len = 9
