"""What do the matrix multiplications cost? Linear layers, and the core of attention in its two forms.

Letters: N tokens (batch x sequence), I and O input and output features, B batch, T sequence, H query heads, K key/value
heads, D head width; w, c, r bytes of a weight, of a matrix-multiply element, of a residual element.
A product of [m, k] and [k, n] is 2·m·n·k FLOP, as torch's ``FlopCounterMode`` counts it.
"""

from __future__ import annotations

from hwprof.count.ops.cost import Cost
from hwprof.count.ops.operation import Execution, OpCost, register

SOFTMAX_FLOP = 5
"""Per score: scale, subtract the maximum, exponentiate, add up, divide."""

SOFTMAX_BACKWARD_FLOP = 5
"""Per score: dP·P, add up the row, subtract, multiply by P, scale."""

SCORE_BYTES = 4
"""Materialised scores are fp32 in every run dtype: torch's math attention works in fp32 (autocast included)."""

LSE_BYTES = 4
"""The logarithm of a softmax row's sum, which flash attention keeps, is fp32."""


@register("linear")
def linear(
    how: Execution,
    *,
    tokens: int,
    in_features: int,
    out_features: int,
    bias: bool = False,
    input_bytes: int | None = None,
    input_kept: bool = False,
    input_shared: bool = False,
) -> OpCost:
    """Linear layer y[N, O] = x[N, I] · Wᵀ[I, O] (+ b): 2·N·I·O FLOP forward, twice that backward.

    Backward is two products: dX[N, I] = dY[N, O] · W[O, I] and dW[O, I] = dYᵀ[O, N] · X[N, I], each 2·N·I·O. Both
    always exist here, because the input of every linear layer depends on a parameter (at least on the embedding).
    Under autocast, forward also copies x and W to the narrow type, and backward copies dX and dW back.

    Args:
        how: the execution.
        tokens: N.
        in_features: I.
        out_features: O.
        bias: whether there is a b[O].
        input_bytes: width of x as it arrives; default: the residual width.
        input_kept: another operation already keeps x, in the width that the product reads.
        input_shared: another linear layer reads the same x: it need not be kept twice unless each makes its own narrow
            copy, and the two gradients of x have to be added.
    """
    c, w = how.precision.compute_bytes, how.precision.weight_bytes
    x_bytes = how.precision.residual_bytes if input_bytes is None else input_bytes
    x, y, weight, b = tokens * in_features, tokens * out_features, in_features * out_features, out_features * bias
    product = 2 * tokens * in_features * out_features
    narrows_input = x_bytes != c and not how.fused
    forward = Cost(
        matmul_flop=product, vector_flop=tokens * b, read_bytes=(x + weight + b) * c, write_bytes=y * c
    ) + _cast(weight + b, w, c)
    backward = Cost(
        matmul_flop=2 * product,
        vector_flop=tokens * b,
        read_bytes=(2 * y + weight + x) * c + (y * c if bias else 0),
        write_bytes=(x + weight + b) * c,
    ) + _cast(weight + b, c, w)
    if narrows_input:
        forward += _cast(x, x_bytes, c)
        backward += _cast(x, c, x_bytes)
    if input_shared:
        backward += _gradient_sum(how, elements=x, width=x_bytes)
    kept = input_kept or (input_shared and not narrows_input)
    return OpCost(
        forward=forward,
        backward=backward,
        saved_bytes=0 if kept else x * c,
        weight_saved_bytes=0 if kept else x * c,
        weight_copy_bytes=weight * c if how.precision.casts else 0,
        input_bytes=x * x_bytes,
        output_bytes=y * c,
    )


def _cast(elements: int, from_bytes: int, to_bytes: int) -> Cost:
    """A copy to another width; nothing where the widths are equal."""
    if from_bytes == to_bytes:
        return Cost.ZERO
    return Cost(read_bytes=elements * from_bytes, write_bytes=elements * to_bytes)


def _gradient_sum(how: Execution, *, elements: int, width: int) -> Cost:
    """Adding the gradients of two uses of a tensor: read two, write one; compiled, one more read in the next kernel."""
    if how.fused:
        return Cost(vector_flop=elements, read_bytes=elements * how.precision.compute_bytes)
    return Cost(vector_flop=elements, read_bytes=2 * elements * width, write_bytes=elements * width)


@register("convolution")
def convolution(
    how: Execution,
    *,
    tokens: int,
    in_features: int,
    out_features: int,
    input_elements: int,
    input_gradient: bool,
) -> OpCost:
    """Convolution y[N, O] with bias, each output a product with I = channels x kernel inputs: 2·N·I·O FLOP forward.

    Backward is a product of the same size for the weight, and one for the input unless that is data.

    Args:
        how: the execution.
        tokens: N, positions of the output.
        in_features: I.
        out_features: O.
        input_elements: size of the input, whose elements more than one output may read.
        input_gradient: whether the input has a gradient (an image or a spectrogram has none).
    """
    c, w = how.precision.compute_bytes, how.precision.weight_bytes
    y, weights, product = (
        tokens * out_features,
        (in_features + 1) * out_features,
        2 * tokens * in_features * out_features,
    )
    x = input_elements
    return OpCost(
        forward=Cost(matmul_flop=product, vector_flop=y, read_bytes=(x + weights) * c, write_bytes=y * c)
        + _cast(weights, w, c),
        backward=Cost(
            matmul_flop=(1 + input_gradient) * product,
            vector_flop=y,
            read_bytes=((2 + input_gradient) * y + x + input_gradient * weights) * c,
            write_bytes=(weights + input_gradient * x) * c,
        )
        + _cast(weights, c, w),
        saved_bytes=x * c,
        weight_copy_bytes=in_features * out_features * c if how.precision.casts else 0,
        input_bytes=x * c if input_gradient else 0,
        output_bytes=y * c,
    )


@register("attention_core")
def attention_core(
    how: Execution,
    *,
    batch: int,
    seq_len: int,
    heads: int,
    kv_heads: int,
    head_dim: int,
    causal: bool = False,
    key_len: int | None = None,
    value_dim: int | None = None,
    value_within: int = 0,
    score_pairs: int | None = None,
    extra_score_flop: int = 0,
    bias_table: bool = False,
) -> OpCost:
    """Attention o = softmax(q·kᵀ/√D)·v without storing the scores (flash attention, Dao et al. 2022).

    Forward: q[T, D]·kᵀ[D, S] and p[T, S]·v[S, E] for each of B·H heads, 2·T·S·D and 2·T·S·E: 4·B·H·T²·D where keys are
    as many as queries and values as wide as keys.
    Backward: dV = pᵀ·dO, dP = dO·vᵀ, dQ = dS·k, dK = dSᵀ·q: twice the forward. A flash kernel also computes q·kᵀ again,
    which makes its backward 2.5 times its forward; that fifth product is recomputation, and no model FLOP.
    ``causal`` counts half of every product, the convention for work that skips what lies above the diagonal.

    Reads q, k, v and writes o and one fp32 logsumexp a row; backward reads these and dO, and writes dQ, dK, dV. k and v
    have K heads, not H (grouped queries). All of q, k, v, o and the logsumexp are kept.
    The fp32 kernels of CUDA do not take groups, and some software copies anyway (``repeats_kv``): there k and v are
    first repeated to H heads, which are then kept.

    Args:
        how: the execution.
        batch: B.
        seq_len: T.
        heads: H.
        kv_heads: K.
        head_dim: D.
        causal: count half of the pairs.
        key_len: S; default: T.
        value_dim: E; default: D.
        value_within: width beside E of the tensor that a head's value is a view of, which is kept whole.
        score_pairs: with ``causal``, twice the pairs of query and key that count, in place of T².
        extra_score_flop: operations a score beside the softmax (a bias, a cap).
        bias_table: a bias [H, T, S] is read, and its gradient written.
    """
    c = how.precision.compute_bytes
    keys, width = key_len or seq_len, value_dim or head_dim
    rows = batch * heads * seq_len
    q, o = rows * head_dim * c, rows * width * c
    grouped = batch * kv_heads * keys * (head_dim + width) * c
    kv, repeat, repeat_backward = grouped, Cost.ZERO, Cost.ZERO
    wide = how.device == "cuda" and not how.precision.casts and c == LSE_BYTES
    if (wide or how.repeats_kv) and kv_heads < heads:
        kv = grouped // kv_heads * heads
        repeat = Cost(read_bytes=grouped, write_bytes=kv)
        repeat_backward = Cost(vector_flop=kv // c, read_bytes=kv, write_bytes=grouped)
    lse = rows * LSE_BYTES
    pairs = (score_pairs or seq_len * keys) if causal else 2 * seq_len * keys
    products = batch * heads * pairs * (head_dim + width)
    scores = batch * heads * pairs // 2
    bias = heads * seq_len * keys * c if bias_table else 0
    return OpCost(
        forward=Cost(
            matmul_flop=products,
            vector_flop=(SOFTMAX_FLOP + extra_score_flop) * scores,
            read_bytes=q + kv + bias,
            write_bytes=o + lse,
        )
        + repeat,
        backward=Cost(
            matmul_flop=2 * products,
            vector_flop=(SOFTMAX_FLOP + SOFTMAX_BACKWARD_FLOP + 2 * extra_score_flop) * scores,
            read_bytes=q + 4 * o + kv + bias + 2 * lse,  # first o, dO (row sums of dO·o out); then all
            write_bytes=q + kv + bias + lse,
        )
        + repeat_backward,
        saved_bytes=q + o + kv + lse + batch * kv_heads * keys * value_within * c,
        input_bytes=q + grouped,
        output_bytes=o + lse,
    )


@register("attention_core_materialised")
def attention_core_materialised(
    how: Execution,
    *,
    batch: int,
    seq_len: int,
    heads: int,
    head_dim: int,
    causal: bool = False,
    dropout: bool = False,
    packed: bool = False,
) -> OpCost:
    """The same products as ``attention_core``, with the [B, H, T, T] scores in memory (torch's math attention).

    torch falls back to it where no fused kernel serves, as for attention dropout on a CPU. It works in fp32, whatever
    the run dtype: scales q and k, multiplies, softmax with its guard against rows that are masked throughout
    (three passes), dropout (mask, scale, multiply), multiplies by v.
    k and v are expanded to H heads first.
    Kept: scaled q and k, v, the softmax; with dropout also its fp32 mask and its result. ``packed``: q, k and v are
    views of one tensor; then v in fp32 keeps all three alive, while in a narrower type it is an fp32 copy of its own.
    """
    rows = batch * heads * seq_len
    q = rows * head_dim * SCORE_BYTES
    incoming = rows * head_dim * how.precision.compute_bytes
    scores = rows * seq_len * SCORE_BYTES
    share = 2 if causal else 1
    products = 4 * rows * seq_len * head_dim // share
    elements = rows * seq_len // share
    drop_flop, drop_passes = (2 * elements, 3) if dropout else (0, 0)
    v_kept = 3 * q if packed and not how.precision.casts else q
    return OpCost(
        forward=Cost(
            matmul_flop=products,
            vector_flop=SOFTMAX_FLOP * elements + drop_flop,
            read_bytes=3 * incoming + 3 * q + (4 + drop_passes) * scores,
            write_bytes=2 * q + incoming + (3 + drop_passes) * scores,
        ),
        backward=Cost(
            matmul_flop=2 * products,
            vector_flop=SOFTMAX_BACKWARD_FLOP * elements + drop_flop,
            read_bytes=incoming + 6 * q + (5 + 2 * dropout) * scores,
            write_bytes=3 * incoming + 3 * q + (2 + dropout) * scores,
        ),
        saved_bytes=2 * q + v_kept + (3 if dropout else 1) * scores,
        input_bytes=3 * incoming,
        output_bytes=q + scores,
    )


@register("attention_core_scores")
def attention_core_scores(
    how: Execution,
    *,
    batch: int,
    seq_len: int,
    heads: int,
    head_dim: int,
    value_dim: int | None = None,
    causal: bool = False,
    score_pairs: int | None = None,
    dropout: bool = False,
) -> OpCost:
    """The same products as ``attention_core``, with the [B, H, T, T] scores in memory in the format of the products.

    Megatron-LM's unfused attention: q·kᵀ, one kernel for scale, mask and softmax, dropout, p·v (Korthikanti et al.
    2022, section 4.1: 11·s·b·h and 5·a·s²·b bytes). Keys and values are repeated to all heads first. Kept: q, k, v,
    the softmax; with dropout also its mask of one byte and its result.
    """
    c, width = how.precision.compute_bytes, value_dim or head_dim
    rows = batch * heads * seq_len
    q, v = rows * head_dim * c, rows * width * c
    scores = rows * seq_len * c
    pairs = (score_pairs or seq_len * seq_len) if causal else 2 * seq_len * seq_len
    products = batch * heads * pairs * (head_dim + width)
    elements = batch * heads * pairs // 2
    mask = rows * seq_len if dropout else 0
    dropped, drop_flop = (scores, 2 * elements) if dropout else (0, 0)
    return OpCost(
        forward=Cost(
            matmul_flop=products,
            vector_flop=SOFTMAX_FLOP * elements + drop_flop,
            read_bytes=2 * q + v + 2 * scores + dropped,
            write_bytes=v + 2 * scores + dropped + mask,
        ),
        backward=Cost(
            matmul_flop=2 * products,
            vector_flop=SOFTMAX_BACKWARD_FLOP * elements + drop_flop,
            read_bytes=2 * q + 3 * v + 5 * scores + dropped + mask,  # dO·vᵀ, pᵀ·dO | dropout | softmax | dS·k, dSᵀ·q
            write_bytes=2 * q + v + 2 * scores + dropped,
        ),
        saved_bytes=2 * q + v + scores + mask + dropped,
        input_bytes=2 * q + v,
        output_bytes=v + scores,
    )
