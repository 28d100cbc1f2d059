"""What are the parts of a captured model called in hwprof's words? Its layers, what is around them, its head."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from hwprof.count.aten.registry import aten_cost
from hwprof.specs.job.labels import label_of
from hwprof.specs.record.captured import Capture

_LAYER = re.compile(r"^(.*?)\.(\d+)(?=\.|$)")

_LEAVES: dict[str, str] = {
    "q_proj": "attention.query",
    "k_proj": "attention.key",
    "v_proj": "attention.value",
    "o_proj": "attention.output",
    "gate_proj": "ffn.gate",
    "up_proj": "ffn.up",
    "down_proj": "ffn.down",
}
"""What classes of transformers call their projections -> what hwprof does: tensor ranks and adapters share them."""

_BOTH_SIDES = 0.1
"""A stack with a smaller share of the largest one's weights is no side of an encoder-decoder, but a part before it."""


@dataclass(frozen=True, slots=True)
class Labels:
    """How paths of modules become labels.

    Attributes:
        stacks: the lists of layers that make up the model, each with how many it holds.
        first, last: of the calls, in order, those that belong to such a layer.
        order: path -> the number of its first call.
        head: the path of the product after the layers that has most FLOP; empty where there is none.
    """

    stacks: dict[str, int]
    first: int
    last: int
    order: dict[str, int]
    head: str

    @property
    def layers(self) -> int:
        """How many layers there are."""
        return sum(self.stacks.values())

    def of(self, path: str) -> str:
        """The label of a module's path."""
        if path == self.head:
            return "head"
        match = _LAYER.match(path)
        stem, leaf = label_of(path).rpartition(".")[::2]
        if match and match[1] in self.stacks:
            inside = path[match.end() :].lstrip(".")
            stem, leaf = label_of(f"layers.0.{inside}" if inside else "layers.0").rpartition(".")[::2]
            return f"{stem}.{_LEAVES.get(leaf, leaf)}"
        outside = (f"{stem}.{leaf}" if stem else leaf).replace("layers.*", "blocks.*")
        before = self.order.get(path, 0) < self.first
        return outside if not before or "embedding" in outside else f"embedding.{outside}"


def labels_of(seen: Capture, *, both_sides: bool) -> Labels:
    """How the paths of a capture become labels.

    Args:
        seen: the capture.
        both_sides: whether two stacks make up the model, an encoder and a decoder.
    """
    forward = [placed for placed in seen.calls if placed.direction == "forward"]
    order: dict[str, int] = {}
    for number, placed in enumerate(forward):
        order.setdefault(placed.place.path, number)
    stacks = _stacks(seen, list(order), both_sides=both_sides)
    inside = [
        number
        for number, placed in enumerate(forward)
        if (match := _LAYER.match(placed.place.path)) and match[1] in stacks
    ]
    first, last = (inside[0], inside[-1]) if inside else (0, len(forward))
    products = {
        placed.place.path: aten_cost(placed.call).matmul_flop
        for placed in forward[last + 1 :]
        if aten_cost(placed.call).matmul_flop
    }
    return Labels(stacks, first, last, order, max(products, key=lambda path: products[path], default=""))


def _stacks(seen: Capture, paths: Sequence[str], *, both_sides: bool) -> dict[str, int]:
    """Lists of layers: of those that hold weights the largest, or the two of an encoder-decoder."""
    weights: dict[str, int] = defaultdict(int)
    members: dict[str, set[int]] = defaultdict(set)
    for use in seen.parameters:
        match = _LAYER.match(use.place.path)
        if match:
            weights[match[1]] += use.elements
            members[match[1]].add(int(match[2]))
    for path in paths:
        match = _LAYER.match(path)
        if match and match[1] in members:
            members[match[1]].add(int(match[2]))
    largest = sorted(weights, key=lambda stack: -weights[stack])[: 2 if both_sides else 1]
    return {stack: len(members[stack]) for stack in largest if weights[stack] >= _BOTH_SIDES * weights[largest[0]]}
