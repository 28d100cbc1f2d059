"""Elementwise operators of captured modules as fused passes, against the op table's and counts by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hwprof.count.blocks.fusing import fused_ops, single_chains
from hwprof.count.ops.cost import Cost
from hwprof.count.ops.operation import Execution, Op
from hwprof.count.ops.precision import Precision
from hwprof.count.ops.table import OPS
from hwprof.specs.job.settings import LayerKind

X = 1000  # elements
NARROW = Precision(name="bf16", weight_bytes=2, compute_bytes=2, residual_bytes=2)
HOW = Execution(precision=NARROW, fused=True)


def op(label: str, kind: str, *, passes: float, kept: int = 0, calls: int = 1, **changes: object) -> Op:
    """An operator that moves the elements so often in 4 bytes, half of it in."""
    cost = Cost(vector_flop=X * calls, read_bytes=2 * X * passes, write_bytes=2 * X * passes)
    layer_kind: LayerKind = "norm" if "norm" in label else "ffn"
    one = Op(label=label, kind=kind, layer_kind=layer_kind, repeats=2, forward=cost, backward=cost, calls=calls)
    return replace(one, saved_bytes=kept, weight_saved_bytes=kept // 2, **changes)  # type: ignore[arg-type]


def rms_norm(label: str) -> list[Op]:
    """As transformers' classes run it in steps of fp32."""
    return [
        op(label, "aten::pow", passes=2, kept=4 * X),
        op(label, "aten::mean", passes=1),
        op(label, "aten::mul", passes=4, kept=8 * X, calls=2, parameters=50),
    ]


PRODUCT = op("layers.*.mlp.up", "linear", passes=1, kept=7, parameters=9)
PRODUCT = replace(PRODUCT, forward=replace(PRODUCT.forward, matmul_flop=5))


def all_of(ops: list[Op], label: str) -> tuple[float, float, int]:
    """Bytes forward and backward, and those kept."""
    own = [each for each in ops if each.label == label]
    return (
        sum(each.forward.moved_bytes for each in own),
        sum(each.backward.moved_bytes for each in own),
        sum(each.saved_bytes for each in own),
    )


def test_a_norm_is_that_of_the_op_table() -> None:
    found = fused_ops([*rms_norm("layers.*.norm"), PRODUCT], HOW)
    table = OPS["rmsnorm"](HOW, tokens=1, features=X)
    kept = 2 * X + 4  # what goes in, narrow, and a statistic
    assert all_of(found, "layers.*.norm") == (table.forward.moved_bytes, table.backward.moved_bytes, kept)
    assert [each.forward.vector_flop for each in found] == [X, X, 2 * X, X]


def test_a_gate_is_read_and_kept_beside_it() -> None:
    label = "layers.*.mixer.norm"
    plain = all_of(fused_ops(rms_norm(label), HOW), label)
    gated = all_of(fused_ops([*rms_norm(label), op(label, "aten::silu", passes=2, kept=4 * X)], HOW), label)
    assert [many - few for many, few in zip(gated, plain, strict=True)] == [2 * X, 4 * X, 2 * X]


def test_a_norm_whose_size_is_not_seen_is_one_call_of_what_moves_most() -> None:
    own = [op("layers.*.norm", "aten::x", passes=6, kept=30, calls=3), op("layers.*.norm", "aten::y", passes=1, kept=8)]
    assert all_of(fused_ops(own, HOW), "layers.*.norm") == (8 * X, 8 * X, 8)


def test_an_activation_joins_the_product_with_its_gate() -> None:
    """A gated activation reads and keeps what both products before it made, and the sum of a layer is none of it."""
    ops = [
        PRODUCT,
        op("layers.*.mlp.act_fn", "aten::silu", passes=2, kept=2 * X),
        op("layers.*.mlp", "aten::mul", passes=3, kept=4 * X),
        op("layers.*", "aten::add", passes=3),
    ]
    found = fused_ops(ops, HOW)
    assert all_of(found, "layers.*.mlp.act_fn") == (0, 0, 0)
    assert all_of(found, "layers.*.mlp") == (12 * X, 12 * X, 4 * X)
    assert all_of(found, "layers.*") == (12 * X, 12 * X, 0)
    assert found[0] == PRODUCT


def test_an_activation_of_several_operators_keeps_what_goes_in() -> None:
    """As gelu by tanh is written out: a power keeps x, products keep more."""
    label = "layers.*.mlp.act"
    own = [op(label, "aten::pow", passes=2, kept=2 * X), op(label, "aten::mul", passes=12, kept=8 * X, calls=4)]
    assert all_of(fused_ops([PRODUCT, *own], HOW), label) == (12 * X, 12 * X, 2 * X)


def test_sums_of_gradients_belong_to_the_products_that_read_the_same() -> None:
    view = op("layers.*.mlp.up", "aten::view", passes=3)
    assert all_of(fused_ops([PRODUCT, view], HOW), "layers.*.mlp.up") == all_of([PRODUCT], "layers.*.mlp.up")


@pytest.mark.parametrize("label", ["layers.*.norm", "layers.*.mlp.act"])
def test_chains_are_single_passes_whatever_runs_them(label: str) -> None:
    own = [op(label, "aten::x", passes=6, calls=3), op(label, "aten::y", passes=1)]
    beside = op("layers.*.mlp", "aten::mul", passes=3)
    assert all_of(single_chains([PRODUCT, beside, *own]), label)[:2] == (8 * X, 8 * X)
    assert single_chains([PRODUCT, beside])[1] == beside
