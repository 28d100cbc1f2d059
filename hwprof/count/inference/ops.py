"""What does decoding cost that training does not run? Attention to a cache, adding to it, latent queries.

Letters: B sequences with one new token each, N tokens, S keys, H query heads, c bytes of an activation.
Every cost is linear in S.
"""

from __future__ import annotations

from hwprof.count.ops.cost import Cost
from hwprof.count.ops.matmul import SOFTMAX_FLOP
from hwprof.count.ops.operation import Execution, OpCost, register


@register("cached_attention_core")
def cached_attention_core(
    how: Execution,
    *,
    batch: int,
    keys: int,
    heads: int,
    key_dim: int,
    value_dim: int,
    key_bytes: int,
    extra_score_flop: int = 0,
) -> OpCost:
    """Attention of one new token a sequence to S keys of its cache, 2·B·H·S·(D + E) FLOP.

    Reads the queries and S rows of the cache, each once for all heads that share it, and writes the result; scores
    stay on chip (flash decoding).

    Args:
        how: the execution.
        batch: B.
        keys: S.
        heads: H.
        key_dim: D, numbers of a query head that meet a key.
        value_dim: E, numbers of a head's result.
        key_bytes: what the cache holds for one key and its value, all heads together.
        extra_score_flop: operations a score beside the softmax (a bias, a cap).
    """
    c, scores = how.precision.compute_bytes, batch * heads * keys
    q, o, cache = batch * heads * key_dim * c, batch * heads * value_dim * c, batch * keys * key_bytes
    return OpCost(
        forward=Cost(
            matmul_flop=2 * scores * (key_dim + value_dim),
            vector_flop=(SOFTMAX_FLOP + extra_score_flop) * scores,
            read_bytes=q + cache,
            write_bytes=o,
        ),
        input_bytes=q,
        output_bytes=o,
    )


@register("cache_append")
def cache_append(how: Execution, *, tokens: int, features: int, cache_bytes: int) -> OpCost:
    """Keys and values of N tokens copied into the cache, in its width; nothing that is there moves."""
    numbers = tokens * features
    forward = Cost(read_bytes=numbers * how.precision.compute_bytes, write_bytes=numbers * cache_bytes)
    return OpCost(forward=forward, input_bytes=numbers * how.precision.compute_bytes)


@register("absorbed_projection")
def absorbed_projection(
    how: Execution, *, tokens: int, heads: int, latent_dim: int, key_dim: int, value_dim: int
) -> OpCost:
    """Queries brought to the width of the latent vector, and results brought back (DeepSeek-V2, section 2.1.2).

    Both products are with parts of one weight, [H, D + E, latent]: 2·N·H·latent·(D + E) FLOP. Its reading is left to
    whoever knows how it is stored.
    """
    c, rows = how.precision.compute_bytes, tokens * heads
    inputs, results = rows * (key_dim + latent_dim) * c, rows * (latent_dim + value_dim) * c
    return OpCost(
        forward=Cost(matmul_flop=2 * rows * latent_dim * (key_dim + value_dim), read_bytes=inputs, write_bytes=results),
        input_bytes=inputs,
        output_bytes=results,
    )
