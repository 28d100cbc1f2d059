"""Numbers of a job for the step formula, by hand."""

from __future__ import annotations

import pytest

from hwprof.count.blocks.parameters import parameters
from hwprof.simulate.jobs import (
    gradient_bytes,
    jobs_of,
    kv_width,
    parameter_parts,
    rates_of,
    share_of,
    weight_bytes,
    wide_dtype,
)
from hwprof.specs.catalogue.lookup import load_model
from hwprof.specs.job.parallel import ParallelLayout


@pytest.mark.parametrize("name", ["llama-3.1-8b", "mixtral-8x7b", "deepseek-v3", "gpt2-124m"])
def test_parts_are_all_parameters(name):
    model = load_model(name)
    assert sum(parameter_parts(model).values()) == parameters(model).total


def test_experts_of_mixtral_by_hand():
    """8 experts in 32 layers, 3 matrices of 4096 x 14336 each."""
    assert parameter_parts(load_model("mixtral-8x7b"))["expert"] == 8 * 32 * 3 * 4096 * 14336
    assert parameter_parts(load_model("llama-3.1-8b"))["expert"] == 0


def test_widths_of_formats(placed):
    mixed, _, _ = placed("tiny", 1, seq_len=64)
    assert (gradient_bytes(mixed), weight_bytes(mixed)) == (4, 2)
    assert gradient_bytes(mixed.model_copy(update={"storage": "pure"})) == 2
    assert gradient_bytes(mixed.model_copy(update={"gradient_bytes": 2})) == 2
    assert weight_bytes(mixed.model_copy(update={"dtype": "fp32"})) == 4
    assert [wide_dtype(each) for each in ("fp8", "fp4", "fp16", "tf32")] == ["bf16", "bf16", "fp16", "tf32"]


def test_key_value_width():
    assert kv_width(load_model("llama-3.1-8b")) == 8 * 128
    latent = load_model("deepseek-v3")
    assert kv_width(latent) == 128 * (192 + 128) / 2


def test_tokens_are_shared_by_context_ranks_and_batches_counted(placed):
    layout = {"context_parallel": 2, "data_parallel": 2, "pipeline_parallel": 2}
    jobs = jobs_of([placed("llama-3.1-8b", 8, layout=layout, global_batch=32, micro_batch=2)])
    assert float(jobs.tokens[0]) == 2 * 2048 / 2
    assert float(jobs.micro_batches[0]) == 8
    assert float(jobs.replicas[0]) == 4


def test_a_narrow_job_has_two_peaks(placed):
    rates = rates_of([placed("llama-3.1-8b", 8, layout={"data_parallel": 8}, dtype="fp8")])
    assert float(rates.narrow_flop_per_s[0]) == pytest.approx(2 * float(rates.peak_flop_per_s[0]), rel=0.01)


def test_what_decides_a_micro_batch_leaves_out_what_does_not(placed):
    job, _, _ = placed("llama-3.1-8b", 8, layout={"tensor_parallel": 2, "data_parallel": 4})
    more = job.model_copy(
        update={
            "global_batch": 512,
            "layout": ParallelLayout(tensor_parallel=2, data_parallel=8, pipeline_parallel=2, zero_stage=3),
        }
    )
    assert share_of(job) == share_of(more)
