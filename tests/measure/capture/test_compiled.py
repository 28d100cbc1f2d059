"""What compiled modules keep, against what torch's default compiler was seen to keep; and ``flex_attention``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from hwprof.cli.count.module_report import counted_module, module_json, module_text
from hwprof.measure.capture.subject import Subject, subject_of

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")

BATCH, TOKENS, HEADS, WIDTH = 2, 64, 4, 8


class Pointwise(nn.Module):
    """Chains of elementwise operators, which a compiler computes again rather than keep."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.wide, self.narrow = nn.LayerNorm(32), nn.Linear(32, 64), nn.Linear(64, 32)

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        wide = self.wide(self.norm(given))
        wide = wide * torch.sigmoid(wide) * torch.tanh(wide) + 1
        return self.narrow(wide.float() * wide.exp())


class Flexible(nn.Module):
    """Attention by a function that it was given."""

    def __init__(self, attend: Callable[..., Any], *, masked: bool) -> None:
        super().__init__()
        self.inside, self.attend, self.masked = nn.Linear(32, 96), attend, masked

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        query, key, value = (
            each.view(BATCH, TOKENS, HEADS, WIDTH).transpose(1, 2) for each in self.inside(given).chunk(3, -1)
        )
        mask = create_block_mask(_before, None, None, TOKENS, TOKENS, device="cpu") if self.masked else None
        mixed: torch.Tensor = self.attend(query, key, value, block_mask=mask)
        return mixed


def _before(_batch: Any, _head: Any, query: Any, key: Any) -> Any:
    return query >= key


def subject(module: Callable[[], nn.Module], shape: tuple[int, ...], monkeypatch: Any, *, fake: bool) -> Subject:
    made = ModuleType("compiled_under_test")
    made.build = lambda: (module(), torch.randn(shape))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "compiled_under_test", made)
    return subject_of("compiled_under_test:build", fake=fake)


def test_a_compiled_module_keeps_what_the_compilers_split_hands_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """198,656 bytes are what autograd packs of it with torch 2.13's default backend, 526,336 without a compiler."""
    counted = counted_module(
        subject(lambda: torch.compile(Pointwise()), (2, 128, 32), monkeypatch, fake=True),
        None,  # type: ignore[arg-type, return-value]
    )
    memory = module_json(counted)["memory"]
    assert (memory["saved_bytes"], memory["saved_by"], memory["eager_saved_bytes"]) == (198_656, "compiled", 526_336)
    assert "kept from forward to backward: 198.7 kB, compiled; eager code: 526.3 kB" in module_text(counted)
    assert any("are those of eager code" in note for note in counted.notes)


def test_what_can_not_be_compiled_here_says_that_it_is_counted_as_eager(monkeypatch: pytest.MonkeyPatch) -> None:
    made = lambda: torch.compile(Flexible(flex_attention, masked=False))  # noqa: E731
    counted = counted_module(subject(made, (BATCH, TOKENS, 32), monkeypatch, fake=True), None)  # type: ignore[arg-type]
    assert module_json(counted)["memory"]["saved_by"] == "eager"
    assert any("counted as if it ran eagerly" in note for note in counted.notes)


@pytest.mark.parametrize("fake", [True, False])
@pytest.mark.parametrize("masked", [True, False])
def test_flexible_attention_multiplies_all_scores_each_way(
    *, masked: bool, fake: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    attend = torch.compile(flex_attention)
    made = subject(lambda: Flexible(attend, masked=masked), (BATCH, TOKENS, 32), monkeypatch, fake=fake)
    flop = counted_module(made, None).flop
    linear = 2 * BATCH * TOKENS * 32 * 96
    scores = 2 * 2 * BATCH * HEADS * TOKENS * TOKENS * WIDTH  # q·k and p·v, as FlopCounterMode counts the operator
    assert flop.forward_full == linear + scores
    assert flop.train_full == 2 * linear + 3 * scores  # the input has no gradient
    assert flop.forward_causal == linear + scores // (2 if masked else 1)
