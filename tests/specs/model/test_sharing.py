"""How ranks share matrices of which no class says anything, of layers written down by hand."""

from __future__ import annotations

import pytest

from hwprof.specs.model.captured import (
    CapturedCost,
    CapturedModel,
    CapturedRow,
    CapturedShot,
    CapturedTensor,
    Piece,
    rank_share,
)
from hwprof.specs.model.sharing import narrow_widths, shared, undivided, without_gathering

D, VOCABULARY = 64, 512
GROUPS = Piece(what="groups of state spaces", count=2, repeated=True)
HEADS = Piece(what="heads of state spaces", count=8)


def weight(label: str, *shape: int, linear: bool | None = None, **known: object) -> CapturedTensor:
    matrix = len(shape) == 2 if linear is None else linear
    return CapturedTensor.model_validate({"label": label, "shape": shape, "repeats": 2, "linear": matrix, **known})


def model(*tensors: CapturedTensor, pieces: tuple[Piece, ...] = ()) -> CapturedModel:
    """Its weights are read in this order."""
    none = CapturedCost()
    rows = [
        CapturedRow(
            label=label,
            kind="linear",
            layer_kind="other",
            repeats=2,
            forward=none,
            backward=none,
            recompute=none,
            saved_bytes=0,
            weight_copy_bytes=0,
        )
        for label in dict.fromkeys(tensor.label for tensor in tensors)
    ]
    shot = CapturedShot(batch_size=1, seq_len=8, rows=tuple(rows))
    return CapturedModel(by="X", tensors=tensors, shots=(shot,), pieces=pieces)


def ways(*tensors: CapturedTensor) -> list[str]:
    return [tensor.split for tensor in shared(model(*tensors), d_model=D, vocab_size=VOCABULARY).tensors]


MIXER = (
    weight("layers.*.norm", D),
    weight("layers.*.mamba", 8),
    weight("layers.*.mamba.in_proj", 2 * 128 + 64 + 8, D),
    weight("layers.*.mamba.conv1d", 128 + 64, 1, 4),
    weight("layers.*.mamba.conv1d", 128 + 64),
    weight("layers.*.mamba.norm", 128),
    weight("layers.*.mamba.out_proj", D, 128),
    weight("layers.*.mamba.out_proj", D),
)


def test_a_mixer_is_split_with_what_lies_between() -> None:
    assert ways(*MIXER) == ["", "inside", "column", "inside", "inside", "inside", "row", ""]


def test_of_square_matrices_the_last_writes_the_stream() -> None:
    """Unless its name says that it reads."""
    names = ("qkv", "output_gate", "dense")
    found = ways(weight("layers.*.attn.qkv", 3 * D, D), *(weight(f"layers.*.attn.{name}", D, D) for name in names[1:]))
    assert found == ["column", "column", "row"]
    apart = [weight(f"layers.*.attn.self.{name}", D, D) for name in ("query", "key", "value")]
    assert ways(*apart, weight("layers.*.attn.output.dense", D, D)) == ["column"] * 3 + ["row"]
    after = weight("layers.*.attn.output.norm", D)
    assert ways(*apart, weight("layers.*.attn.output.dense", D, D), after)[-1] == ""


def test_narrow_matrices_between_are_whole_on_the_side_that_is_narrow() -> None:
    """What makes a low rank is whole, what widens it is split; what narrows split channels is summed."""
    latent = (
        weight("layers.*.attn.q_a", 16, D),
        weight("layers.*.attn.q_b", 256, 16),
        weight("layers.*.attn.o", D, 256),
    )
    assert ways(*latent) == ["", "column", "row"]
    gated = (weight("layers.*.attn.gate.a", 16, D), weight("layers.*.attn.gate.b", 256, 16))
    assert ways(weight("layers.*.attn.qkv", 256, D), *gated, weight("layers.*.attn.o", D, 256)) == [
        *("column", "", "column", "row")
    ]
    first = (
        weight("layers.*.mamba.in_proj", 256, D),
        weight("layers.*.mamba.x_proj", 24, 128),
        weight("layers.*.mamba.dt_norm", 8),
        weight("layers.*.mamba", 128, 8),
        weight("layers.*.mamba.out_proj", D, 128),
    )
    assert ways(*first) == ["column", "row", "", "inside", "row"]
    found = shared(model(*first), d_model=D, vocab_size=VOCABULARY)
    assert narrow_widths(found.tensors, "layers.*.mamba", D) == set(range(1, 25))


def test_routers_adapters_and_narrow_projections_of_a_layer_are_whole() -> None:
    network = (weight("layers.*.fc1", 256, D), weight("layers.*.fc1", 256), weight("layers.*.fc2", D, 256))
    assert ways(*network) == ["column", "column", "row"]
    left = (weight("layers.*.mlp.router", 8, D), weight("layers.*.mlp.shared_gate", 1, D))
    adapter = (weight("layers.*.laurel.left", 3, D), weight("layers.*.laurel.right", D, 3))
    assert ways(*MIXER, *left, *adapter)[len(MIXER) :] == [""] * 4
    assert ways(*MIXER, weight("layers.*.in_gate", 16, D), weight("layers.*.back", D, 16))[-2:] == ["", ""]


def test_experts_and_tables_are_shared_and_what_a_class_plans_stays() -> None:
    experts = (weight("layers.*.moe.up", 4, 256, D, experts=4), weight("layers.*.moe.down", 4, D, 256, experts=4))
    tables = (weight("embedding", VOCABULARY, D, linear=False), weight("head", VOCABULARY, D))
    assert ways(*experts, *tables) == ["column", "row", "gathered", "gathered"]
    planned = weight("layers.*.mamba.in_proj", 328, D, split="gathered")
    assert next(each.split for each in shared(model(planned, *experts), d_model=D, vocab_size=9).tensors) == "gathered"
    whole = model(weight("layers.*.odd.one", 999, 333), weight("layers.*.odd.two", 333, 999))
    assert shared(whole, d_model=D, vocab_size=VOCABULARY) == whole


@pytest.mark.parametrize(("ranks", "share"), [(1, 1.0), (2, 0.5), (4, (328 - 64) / 328 / 4 + 64 / 328 / 2)])
def test_groups_of_heads_are_repeated_on_ranks_beyond_their_number(ranks: int, share: float) -> None:
    found = shared(model(*MIXER, pieces=(HEADS, GROUPS)), d_model=D, vocab_size=VOCABULARY)
    entry = found.tensors[2]
    assert (entry.grouped_rows, entry.groups) == (64, 2)
    assert rank_share(ranks, grouped=64 / 328, groups=entry.groups) == pytest.approx(share)
    assert not undivided(found, ranks)


def test_what_does_not_divide_is_named_with_the_nearest_degrees() -> None:
    found = shared(model(*MIXER, pieces=(HEADS, GROUPS)), d_model=D, vocab_size=VOCABULARY)
    assert undivided(found, 3) == "8 heads of state spaces do not divide by tensor parallel 3 (nearest: 2 and 4)"
    assert undivided(found, 16) == "8 heads of state spaces do not divide by tensor parallel 16 (nearest: 8)"
    network = shared(model(weight("layers.*.fc1", 90, D), weight("layers.*.fc2", D, 90)), d_model=D, vocab_size=9)
    assert undivided(network, 4) == "90 channels of layers.*.fc1 do not divide by tensor parallel 4 (nearest: 3 and 5)"


def test_what_a_plan_gathers_can_be_split_all_the_same() -> None:
    planned = [each.changed(split="gathered") if each.linear else each for each in MIXER]
    seen = shared(model(*planned), d_model=D, vocab_size=VOCABULARY)
    assert {each.split for each in seen.tensors} == {"", "gathered"}
    found = without_gathering(seen, d_model=D, vocab_size=VOCABULARY)
    assert [each.split for each in found.tensors] == ways(*MIXER)
    assert without_gathering(found, d_model=D, vocab_size=VOCABULARY) == found
