"""Long sequences of classes that loop over tokens, against captures of the whole sequence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from other_types import OTHER_TYPES

from hwprof.session.captured import Shapes, counted_model
from hwprof.session.capturing import lengths
from hwprof.session.capturing.lengths import extended
from hwprof.session.capturing.passes import Pass
from hwprof.specs.model.captured import CapturedCost, CapturedRow, CapturedShot

pytestmark = pytest.mark.filterwarnings("ignore")  # what transformers warns of is its own affair


def counted(folder: Path, length: int, **keys: Any) -> tuple[CapturedShot, ...]:
    kind, name, own = OTHER_TYPES["gated delta"]
    path = folder / "config.json"
    path.write_text(json.dumps({"model_type": kind, "architectures": [name], "vocab_size": 64} | own | keys))
    model = counted_model(str(path), Shapes(batch_sizes=(2,), seq_len=length, dtype="fp32"))
    assert model.captured is not None
    return model.captured.shots


def test_a_long_sequence_is_what_short_ones_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    length = 1250
    whole = counted(tmp_path, length)
    seen: list[int] = []
    of = Pass.of

    def noted(path: Path, facts: Any, batch_size: int, shapes: Shapes) -> Pass:
        seen.append(shapes.seq_len or 0)
        return of(path, facts, batch_size, shapes)

    monkeypatch.setattr(Pass, "of", noted)
    monkeypatch.setattr(lengths, "LONGEST_SEEN", 1024)
    monkeypatch.setattr(lengths, "STEP", 64)
    assert counted(tmp_path, length) == whole
    assert max(seen) == 1250 % 64 + 5 * 64
    seen.clear()
    counted(tmp_path, length, attention_chunk_size=1000)
    assert max(seen) == length, "beyond a length of the class's own it may do something else"


def shot(length: int, flop: int) -> CapturedShot:
    cost = CapturedCost(matmul_flop=flop, causal_matmul_flop=flop)
    row = CapturedRow(
        label="layers.*.attention",
        kind="aten::bmm",
        layer_kind="attention",
        repeats=2,
        forward=cost,
        backward=cost,
        recompute=CapturedCost(),
        saved_bytes=7,
        weight_copy_bytes=0,
    )
    return CapturedShot(batch_size=1, seq_len=length, rows=(row,))


def test_only_a_parabola_is_extended() -> None:
    def square(length: int) -> CapturedShot:
        return shot(length, 3 * length**2 + 5 * length + 11)

    lengths_seen = (512, 768, 1024, 1280)
    assert extended([square(each) for each in lengths_seen], 131_072) == square(131_072)
    assert extended([shot(each, each**3) for each in lengths_seen], 131_072) is None
    assert extended([shot(each, min(each, 1000)) for each in lengths_seen], 131_072) is None
