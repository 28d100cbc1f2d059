"""Which products and which passes of attention does a step run, and how often each?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from hwprof.count.blocks.transformer import matmul_shapes
from hwprof.predict.work import Work
from hwprof.specs.job.settings import Direction, RunSettings
from hwprof.specs.model.spec import ModelSpec

Shape = tuple[int, int, int]
MatmulShapes = Mapping[tuple[str, Direction], Sequence[Shape]]
"""(op label, direction) -> (m, n, k) of each matrix multiplication of one instance."""

ATTENTION_LABELS = frozenset({"layers.*.attention.core", "layers.*.self_attn.core"})
"""The ops whose whole work has a ceiling of its own."""


def products_by_label(spec: ModelSpec, settings: RunSettings) -> MatmulShapes:
    """The products of linear layers; what runs again is the forward one."""
    shapes: dict[tuple[str, Direction], list[Shape]] = defaultdict(list)
    for shape in matmul_shapes(spec, settings):
        shapes[shape.label, shape.direction].append((shape.m, shape.n, shape.k))
        if shape.direction == "forward":
            shapes[shape.label, "recompute"].append((shape.m, shape.n, shape.k))
    return shapes


def product_calls(work: Iterable[Work], shapes: MatmulShapes) -> dict[Shape, float]:
    """How often a step runs a product of each shape."""
    calls: dict[Shape, float] = defaultdict(float)
    for item in work:
        for shape in shapes.get((item.label, item.direction), ()) if item.cost.matmul_flop else ():
            calls[shape] += item.instances
    return calls


def attention_calls(work: Iterable[Work]) -> dict[Direction, float]:
    """How often a step runs attention over whole sequences, by direction; what runs again is the forward pass."""
    calls: dict[Direction, float] = defaultdict(float)
    for item in work:
        if item.label in ATTENTION_LABELS and item.cost.matmul_flop and item.direction != "decode":
            calls["backward" if item.direction == "backward" else "forward"] += item.instances
    return calls
