"""Rows of the op table against small cases worked out by hand, and laws that hold for every op."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwprof.count.blocks.transformer import Precision, model_ops, training_step_ops
from hwprof.count.ops.cost import Cost
from hwprof.count.ops.table import OPS, Device, Execution, OpCost, register
from hwprof.specs.model.spec import ModelSpec
from hwprof.specs.record.run import Dtype, OptimizerImplementation, OptimizerName, RunSettings


def how(dtype: Dtype = "fp32", *, device: Device = "cuda", fused: bool = False) -> Execution:
    return Execution(precision=Precision.of(dtype), device=device, fused=fused)


def test_a_kind_can_be_registered_only_once() -> None:
    with pytest.raises(ValueError, match=r"'linear' is registered already, by hwprof\.count\.ops\.matmul"):
        register("linear")(OpCost)
    assert OPS["linear"].__name__ == "linear"


def test_an_fp32_linear_by_hand() -> None:
    cost = OPS["linear"](how(), tokens=4, in_features=8, out_features=16)
    assert cost.forward == Cost(matmul_flop=2 * 4 * 8 * 16, read_bytes=(4 * 8 + 8 * 16) * 4, write_bytes=4 * 16 * 4)
    assert cost.backward == Cost(
        matmul_flop=2 * 2 * 4 * 8 * 16,
        read_bytes=(4 * 16 + 8 * 16) * 4 + (4 * 16 + 4 * 8) * 4,  # dX reads dY and W; dW reads dY and X
        write_bytes=(4 * 8 + 8 * 16) * 4,
    )
    assert (cost.saved_bytes, cost.output_bytes, cost.weight_copy_bytes) == (128, 256, 0)


def test_autocast_adds_copies_of_input_and_weight_to_a_linear() -> None:
    cost = OPS["linear"](how("bf16"), tokens=4, in_features=8, out_features=16)
    assert cost.forward.read_bytes == (32 + 128) * 4 + (32 + 128) * 2  # copies read fp32, the product reads bf16
    assert cost.forward.write_bytes == (32 + 128) * 2 + 64 * 2
    assert (cost.saved_bytes, cost.weight_copy_bytes) == (32 * 2, 128 * 2)


def test_compiled_an_input_arrives_narrow_and_only_the_weight_is_copied() -> None:
    cost = OPS["linear"](how("bf16", fused=True), tokens=4, in_features=8, out_features=16)
    assert cost.forward.read_bytes == 128 * 4 + (32 + 128) * 2


def test_linears_that_share_an_input_keep_it_once_unless_each_copies_it() -> None:
    shapes = {"tokens": 4, "in_features": 8, "out_features": 16, "input_shared": True}
    assert OPS["linear"](how("fp32"), **shapes).saved_bytes == 0
    assert OPS["linear"](how("bf16"), **shapes).saved_bytes == 64
    assert OPS["linear"](how("bf16", fused=True), **shapes).saved_bytes == 0


def test_a_bias_adds_one_flop_a_result_and_no_product() -> None:
    with_bias, without = (
        OPS["linear"](how(), tokens=4, in_features=8, out_features=16, bias=bias) for bias in (True, False)
    )
    assert with_bias.forward.matmul_flop == without.forward.matmul_flop == 1024
    assert with_bias.forward.vector_flop == 64
    assert with_bias.backward.vector_flop == 64


def test_a_fused_attention_core_by_hand() -> None:
    shapes = {"batch": 1, "seq_len": 4, "heads": 2, "kv_heads": 1, "head_dim": 8}
    full, half = (OPS["attention_core"](how("bf16"), **shapes, causal=causal) for causal in (False, True))
    q_bytes, kv_bytes, lse_bytes = 2 * 4 * 8 * 2, 2 * 4 * 8 * 2, 2 * 4 * 4
    assert full.forward.matmul_flop == 2 * (2 * (2 * 4 * 4 * 8))
    assert half.forward.matmul_flop == 2 * (2 * 4 * 4 * 8)
    assert full.backward.matmul_flop == 2 * full.forward.matmul_flop
    assert full.forward.read_bytes == q_bytes + kv_bytes
    assert full.forward.write_bytes == q_bytes + lse_bytes
    assert full.saved_bytes == 2 * q_bytes + kv_bytes + lse_bytes


def test_cuda_repeats_grouped_keys_and_values_in_fp32_alone() -> None:
    shapes = {"batch": 1, "seq_len": 4, "heads": 2, "kv_heads": 1, "head_dim": 8}
    q_bytes, lse_bytes = 2 * 4 * 8 * 4, 2 * 4 * 4
    assert OPS["attention_core"](how("fp32"), **shapes).saved_bytes == 4 * q_bytes + lse_bytes
    assert OPS["attention_core"](how("fp32", device="cpu"), **shapes).saved_bytes == 3 * q_bytes + lse_bytes


def test_materialised_scores_cost_bytes_that_grow_with_the_square_of_the_sequence() -> None:
    shapes = {"batch": 1, "heads": 1, "head_dim": 8, "dropout": True}
    kept = [OPS["attention_core_materialised"](how(), seq_len=t, **shapes).saved_bytes for t in (64, 128)]
    assert kept == [3 * 64 * 8 * 4 + 3 * 64 * 64 * 4, 3 * 128 * 8 * 4 + 3 * 128 * 128 * 4]


def test_the_loss_by_hand() -> None:
    cost = OPS["cross_entropy"](how("bf16"), tokens=10, vocabulary=100)
    # copy (read 2, write 4), log-softmax (read 4, write 4), one gathered number and one id a token
    assert cost.forward.read_bytes == 1000 * (2 + 4) + 10 * (8 + 4)
    assert cost.forward.write_bytes == 1000 * (4 + 4)
    # zeros (write 4), log-softmax backward (read 4 + 4, write 4), copy (read 4, write 2)
    assert cost.backward.read_bytes == 1000 * (4 + 4 + 4) + 10 * 8
    assert cost.backward.write_bytes == 1000 * (4 + 4 + 2)
    assert cost.saved_bytes == 1000 * 4 + 10 * 8 + 4


@pytest.mark.parametrize(
    ("name", "implementation", "bytes_per_parameter"),
    [
        ("adamw", "fused", 28),
        ("adamw", "for-loop", 80),
        ("adamw", "foreach", 80),
        ("adam", "for-loop", 72),
        ("sgd", "fused", 20),
        ("sgd", "for-loop", 44),
        ("adafactor", "for-loop", 68),
    ],
)
def test_passes_of_an_optimizer_over_memory(
    name: OptimizerName, implementation: OptimizerImplementation, bytes_per_parameter: int
) -> None:
    cost = OPS["optimizer"](how("bf16"), parameters=1000, name=name, implementation=implementation)
    assert cost.update.moved_bytes == 1000 * bytes_per_parameter
    assert cost.forward == cost.backward == Cost.ZERO


def test_clipping_reads_gradients_twice_and_writes_them_once() -> None:
    assert OPS["clip"](how(), parameters=1000).update.moved_bytes == 12_000


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("dtype", ["fp32", "tf32", "bf16", "fp16"])
def test_compiled_never_moves_or_keeps_more_than_eager(spec: ModelSpec, dtype: Dtype, device: Device) -> None:
    eager, fused = (
        model_ops(spec, batch_size=2, seq_len=16, precision=Precision.of(dtype), device=device, fused=fused)
        for fused in (False, True)
    )
    for one, other in zip(eager, fused, strict=True):
        assert one.label == other.label
        assert other.forward.moved_bytes <= one.forward.moved_bytes, one.label
        assert other.backward.moved_bytes <= one.backward.moved_bytes, one.label
        assert other.forward.matmul_flop == one.forward.matmul_flop
        assert other.saved_bytes <= one.saved_bytes, one.label


def test_labels_are_unique_and_every_one_has_a_layer_kind(spec: ModelSpec) -> None:
    ops = training_step_ops(spec, RunSettings(model="m", device="cuda", micro_batch=2, seq_len=8))
    labels = [op.label for op in ops]
    assert len(set(labels)) == len(labels)
    assert "other" not in {op.layer_kind for op in ops}
    assert labels[-3:] == ["loss", "clip", "optimizer"]


@settings(max_examples=30, deadline=None)
@given(batch=st.integers(1, 8), times=st.integers(1, 8), seq_len=st.integers(1, 64))
def test_work_and_kept_bytes_are_linear_in_the_batch(
    make_spec: Callable[..., ModelSpec], batch: int, times: int, seq_len: int
) -> None:
    spec, precision = make_spec("llama"), Precision.of("fp32")
    small = model_ops(spec, batch_size=batch, seq_len=seq_len, precision=precision)
    large = model_ops(spec, batch_size=batch * times, seq_len=seq_len, precision=precision)
    for one, other in zip(small, large, strict=True):
        assert other.forward.flop == one.forward.flop * times
        assert other.saved_bytes == one.saved_bytes * times
        assert other.output_bytes == one.output_bytes * times


def test_accumulation_runs_the_model_more_often_and_the_optimizer_once(make_spec: Callable[..., ModelSpec]) -> None:
    settings_of_four = RunSettings(model="m", device="cuda", micro_batch=2, seq_len=8, gradient_accumulation=4)
    ops = {op.label: op for op in training_step_ops(make_spec(), settings_of_four)}
    assert (ops["head"].micro_batches, ops["loss"].micro_batches, ops["optimizer"].micro_batches) == (4, 4, 1)
    assert ops["layers.*.ffn.up"].cost("forward").matmul_flop == 2 * 4 * (2 * 16 * 32 * 80)
    once = {
        op.label: op
        for op in training_step_ops(make_spec(), settings_of_four.model_copy(update={"gradient_accumulation": 1}))
    }
    added = 4 * ops["head"].backward.moved_bytes - 4 * once["head"].backward.moved_bytes
    assert added == 3 * 12 * 61 * 32  # three times: read two gradients, write one


def test_fp16_unscales_gradients_in_the_phase_that_first_needs_them(make_spec: Callable[..., ModelSpec]) -> None:
    base = RunSettings(model="m", device="cuda", dtype="fp16", micro_batch=2, seq_len=8)
    clipped = training_step_ops(make_spec(), base)
    unclipped = training_step_ops(make_spec(), base.model_copy(update={"clip_norm": None}))
    assert [op.label for op in clipped if op.kind == "unscale"] == ["clip"]
    assert [op.label for op in unclipped if op.kind == "unscale"] == ["optimizer"]
    assert "clip" not in {op.label for op in unclipped}
