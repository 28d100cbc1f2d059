"""What do positions and caps cost that are neither learned vectors nor rotary? Fixed tables, biases by distance, tanh.

Letters: N tokens, d features; r bytes of a residual element, c of a matrix-multiply element.
"""

from __future__ import annotations

from hwprof.count.ops.cost import Cost
from hwprof.count.ops.operation import Execution, OpCost, register
from hwprof.count.ops.vector import INDEX_BYTES

TANH_FLOP = 3
"""Per element: divide by the cap, tanh, multiply by the cap."""


@register("fixed_table")
def fixed_table(how: Execution, *, tokens: int, features: int) -> OpCost:
    """Sum y = x + table, [N, d]; the table (sinusoidal positions) has no gradient, nothing is kept."""
    x, r = tokens * features, how.precision.residual_bytes
    return OpCost(forward=Cost(vector_flop=x, read_bytes=2 * x * r, write_bytes=x * r), output_bytes=x * r)


@register("added_rows")
def added_rows(how: Execution, *, tokens: int, features: int, rows: int) -> OpCost:
    """Sum y = x + W[ids, :], [N, d], W[rows, d] a table of segment or class vectors; keeps the ids."""
    x, r, w, ids = tokens * features, how.precision.residual_bytes, how.precision.weight_bytes, tokens * INDEX_BYTES
    return OpCost(
        forward=Cost(vector_flop=x, read_bytes=ids + x * (w + 2 * r), write_bytes=2 * x * r),
        backward=Cost(vector_flop=x, read_bytes=ids + x * r, write_bytes=(rows * features + x) * w),
        saved_bytes=ids,
        output_bytes=x * r,
    )


@register("relative_bias")
def relative_bias(how: Execution, *, queries: int, keys: int, heads: int, buckets: int) -> OpCost:
    """Biases [H, T, S] of scores, looked up by distance in a table [buckets, H] (Raffel et al. 2020). Keeps buckets."""
    pairs, w = queries * keys, how.precision.weight_bytes
    biases = pairs * heads * w
    return OpCost(
        forward=Cost(vector_flop=10 * pairs, read_bytes=pairs * INDEX_BYTES + biases, write_bytes=biases),
        backward=Cost(
            vector_flop=pairs * heads, read_bytes=pairs * INDEX_BYTES + biases, write_bytes=buckets * heads * w
        ),
        saved_bytes=pairs * INDEX_BYTES,
        output_bytes=biases,
    )


@register("tanh")
def tanh(how: Execution, *, tokens: int, features: int, capped: bool = False) -> OpCost:
    """Hyperbolic tangent of each element, or of x / cap, times cap, in three passes; keeps the tangent."""
    x, c = tokens * features, how.precision.compute_bytes
    passes = 3 if capped and not how.fused else 1
    flop = TANH_FLOP if capped else 1
    return OpCost(
        forward=Cost(vector_flop=flop * x, read_bytes=passes * x * c, write_bytes=passes * x * c),
        backward=Cost(vector_flop=(flop + 1) * x, read_bytes=(passes + 1) * x * c, write_bytes=passes * x * c),
        saved_bytes=x * c,
        input_bytes=x * c,
        output_bytes=x * c,
    )
