"""What is a kernel of a step called, beside products and attention? What it does, on what, in which pass."""

from __future__ import annotations

from typing import Literal, NamedTuple

from hwprof.specs.job.settings import Direction, Dtype

KernelKind = Literal[
    "activation",
    "cached_attention",
    "clip",
    "dropout",
    "embedding",
    "loss",
    "norm",
    "optimizer",
    "residual",
    "rope",
]

TIED = "_tied"
"""What the name of an embedding ends with whose table is the head's weight, too: backward adds to its gradient."""

PLACED = "tokens_positions"
"""Name of an embedding that adds learned positions to its tokens."""

GATED = "_gated"
"""What the name of a gated activation ends with."""


class StepKernel(NamedTuple):
    """One kernel, or the few that torch runs for one operation, at the sizes of a micro-batch.

    Attributes:
        kind: what it does.
        variant: which one of its kind.
        dtype: format of its tensors.
        sizes: activation, dropout, residual, norm: tokens, features. loss: tokens, vocabulary. rope: batch, tokens of a
            sequence, heads, key/value heads, width of a head. embedding: batch, tokens of a sequence, features, rows of
            the table, rows of the table of positions if there is one. cached_attention: batch, tokens in the cache,
            heads, key/value heads, width of a head. clip, optimizer: tensors, elements of all.
        direction: the pass.
        tensors: shapes of the weights that a clip or an optimizer goes over.
    """

    kind: KernelKind
    variant: str
    dtype: Dtype
    sizes: tuple[int, ...]
    direction: Direction
    tensors: tuple[tuple[int, ...], ...] = ()

    def __str__(self) -> str:
        """The name of its ceiling.

        >>> str(StepKernel("loss", "cross_entropy", "fp32", (128, 50257), "backward"))
        'loss.cross_entropy.fp32.128x50257.backward'
        """
        sizes = "x".join(map(str, self.sizes))
        return f"{self.kind}.{self.variant}.{self.dtype}.{sizes}.{self.direction}"
