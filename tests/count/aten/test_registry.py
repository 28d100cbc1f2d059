"""Costs of single operator calls against numbers worked out by hand, and laws of the registry."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwprof.count.aten import captured
from hwprof.count.aten.registry import (
    ATEN,
    FLOP_PER_ELEMENT,
    MOVES,
    aten_cost,
    plain_name,
    register,
    traffic,
    unpriced,
)
from hwprof.count.ops.cost import Cost
from hwprof.specs.record.captured import AtenCall, Capture, Kept, ParameterUse, Place, PlacedCall, TensorView, Value

_WIDTHS = {"float32": 4, "bfloat16": 2, "int64": 8, "bool": 1}


def tensor(*shape: int, dtype: str = "float32", storage: int = -1, elements: int | None = None) -> TensorView:
    """A tensor in memory of its own, unless a storage is given."""
    count = 1
    for size in shape:
        count *= size
    number = next(_STORAGES) if storage < 0 else storage
    return TensorView(shape, dtype, _WIDTHS[dtype], count if elements is None else elements, number)


_STORAGES = iter(range(1_000_000))


def call(name: str, *results: TensorView, written: tuple[str, ...] = (), **arguments: Value) -> AtenCall:
    return AtenCall(name=f"aten::{name}", arguments=arguments, results=results, written=written)


def test_an_operator_can_be_registered_only_once() -> None:
    with pytest.raises(ValueError, match=r"'aten::mm' is registered already, by hwprof\.count\.aten\.matmul"):
        register("mylib::one", "aten::mm")(lambda _: Cost.ZERO)
    del ATEN["mylib::one"]


def test_an_operator_of_a_user_is_unpriced_until_it_is_registered() -> None:
    custom = AtenCall("mylib::fused", {"x": tensor(10)}, (tensor(5),))
    assert unpriced(["mylib::fused", "aten::add"]) == ("mylib::fused",)
    assert aten_cost(custom) == Cost(read_bytes=40, write_bytes=20)
    register("mylib::fused")(lambda each: traffic(each) + Cost(matmul_flop=7))
    try:
        assert aten_cost(custom) == Cost(matmul_flop=7, read_bytes=40, write_bytes=20)
        assert unpriced(["mylib::fused"]) == ()
    finally:
        del ATEN["mylib::fused"]


def test_decompositions_and_transforms_of_aten_are_unpriced_too() -> None:
    assert unpriced(["aten::_linalg_svd", "aten::_fft_r2c", "aten::mul_", "aten::mm"]) == (
        "aten::_fft_r2c",
        "aten::_linalg_svd",
    )


@pytest.mark.parametrize(
    ("seen", "flop"),
    [
        (call("mm", tensor(4, 16), self=tensor(4, 8), mat2=tensor(8, 16)), 2 * 4 * 8 * 16),
        (call("bmm", tensor(3, 4, 16), self=tensor(3, 4, 8), mat2=tensor(3, 8, 16)), 3 * 2 * 4 * 8 * 16),
        (call("_grouped_mm", tensor(12, 16), self=tensor(12, 8), mat2=tensor(3, 8, 16)), 2 * 12 * 8 * 16),
        (call("_grouped_mm", tensor(3, 8, 16), self=tensor(8, 12), mat2=tensor(12, 16)), 2 * 8 * 12 * 16),
    ],
)
def test_products_by_hand(seen: AtenCall, flop: int) -> None:
    assert aten_cost(seen).matmul_flop == flop
    assert aten_cost(seen).read_bytes == sum(each.size_bytes for each in seen.inputs)
    assert aten_cost(seen).write_bytes == seen.results[0].size_bytes


def test_a_bias_is_read_once_and_added_to_each_result() -> None:
    seen = call("addmm", tensor(4, 16), self=tensor(16), mat1=tensor(4, 8), mat2=tensor(8, 16))
    assert aten_cost(seen) == Cost(matmul_flop=1024, vector_flop=64, read_bytes=(16 + 32 + 128) * 4, write_bytes=64 * 4)


def test_batch_products_with_a_sum_by_hand() -> None:
    seen = call("baddbmm", tensor(3, 4, 16), self=tensor(3, 4, 16), batch1=tensor(3, 4, 8), batch2=tensor(3, 8, 16))
    assert aten_cost(seen).matmul_flop == 3 * 2 * 4 * 8 * 16


def test_a_matrix_times_a_vector_is_other_flop() -> None:
    assert aten_cost(call("mv", tensor(4), self=tensor(4, 8), vec=tensor(8))) == Cost(
        vector_flop=64, read_bytes=40 * 4, write_bytes=16
    )
    assert aten_cost(call("addmv", tensor(4), self=tensor(4), mat=tensor(4, 8), vec=tensor(8))).vector_flop == 64


def convolution(**changes: Value) -> AtenCall:
    arguments: dict[str, Value] = {
        "input": tensor(2, 3, 8, 8),
        "weight": tensor(16, 3, 3, 3),
        "bias": tensor(16),
        "transposed": False,
    }
    return call("convolution", tensor(2, 16, 8, 8), **arguments | changes)


def test_a_convolution_by_hand() -> None:
    cost = aten_cost(convolution())
    assert cost.matmul_flop == 2 * (2 * 16 * 8 * 8) * (3 * 3 * 3)
    assert cost.vector_flop == 2 * 16 * 8 * 8
    assert cost.read_bytes == (2 * 3 * 64 + 16 * 27 + 16) * 4
    assert aten_cost(convolution(bias=None)).vector_flop == 0


def test_a_transposed_convolution_counts_the_places_of_its_input() -> None:
    seen = call(
        "convolution",
        tensor(2, 3, 9, 9),
        input=tensor(2, 16, 4, 4),
        weight=tensor(16, 3, 3, 3),
        bias=None,
        transposed=True,
    )
    assert aten_cost(seen).matmul_flop == 2 * (2 * 16 * 4 * 4) * (3 * 3 * 3)


@pytest.mark.parametrize(
    ("mask", "times"), [((True, True, True), 2), ((False, True, True), 1), ((True, False, False), 1)]
)
def test_a_convolutions_backward_is_one_product_for_each_gradient(mask: tuple[bool, ...], times: int) -> None:
    x, weight, dy = tensor(2, 3, 8, 8), tensor(16, 3, 3, 3), tensor(2, 16, 8, 8)
    gradients = (tensor(2, 3, 8, 8), tensor(16, 3, 3, 3), tensor(16))
    seen = call(
        "convolution_backward",
        *(gradient for gradient, wanted in zip(gradients, mask, strict=True) if wanted),
        grad_output=dy,
        input=x,
        weight=weight,
        transposed=False,
        output_mask=mask,
    )
    cost = aten_cost(seen)
    assert cost.matmul_flop == times * 2 * (2 * 16 * 8 * 8) * 27
    read = sum(mask) * dy.size_bytes + mask[0] * weight.size_bytes + mask[1] * x.size_bytes
    assert cost.read_bytes == read


def attention(*, is_causal: bool = False, kv_heads: int = 2) -> AtenCall:
    return call(
        "_scaled_dot_product_flash_attention",
        tensor(1, 4, 8, 16),
        tensor(1, 4, 8),
        query=tensor(1, 4, 8, 16),
        key=tensor(1, kv_heads, 10, 16),
        value=tensor(1, kv_heads, 10, 16),
        is_causal=is_causal,
    )


def test_attention_multiplies_every_query_with_every_key_of_its_head() -> None:
    cost = aten_cost(attention())
    assert cost.matmul_flop == 4 * (2 * 8 * 10 * 16 + 2 * 8 * 10 * 16)
    assert cost.read_bytes == (4 * 8 * 16 + 2 * 2 * 10 * 16) * 4
    assert cost.write_bytes == (4 * 8 * 16 + 4 * 8) * 4
    assert aten_cost(attention(kv_heads=4)).matmul_flop == cost.matmul_flop


def test_half_of_attention_counts_only_where_it_was_called_causal() -> None:
    whole = aten_cost(attention(is_causal=True))
    half = aten_cost(attention(is_causal=True), causal_half=True)
    assert half.matmul_flop * 2 == whole.matmul_flop == aten_cost(attention(), causal_half=True).matmul_flop
    assert half.moved_bytes == whole.moved_bytes


def test_backward_of_attention_is_four_products_and_reads_the_result_twice() -> None:
    q, kv, lse = tensor(1, 4, 8, 16), tensor(1, 2, 10, 16), tensor(1, 4, 8)
    seen = call(
        "_scaled_dot_product_flash_attention_backward",
        tensor(1, 4, 8, 16),
        tensor(1, 2, 10, 16),
        tensor(1, 2, 10, 16),
        grad_out=tensor(1, 4, 8, 16),
        query=q,
        key=kv,
        value=tensor(1, 2, 10, 16),
        out=tensor(1, 4, 8, 16),
        logsumexp=lse,
    )
    cost = aten_cost(seen)
    assert cost.matmul_flop == 2 * aten_cost(attention()).matmul_flop
    assert cost.read_bytes == q.size_bytes + 2 * kv.size_bytes + 4 * q.size_bytes + 2 * lse.size_bytes
    assert cost.write_bytes == q.size_bytes + 2 * kv.size_bytes + lse.size_bytes


def test_packed_sequences_count_as_long_as_the_longest() -> None:
    starts = tensor(4, dtype="int64")
    seen = call(
        "_flash_attention_forward",
        tensor(20, 4, 16),
        query=tensor(20, 4, 16),
        key=tensor(20, 2, 16),
        value=tensor(20, 2, 16),
        cum_seq_q=starts,
        cum_seq_k=starts,
        max_q=10,
        max_k=10,
    )
    assert aten_cost(seen).matmul_flop == 3 * 4 * (4 * 10 * 10 * 16)


def test_attention_of_the_kernels_own_layout_has_heads_third() -> None:
    seen = call(
        "_flash_attention_forward",
        tensor(2, 8, 4, 16),
        query=tensor(2, 8, 4, 16),
        key=tensor(2, 10, 4, 16),
        value=tensor(2, 10, 4, 16),
        cum_seq_q=None,
        cum_seq_k=None,
        max_q=8,
        max_k=10,
    )
    assert aten_cost(seen).matmul_flop == 2 * 4 * (4 * 8 * 10 * 16)


def test_a_lookup_reads_rows_and_ids_not_the_table() -> None:
    ids = tensor(3, 5, dtype="int64")
    seen = call("embedding", tensor(3, 5, 8), weight=tensor(1000, 8), indices=ids)
    assert aten_cost(seen) == Cost(read_bytes=15 * 8 * 4 + 15 * 8, write_bytes=15 * 8 * 4)


def test_the_gradient_of_a_table_is_filled_and_added_to() -> None:
    seen = call(
        "embedding_dense_backward",
        tensor(1000, 8),
        grad_output=tensor(3, 5, 8),
        indices=tensor(3, 5, dtype="int64"),
    )
    rows = 15 * 8 * 4
    assert aten_cost(seen) == Cost(vector_flop=120, read_bytes=2 * rows + 15 * 8, write_bytes=8000 * 4 + rows)


def test_placing_values_touches_their_places_alone() -> None:
    places, values = tensor(5, dtype="int64"), tensor(5, 8)
    target = tensor(1000, 8)
    put = call("index_put_", target, written=("self",), self=target, indices=(places,), values=values, accumulate=False)
    added = call(
        "index_put_", target, written=("self",), self=target, indices=(places,), values=values, accumulate=True
    )
    copied = call("index_put", tensor(1000, 8), self=target, indices=(places,), values=values, accumulate=False)
    assert aten_cost(put) == Cost(read_bytes=40 + 160, write_bytes=160)
    assert aten_cost(added) == Cost(vector_flop=40, read_bytes=40 + 320, write_bytes=160)
    assert aten_cost(copied) == Cost(read_bytes=200 + 32_000, write_bytes=160 + 32_000)


def test_scattering_adds_as_many_numbers_as_there_are_places() -> None:
    target = tensor(100)
    seen = call(
        "scatter_add_", target, written=("self",), self=target, dim=0, index=tensor(7, dtype="int64"), src=tensor(7)
    )
    assert aten_cost(seen) == Cost(vector_flop=7, read_bytes=7 * 8 + 2 * 28, write_bytes=28)


def test_in_place_operators_write_what_they_change_and_nothing_else() -> None:
    x = tensor(10)
    added = call("add_", x, written=("self",), self=x, other=tensor(10))
    assert aten_cost(added) == Cost(vector_flop=10, read_bytes=80, write_bytes=40)
    filled = call("zero_", x, written=("self",), self=x)
    assert aten_cost(filled) == Cost(write_bytes=40)
    copied = call("copy_", x, written=("self",), self=x, src=tensor(10, dtype="bfloat16"))
    assert aten_cost(copied) == Cost(read_bytes=20, write_bytes=40)


def test_lists_of_tensors_are_read_and_written_whole() -> None:
    weights, gradients = (tensor(10), tensor(20)), (tensor(10), tensor(20))
    seen = call("_foreach_add_", written=("self",), self=weights, other=gradients, alpha=1)
    assert aten_cost(seen) == Cost(vector_flop=30, read_bytes=240, write_bytes=120)


def test_memory_that_is_only_taken_costs_nothing() -> None:
    assert aten_cost(call("empty_like", tensor(10), self=tensor(10))) == Cost.ZERO


def test_what_broadcasting_repeats_is_read_once() -> None:
    gain = tensor(4, 8, elements=8)
    assert aten_cost(call("mul", tensor(4, 8), self=tensor(4, 8), other=gain)).read_bytes == (32 + 8) * 4


def test_work_on_whole_numbers_is_no_flop() -> None:
    ids = tensor(10, dtype="int64")
    assert aten_cost(call("add", tensor(10, dtype="int64"), self=ids, other=1)).flop == 0


def test_norms_read_their_input_again_for_the_gradients_of_their_weights() -> None:
    x, dy, stat, gain = tensor(6, 8), tensor(6, 8), tensor(6, 1), tensor(8)
    arguments: dict[str, Value] = {"grad_out": dy, "input": x, "mean": stat, "rstd": stat, "weight": gain, "bias": gain}
    both = call("native_layer_norm_backward", tensor(6, 8), tensor(8), tensor(8), **arguments)
    one = call("native_layer_norm_backward", tensor(6, 8), **arguments)
    pass_bytes = (48 + 48 + 6 + 6) * 4
    assert aten_cost(both).read_bytes == 2 * pass_bytes + 32
    assert aten_cost(one).read_bytes == pass_bytes + 32
    assert aten_cost(both).vector_flop == 14 * 48


def test_batch_norm_reads_its_input_twice() -> None:
    seen = call("native_batch_norm", tensor(2, 3, 4), input=tensor(2, 3, 4), weight=tensor(3), training=True)
    assert aten_cost(seen).read_bytes == 2 * 96 + 12


def test_the_loss_reads_one_number_a_target_and_its_gradient_reads_no_logits() -> None:
    logits, target = tensor(10, 100), tensor(10, dtype="int64")
    forward = call("nll_loss_forward", tensor(), tensor(), self=logits, target=target)
    backward = call("nll_loss_backward", tensor(10, 100), grad_output=tensor(), self=logits, target=target)
    assert aten_cost(forward) == Cost(vector_flop=10, read_bytes=10 * 4 + 80, write_bytes=8)
    assert aten_cost(backward) == Cost(vector_flop=10, read_bytes=4 + 80, write_bytes=4000)


def test_pooling_looks_at_each_place_under_the_kernel() -> None:
    seen = call("max_pool2d_with_indices", tensor(1, 2, 4, 4), self=tensor(1, 2, 8, 8), kernel_size=(2, 2))
    assert aten_cost(seen).vector_flop == 4 * 32


def test_the_gradient_of_a_slice_fills_the_whole_and_copies_the_part() -> None:
    seen = call("slice_backward", tensor(10, 8), grad_output=tensor(2, 8))
    assert aten_cost(seen) == Cost(read_bytes=64, write_bytes=320 + 64)


def test_plain_names() -> None:
    assert [plain_name(name) for name in ("aten::mul_", "aten::_foreach_mul_", "mylib::go")] == ["mul", "mul", "go"]


@given(name=st.sampled_from(sorted(FLOP_PER_ELEMENT) + sorted(MOVES) + ["add", "exp", "sum"]), size=st.integers(1, 99))
def test_elementwise_work_and_traffic_are_linear_in_size(name: str, size: int) -> None:
    def cost(times: int) -> Cost:
        grid = {
            "input": tensor(size * times),
            "self": tensor(size * times),
            "index": tensor(size * times, dtype="int64"),
        }
        return aten_cost(call(name, tensor(size * times), **grid))

    assert cost(3).flop == 3 * cost(1).flop
    assert cost(3).moved_bytes == 3 * cost(1).moved_bytes


def placed(path: str, size: int, *, direction: str = "forward") -> PlacedCall:
    place = Place(path, "aten::mm")
    product = call("mm", tensor(size, size), self=tensor(size, size), mat2=tensor(size, size))
    assert direction in {"forward", "backward"}
    return PlacedCall(place, "forward" if direction == "forward" else "backward", product)


def test_equal_layers_are_one_row_and_unequal_ones_two() -> None:
    calls = (placed("layers.0.up", 4), placed("layers.1.up", 4), placed("layers.2.up", 8))
    rows = captured.captured_ops(Capture(calls=calls, kept=(), parameters=()))
    assert [(row.label, row.repeats, row.forward.matmul_flop) for row in rows] == [
        ("layers.*.up", 2, 128),
        ("layers.*.up", 1, 1024),
    ]


def test_what_one_module_does_in_both_directions_is_one_row() -> None:
    place = Place("head", "aten::mm")
    rows = captured.captured_ops(
        Capture(
            calls=(placed("head", 4), placed("head", 4, direction="backward"), placed("head", 4, direction="backward")),
            kept=(Kept(place, 64), Kept(place, 32, weight_copy=True)),
            parameters=(ParameterUse(place, 16, 64, trainable=True),),
        )
    )
    (row,) = rows
    assert (row.forward.matmul_flop, row.backward.matmul_flop) == (128, 256)
    assert (row.saved_bytes, row.weight_copy_bytes, row.parameters, row.layer_kind) == (64, 32, 16, "head")


def test_a_parameter_that_nothing_reads_is_a_row_without_cost() -> None:
    use = ParameterUse(Place("unused", "parameter"), 16, 64, trainable=True)
    (row,) = captured.captured_ops(Capture(calls=(), kept=(), parameters=(use,)))
    assert (row.label, row.kind, row.parameters, row.total) == ("unused", "parameter", 16, Cost.ZERO)


@pytest.mark.parametrize(
    ("label", "operator", "kind"),
    [
        ("transformer.h.*.attn.c_attn", "aten::addmm", "attention"),
        ("transformer.h.*.mlp.c_fc", "aten::addmm", "ffn"),
        ("transformer.wte", "aten::embedding", "embedding"),
        ("transformer.h.*.ln_1", "aten::native_layer_norm", "norm"),
        ("model.layers.*.input_layernorm", "aten::pow", "norm"),
        ("model.layers.*.self_attn.q_proj", "aten::mm", "attention"),
        ("lm_head", "aten::mm", "head"),
        ("encoder.block.*.layer.*.DenseReluDense.wi", "aten::mm", "ffn"),
        ("stem.conv", "aten::convolution", "other"),
        ("loss", "aten::_log_softmax", "loss"),
    ],
)
def test_words_of_other_peoples_labels_tell_the_kind_of_layer(label: str, operator: str, kind: str) -> None:
    assert captured.captured_kind(label, operator) == kind
