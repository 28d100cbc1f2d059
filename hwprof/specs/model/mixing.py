"""Which layers of a captured model mix tokens, and what of a token must reach the ranks that share its sequence?

Attention sends keys and values around. State spaces, linear attention and the convolutions before them change from a
share of the tokens to a share of the channels and back, all that goes into and comes out of them (Megatron-Core,
``ssm/mamba_context_parallel.py``, ``pre_conv_ssm`` and ``post_conv_ssm``).
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass

from hwprof.specs.model.captured import CapturedModel, CapturedRow, CapturedTensor

_LAYERS = "layers.*."
MIXES = frozenset({"aten::convolution", "aten::bmm", "aten::baddbmm"})
"""Operators of recurrences in parallel form, and of convolutions along the sequence."""
_OTHERS = re.compile(r"^(?!layers\.\*\.)|expert|\.gate$|\.attention\.")
"""Labels of projections that are none of such a part's, where all parts of layers have one name (Nemotron-H)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixing:
    """What context ranks tell each other, of the average layer.

    Attributes:
        attention_share: share of the layers that have attention.
        changed_width: numbers of each token that change between tokens and channels.
    """

    attention_share: float
    changed_width: float

    def __bool__(self) -> bool:
        """Whether any layer mixes tokens in a known way."""
        return self.attention_share + self.changed_width > 0


def is_attention(kind: str) -> bool:
    """Whether an operator is attention as one kernel, or the softmax of one in several."""
    return any(word in kind for word in ("attention_core", "scaled_dot_product", "flex_attention", "softmax"))


def mixing_of(captured: CapturedModel, *, layers: int, d_model: int) -> Mixing:
    """By the operators in each part of a layer; nothing where it reads more than one sequence of tokens."""
    shot = captured.shots[0]
    towers = (row for row in shot.rows if ".blocks." in row.label and row.forward.matmul_flop)
    if shot.target_len is not None or any(towers):
        return Mixing(attention_share=0.0, changed_width=0.0)
    rows: dict[str, list[CapturedRow]] = defaultdict(list)
    for row in shot.rows:
        if row.label.startswith(_LAYERS) and "expert" not in row.label:
            rows[part_of(row.label)].append(row)
    attention, changed = 0, 0.0
    for part, own in rows.items():
        mixes = max((row.repeats for row in own if row.kind in MIXES), default=0)
        attends = sum(row.repeats for row in own if is_attention(row.kind) and ("softmax" not in row.kind or mixes))
        attention += attends
        changed += min(mixes, layers - attends) * width_of(captured.tensors, part, d_model)
    return Mixing(attention_share=min(attention / layers, 1.0), changed_width=changed / layers)


def part_of(label: str) -> str:
    """The module right below a layer."""
    return _LAYERS + label.removeprefix(_LAYERS).partition(".")[0]


def width_of(tensors: tuple[CapturedTensor, ...], part: str, d_model: int) -> float:
    """What the projections of a part make of a token's residual stream, and what they make it from: numbers."""
    own = [each for each in tensors if each.linear and len(each.shape) == 2 and not _OTHERS.search(each.label)]
    ways = [
        (each.repeats, (each.shape[0] if each.shape[1] == d_model else each.shape[1]))
        for each in own
        if part_of(each.label) == part and d_model in each.shape
    ]
    return sum(repeats * width for repeats, width in ways) / max((repeats for repeats, _ in ways), default=1)
