"""How long would attention take if its kernel reached an assumed share of each roof? Work counted in tiles.

The base time of the curves through measured kernels: what it gets wrong is corrected there. A kernel spends arithmetic
on matrix units and, for the softmax, on vector units for each pair of a query and a key; small ones are held up by
their longest row of tiles, by traffic or by their launch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from hwprof.predict.kernels.device_rates import DeviceRates

Floats = NDArray[np.float64]

Direction = Literal["forward", "backward"]
AttentionKernel = Literal[
    "flash-1", "flash-2", "flash-3", "flash-4", "cudnn", "torch-sdpa", "eager", "serving", "vendor"
]
KERNELS: tuple[AttentionKernel, ...] = get_args(AttentionKernel)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionKind:
    """What is the same in all shapes of one curve.

    Attributes:
        kernel: its generation; ``torch-sdpa`` is the flash kernel inside PyTorch, ``eager`` products and a softmax with
            the scores in memory, ``serving`` that of serving libraries with the writes to a cache, ``vendor`` what a
            device that is no GPU has.
        direction: ``backward`` has five products for each two of ``forward``.
        causal: whether a query sees no keys after it.
        head_dim: of queries and keys.
        value_dim: of values; smaller than ``head_dim`` in latent attention (192 and 128).
        window: how many keys a query sees at most; 0: all.
    """

    kernel: AttentionKernel
    direction: Direction
    causal: bool
    head_dim: int
    value_dim: int
    window: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Dims:
    """What of a kind varies within a table of points: arrays of one a point, or of one for all."""

    causal: NDArray[np.bool_]
    head_dim: Floats
    value_dim: Floats
    window: Floats


TILE = 128.0
"""Queries and keys of a tile; flash kernels take 64 to 256 of them."""

MATRIX_SHARE = 0.6
VECTOR_FLOP = {"forward": 8.0, "backward": 16.0}
"""Share of the matrix peak in the products, and plain arithmetic for each pair beside them: with these, the same two
numbers give the rates of 64, 128 and 256 wide heads on H100 and B200 to 15 % (serving's kernels)."""

LONGEST_SHARE = 0.4
"""Share of the time of the longest row of tiles that nothing else hides."""

LAUNCH_S = {"forward": 12e-6, "backward": 40e-6}
"""Launch of one and of three kernels."""

MEMORY_SHARE, SERVING_MEMORY_SHARE, LIMIT = 0.85, 0.45, 4.0
"""Share of the bandwidth for queries, keys, values and results. Flash kernels compute beside that traffic: a maximum
with a rounded corner and this exponent. Serving's write the cache before, by kernels that reach less."""

SCORE_BYTES = 20.0
"""Traffic of eager attention for each pair: scores scaled, masked, exponentiated in 32 bits, rounded, read again."""

OLD_KERNELS = {"flash-2", "torch-sdpa"}
"""They know the matrix instructions of 2020 alone."""


def flop_per_pair(direction: Direction, dims: Dims) -> Floats:
    """FLOP for each query and key that meet: two products forward, five backward.

    Backward, three are as wide as keys (scores again, gradients of queries and keys), two as wide as values.
    """
    return 2 * dims.head_dim + 2 * dims.value_dim if direction == "forward" else 6 * dims.head_dim + 4 * dims.value_dim


def pairs(kernel: AttentionKernel, dims: Dims, seq_len: Floats) -> Floats:
    """Pairs of a query and a key that one head's tiles work on, with the unused halves of tiles at the edges."""
    padded = np.maximum(seq_len, TILE)
    if kernel == "eager":
        every: Floats = padded**2
        return every
    sides = np.where(dims.causal, 1.0, 2.0)
    reach = np.where(dims.window > 0, np.minimum(sides * dims.window + TILE, seq_len), seq_len)
    below = reach * seq_len - reach * (reach - 1) / 2 + TILE * padded / 2
    found: Floats = np.where(dims.causal, below, padded * np.maximum(reach, TILE))
    return found


def attention_base_s(rates: DeviceRates, kind: AttentionKind, dims: Dims, sizes: Floats) -> Floats:
    """Base time in seconds of sizes [rows, 3]: batch x query heads, sequence length, key heads a query head."""
    heads, seq_len, keys = sizes.T
    worked = pairs(kind.kernel, dims, seq_len)
    matrix = rates.old_matrix_flop_per_s if kind.kernel in OLD_KERNELS else rates.matrix_flop_per_s
    pair_s = (
        flop_per_pair(kind.direction, dims) / (matrix * MATRIX_SHARE)
        + VECTOR_FLOP[kind.direction] / rates.vector_flop_per_s
    )
    tiles = np.maximum(seq_len / TILE, 1.0)
    longest_s = LONGEST_SHARE * 2 * worked / tiles * pair_s * rates.units
    width = dims.head_dim + dims.value_dim
    both = 1.0 if kind.direction == "forward" else BACKWARD_TRAFFIC
    moved_bytes = both * 2 * heads * seq_len * width * (1 + keys)
    computed_s = heads * worked * pair_s + longest_s
    if kind.kernel == "serving":
        busy_s = computed_s + moved_bytes / (rates.memory_byte_per_s * SERVING_MEMORY_SHARE)
    elif kind.kernel == "eager":
        busy_s = computed_s + (moved_bytes + SCORE_BYTES * heads * worked) / (rates.memory_byte_per_s * MEMORY_SHARE)
    else:
        traffic_s = moved_bytes / (rates.memory_byte_per_s * MEMORY_SHARE)
        busy_s = (computed_s**LIMIT + traffic_s**LIMIT) ** (1 / LIMIT)
    total_s: Floats = LAUNCH_S[kind.direction] + busy_s
    return total_s


BACKWARD_TRAFFIC = 2.5
"""Results, their gradients and those of queries, keys and values beside what the forward pass reads and writes."""
