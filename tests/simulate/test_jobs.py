"""Numbers of a job for the step formula, by hand."""

from __future__ import annotations

import pytest

from hwprof.count.blocks.parameters import parameters
from hwprof.count.blocks.transformer import model_ops
from hwprof.count.job.device_work import NARROW, device_rows
from hwprof.count.job.rows import Part, Unit
from hwprof.predict.kernels.row_table import NO_EXPERTS, row_table
from hwprof.simulate.jobs import (
    jobs_of,
    kv_width,
    parameter_parts,
    share_of,
)
from hwprof.simulate.runners import wide_dtype
from hwprof.specs.catalogue.lookup import load_model
from hwprof.specs.job.parallel import ParallelLayout
from hwprof.specs.job.step import LoraSpec


@pytest.mark.parametrize("name", ["llama-3.1-8b", "mixtral-8x7b", "deepseek-v3", "gpt2-124m"])
def test_parts_are_all_parameters(name):
    model = load_model(name)
    assert sum(parameter_parts(model).values()) == parameters(model).total


def test_experts_of_mixtral_by_hand():
    """8 experts in 32 layers, 3 matrices of 4096 x 14336 each."""
    assert parameter_parts(load_model("mixtral-8x7b"))["expert"] == 8 * 32 * 3 * 4096 * 14336
    assert parameter_parts(load_model("llama-3.1-8b"))["expert"] == 0


def test_widths_of_formats(placed):
    def widths(**changes):
        jobs = jobs_of([placed("tiny", 1, seq_len=64, **changes)])
        return float(jobs.gradient_bytes[0]), float(jobs.weight_bytes[0]), float(jobs.element_bytes[0])

    assert widths() == (4, 2, 2)
    assert widths(storage="pure") == (2, 2, 2)
    assert widths(gradient_bytes=2) == (2, 2, 2)
    assert widths(dtype="fp32") == widths(dtype="fp32", storage="pure") == (4, 4, 4)
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


def test_what_decides_a_micro_batch_leaves_out_what_does_not(placed):
    job, _, _ = placed("llama-3.1-8b", 8, layout={"tensor_parallel": 2, "data_parallel": 4})
    more = job.model_copy(
        update={
            "global_batch": 512,
            "layout": ParallelLayout(tensor_parallel=2, data_parallel=8, pipeline_parallel=2, zero_stage=3),
        }
    )
    assert share_of(job) == share_of(more)


CHANGES = {
    "micro_batch": 2,
    "seq_len": 1024,
    "dtype": "fp32",
    "attention": "materialised",
    "fused": False,
    "recompute": "full",
    "lora": LoraSpec(rank=8),
    "expert_skew": 1.5,
}


@pytest.mark.parametrize("name", CHANGES)
def test_no_field_that_decides_the_work_is_dropped(name, placed):
    job, _, _ = placed("mixtral-8x7b", 8, layout={"data_parallel": 8})
    assert share_of(job) != share_of(job.model_copy(update={name: CHANGES[name]}))


@pytest.mark.parametrize("fused", [True, False])
def test_traffic_beside_products_is_that_of_the_op_table(fused, placed):
    """Chains of elementwise operations that are kernels of their own read and write what one kernel keeps on chip."""
    job, _, _ = placed("llama-3.1-8b", 1, layout={"zero_stage": 0}, fused=fused)
    table = row_table([device_rows(share_of(job))], [NO_EXPERTS])
    here = (table.unit == Unit.TRAFFIC) & (table.part == Part.LAYER)
    ops = model_ops(job.model, batch_size=1, seq_len=2048, precision=NARROW, attention="causal", fused=fused)
    costs = [cost for op in ops if op.in_layer for cost in (op.forward * op.repeats, op.backward * op.repeats)]
    by_table = sum(cost.moved_bytes for cost in costs if not cost.matmul_flop)
    assert 32 * (table.moved_bytes * table.times)[here].sum() == pytest.approx(by_table, rel=1e-12)


def test_adapters_are_the_share_that_has_gradients(placed):
    """Rank 16 beside matrices of 4096 and 14336 on a side: 2 x 16 / 9216 of what they have."""
    job, machine, stack = placed("llama-3.1-8b", 8, layout={"data_parallel": 8}, lora=LoraSpec(rank=16))
    assert float(jobs_of([(job, machine, stack)]).trained[0]) == 2 * 16 / 9216


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"storage": "mixed"}, 4 + 2 * (4 + 8) + 2),
        ({"storage": "mixed", "gradient_bytes": 2}, 2 + 2 * 4 + 2 * (4 + 8) + 2),
        ({"storage": "narrowed"}, 4 + 2 * (4 + 8)),
        ({"storage": "pure"}, 2 + 2 * (2 + 4)),
        ({"storage": "pure", "optimizer": "adamw-8bit"}, 2 + 2 * (2 + 2)),
        ({"storage": "mixed", "optimizer": "lion"}, 4 + 2 * (4 + 4) + 2),
    ],
)
def test_an_update_moves_what_is_stored(placed, changes, expected):
    """Gradient read, weight and moments read and written, a 16-bit copy where the optimizer has weights of its own."""
    assert float(jobs_of([placed("llama-3.1-8b", 1, **changes)]).update_bytes[0]) == expected


def test_weights_that_live_on_the_host_travel_layer_by_layer(placed):
    """A layer of an 8B model has 218 112 000 numbers of 2 bytes, its two norms included; a tensor rank has half."""
    placed_job = placed("llama-3.1-8b", 2, layout={"tensor_parallel": 2}, offload="weights")
    assert float(jobs_of([placed_job]).offloaded_bytes[0]) == 218_112_000 * 2 / 2
