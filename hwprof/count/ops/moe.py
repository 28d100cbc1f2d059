"""What does a mixture of experts cost beside its router? Sending rows to experts, their products, joining the results.

Letters: N tokens, E experts, k of them a token, d features; c bytes of a matrix-multiply element, w of a weight.
Every token passes k experts, whichever they are: the arithmetic does not depend on how evenly tokens are spread.
Traffic takes every expert to be hit by at least one token, as far as there are tokens enough.
"""

from __future__ import annotations

from hwprof.count.ops.cost import Cost
from hwprof.count.ops.operation import Execution, OpCost, register
from hwprof.count.ops.vector import INDEX_BYTES

ROUTER_BYTES = 4
"""Routing works in fp32."""

ROUTING_FLOP = 6
"""Per expert and token: the score's exponential, sum, division; a bias; comparisons to find the largest."""


@register("routing")
def routing(how: Execution, *, tokens: int, experts: int, top_k: int) -> OpCost:  # noqa: ARG001 (row of the op table)
    """Scores of the experts and choice of the k largest, [N, E] -> [N, k], in fp32; keeps scores and chosen numbers."""
    scores, chosen = tokens * experts * ROUTER_BYTES, tokens * top_k * (ROUTER_BYTES + INDEX_BYTES)
    return OpCost(
        forward=Cost(
            vector_flop=ROUTING_FLOP * tokens * experts, read_bytes=3 * scores, write_bytes=2 * scores + chosen
        ),
        backward=Cost(vector_flop=5 * tokens * experts, read_bytes=2 * scores + chosen, write_bytes=2 * scores),
        saved_bytes=scores + chosen,
        input_bytes=scores,
        output_bytes=chosen,
    )


@register("expert_dispatch")
def expert_dispatch(how: Execution, *, tokens: int, features: int, top_k: int) -> OpCost:
    """Rows [N, d] copied to where their experts read them, [N·k, d]; backward adds up k gradients a row."""
    x, c = tokens * features, how.precision.compute_bytes
    index = tokens * top_k * INDEX_BYTES
    return OpCost(
        forward=Cost(read_bytes=top_k * x * c + index, write_bytes=top_k * x * c),
        backward=Cost(vector_flop=top_k * x, read_bytes=2 * top_k * x * c + index, write_bytes=top_k * x * c),
        saved_bytes=index,
        input_bytes=x * c,
        output_bytes=top_k * x * c,
    )


@register("expert_linear")
def expert_linear(
    how: Execution,
    *,
    rows: int,
    in_features: int,
    out_features: int,
    experts: int,
    bias: bool = False,
    input_kept: bool = False,
) -> OpCost:
    """Linear layers of the experts, over ``rows`` = N·k rows in all: 2·rows·I·O FLOP forward, twice that backward.

    Weights [E, O, I]; min(E, rows) of them are read. Keeps its input, unless another operation does.
    """
    c, w = how.precision.compute_bytes, how.precision.weight_bytes
    x, y = rows * in_features, rows * out_features
    weights = min(experts, rows) * (in_features * out_features + bias * out_features)
    product = 2 * rows * in_features * out_features
    narrow = Cost.ZERO if w == c else Cost(read_bytes=weights * w, write_bytes=weights * c)
    widen = Cost.ZERO if w == c else Cost(read_bytes=weights * c, write_bytes=weights * w)
    return OpCost(
        forward=Cost(matmul_flop=product, vector_flop=y * bias, read_bytes=(x + weights) * c, write_bytes=y * c)
        + narrow,
        backward=Cost(
            matmul_flop=2 * product,
            vector_flop=y * bias,
            read_bytes=(2 * y + x + weights + y * bias) * c,
            write_bytes=(x + weights) * c,
        )
        + widen,
        saved_bytes=0 if input_kept else x * c,
        weight_saved_bytes=0 if input_kept else x * c,
        weight_copy_bytes=experts * in_features * out_features * c if how.precision.casts else 0,
        input_bytes=x * c,
        output_bytes=y * c,
    )


@register("expert_combine")
def expert_combine(how: Execution, *, tokens: int, features: int, top_k: int) -> OpCost:
    """y[N, d] = sum over a token's k experts of weight · result.

    Keeps the results, for the weights' gradients, and which weight belongs to which row; torch's ``index_add`` keeps
    the weighted results too.
    """
    rows, x, c = tokens * top_k * features, tokens * features, how.precision.compute_bytes
    return OpCost(
        forward=Cost(vector_flop=2 * rows, read_bytes=3 * rows * c, write_bytes=2 * rows * c),
        backward=Cost(vector_flop=3 * rows, read_bytes=3 * rows * c, write_bytes=rows * c),
        saved_bytes=2 * rows * c + tokens * top_k * INDEX_BYTES,
        input_bytes=rows * c,
        output_bytes=x * c,
    )


@register("scaled_sum")
def scaled_sum(how: Execution, *, tokens: int, features: int, scaled: bool) -> OpCost:
    """Sum y = routed + s · shared, [N, d] each; s[N, 1] a sigmoid, or 1 (not ``scaled``), which keeps nothing."""
    x, c = tokens * features, how.precision.compute_bytes
    return OpCost(
        forward=Cost(vector_flop=(1 + scaled) * x, read_bytes=(2 + scaled) * x * c, write_bytes=(1 + scaled) * x * c),
        backward=Cost(vector_flop=2 * scaled * x, read_bytes=2 * scaled * x * c, write_bytes=scaled * x * c),
        saved_bytes=scaled * (x * c + 2 * tokens * c),
        input_bytes=2 * x * c,
        output_bytes=x * c,
    )
