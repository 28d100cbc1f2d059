"""Recurrences as kernels, against the arguments of these kernels, of layers written down by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hwprof.count.blocks.recurrences import DELTA, SCAN, as_kernels
from hwprof.count.ops.cost import Cost
from hwprof.count.ops.operation import Op
from hwprof.specs.model.captured import CapturedModel, CapturedTensor

D, TOKENS, WIDTH = 64, 100, 200 + 96
MODEL = CapturedModel(
    by="X",
    tensors=tuple(
        CapturedTensor(label=f"layers.*.mixer.{name}", shape=shape, repeats=3, linear=True)
        for name, shape in (("in_proj", (200, D)), ("out_proj", (D, 96)))
    ),
    shots=(),
)


def op(kind: str, *, moved: float, flop: float = 0, repeats: int = 3, label: str = "layers.*.mixer") -> Op:
    cost = Cost(matmul_flop=flop, read_bytes=moved / 2, write_bytes=moved / 2)
    return Op(
        label=label, kind=kind, layer_kind="attention", repeats=repeats, forward=cost, backward=cost, saved_bytes=10**7
    )


OTHERS = [op("aten::mul", moved=1e9, label="layers.*.mlp"), op("linear", moved=1e9, flop=7)]
GATED_NORM = ("aten::mul", "aten::silu")
LOOP = [op("aten::bmm", moved=1e9, flop=5e6), op("aten::mul", moved=8e9), op("aten::clone", moved=8e9)]


def moved(ops: list[Op], way: str) -> float:
    return sum(getattr(each, way).moved_bytes for each in ops)


@pytest.mark.parametrize(("more", "passes"), [([], SCAN), ([op("aten::triu", moved=1.0)], DELTA)])
def test_what_goes_in_and_out_moves_so_often(more: list[Op], passes: object) -> None:
    assert passes in {SCAN, DELTA}
    found = as_kernels([*OTHERS, *LOOP, *more], MODEL, d_model=D, tokens=TOKENS, width_bytes=2)
    own = found[len(OTHERS) :]
    through = 2 * TOKENS * WIDTH
    assert found[: len(OTHERS)] == OTHERS
    assert moved(own, "forward") == pytest.approx((7 if more else 3.4) * through, abs=2)
    assert moved(own, "backward") == pytest.approx((13 if more else 10.5) * through, abs=2)
    assert sum(each.saved_bytes for each in own) == pytest.approx((1.3 if more else 1) * through, abs=1)
    assert sum(each.forward.matmul_flop for each in own) == 5e6


@pytest.mark.parametrize(("more", "kept"), [([], 0), ([op("aten::triu", moved=1.0)], 2 * 10**7)])
def test_the_gated_norm_after_a_scan_keeps_nothing_of_its_own(more: list[Op], kept: int) -> None:
    """Mamba-ssm's function has both, and keeps what goes into the scan and comes out; fla's norm is one of its own."""
    norm = [replace(op(kind, moved=1e9, label="layers.*.mixer.norm"), layer_kind="norm") for kind in GATED_NORM]
    plain = replace(norm[0], label="layers.*.norm")
    found = as_kernels([*LOOP, *more, *norm, plain], MODEL, d_model=D, tokens=TOKENS, width_bytes=2)
    assert sum(each.saved_bytes for each in found if each.label == "layers.*.mixer.norm") == kept
    assert found[-1] == plain


def test_attention_and_what_moves_less_stay_as_they_are() -> None:
    eager = [*LOOP, op("aten::_softmax", moved=1e9)]
    little = [replace(each, forward=Cost(matmul_flop=each.forward.matmul_flop, read_bytes=1e4)) for each in LOOP]
    elsewhere = [replace(each, label="embedding.vision.mixer") for each in LOOP]
    experts = [replace(each, label="layers.*.mixer.experts") for each in LOOP]
    for ops in (eager, little, elsewhere, experts, [op("aten::mul", moved=1e9)]):
        assert as_kernels(ops, MODEL, d_model=D, tokens=TOKENS, width_bytes=2) == ops
