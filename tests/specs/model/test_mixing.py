"""What ranks that share a sequence tell each other, of layers written down by hand."""

from __future__ import annotations

import pytest

from hwprof.specs.model.captured import CapturedCost, CapturedModel, CapturedRow, CapturedShot, CapturedTensor
from hwprof.specs.model.mixing import Mixing, mixing_of

D = 64


def row(label: str, kind: str, repeats: int) -> CapturedRow:
    work = CapturedCost(matmul_flop=1, causal_matmul_flop=1)
    costs = {"forward": work, "backward": work, "recompute": CapturedCost()}
    return CapturedRow(
        label=label,
        kind=kind,
        layer_kind="attention",
        repeats=repeats,
        saved_bytes=0,
        weight_copy_bytes=0,
        **costs,
    )


def matrix(label: str, outputs: int, inputs: int, repeats: int) -> CapturedTensor:
    return CapturedTensor(label=label, shape=(outputs, inputs), repeats=repeats, linear=True)


def mixing(rows: list[CapturedRow], tensors: list[CapturedTensor], *, target: int | None = None) -> Mixing:
    shot = CapturedShot(batch_size=1, seq_len=32, target_len=target, rows=tuple(rows))
    return mixing_of(CapturedModel(by="X", tensors=tuple(tensors), shots=(shot,)), layers=4, d_model=D)


RECURRENT = [row("layers.*.mamba", "aten::bmm", 3), row("layers.*.mamba.conv1d", "aten::convolution", 3)]
PROJECTIONS = [
    matrix("layers.*.mamba.in_proj", 200, D, 3),
    matrix("layers.*.mamba.out_proj", D, 96, 3),
    matrix("layers.*.mlp.ffn.up", 256, D, 4),
]


def test_recurrences_change_all_that_goes_in_and_comes_out() -> None:
    attention = row("layers.*.self_attn", "attention_core", 1)
    found = mixing([*RECURRENT, attention], PROJECTIONS)
    assert found == Mixing(attention_share=1 / 4, changed_width=(200 + 96) * 3 / 4)


@pytest.mark.parametrize("softmax", ["aten::_softmax", "aten::_safe_softmax"])
def test_attention_in_several_operators_is_attention(softmax: str) -> None:
    rows = [row("layers.*.self_attn", kind, 4) for kind in ("aten::bmm", softmax)]
    rows += [row("layers.*.self_attn.indexer", "aten::bmm", 4), row("layers.*.mlp.gate", "aten::_softmax", 4)]
    assert mixing(rows, PROJECTIONS) == Mixing(attention_share=1.0, changed_width=0.0)


def test_parts_of_one_name_are_told_apart() -> None:
    rows = [row("layers.*.mixer", "aten::bmm", 2), row("layers.*.mixer", "attention_core", 1)]
    tensors = [
        matrix("layers.*.mixer.in_proj", 200, D, 2),
        matrix("layers.*.mixer.attention.query", 512, D, 1),
        matrix("layers.*.mixer.shared_experts.ffn.up", 512, D, 1),
    ]
    assert mixing(rows, tensors) == Mixing(attention_share=1 / 4, changed_width=200 * 2 / 4)


def test_nothing_is_said_of_layers_that_mix_otherwise_of_images_and_of_two_sides() -> None:
    tower = row("embedding.visual.blocks.*.attn", "aten::bmm", 2)
    assert not mixing([row("layers.*.time_mix", "aten::mul", 4)], PROJECTIONS)
    assert not mixing([*RECURRENT, tower], PROJECTIONS)
    assert not mixing(RECURRENT, PROJECTIONS, target=8)
    assert mixing(RECURRENT, PROJECTIONS)


def test_experts_get_tokens_as_wide_as_they_read_them() -> None:
    def width(*shapes: tuple[int, int, int]) -> int:
        stacks = (CapturedTensor(label="layers.*.experts", shape=shape, repeats=1, experts=8) for shape in shapes)
        return CapturedModel(by="X", tensors=tuple(stacks), shots=()).expert_width(D)

    assert width((8, 256, D), (8, D, 128)) == D
    assert width((8, D, 256), (8, 128, D)) == D
    assert width((8, 256, 16), (8, 16, 256)) == 16
    assert width() == D
