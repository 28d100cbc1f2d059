"""What do torch's matrix products cost? Products of matrices, convolutions, fused attention.

A product of [m, k] and [k, n] is 2·m·n·k FLOP, as ``FlopCounterMode`` counts it; grouped and integer products, which it
leaves out, are counted alike. A matrix times a vector, which it leaves out too, counts as other FLOP.
"""

from __future__ import annotations

from math import prod

from hwprof.count.aten.registry import moved, register, traffic
from hwprof.count.ops.cost import Cost
from hwprof.count.ops.matmul import SOFTMAX_BACKWARD_FLOP, SOFTMAX_FLOP
from hwprof.specs.record.captured import AtenCall, TensorView


def _product_flop(left: TensorView, right: TensorView) -> int:
    """[.., m, k]·[.., k, n]; a batch of both, or rows grouped by the matrix that they meet, which is one product."""
    batch = left.shape[0] if len(left.shape) == len(right.shape) == 3 else 1
    return 2 * batch * left.shape[-2] * left.shape[-1] * right.shape[-1]


@register("aten::mm", "aten::bmm", "aten::_int_mm", "aten::_scaled_mm", "aten::_grouped_mm", "aten::_scaled_grouped_mm")
def product(call: AtenCall) -> Cost:
    """A product of two matrices, of two batches of matrices, or of rows with one matrix of several for each group."""
    return traffic(call) + Cost(matmul_flop=_product_flop(call.tensor("self"), call.tensor("mat2")))


@register("aten::addmm")
def product_and_sum(call: AtenCall) -> Cost:
    """The product of two matrices, added to a third or to a bias."""
    return _added(call, "mat1", "mat2")


@register("aten::baddbmm", "aten::addbmm")
def batch_product_and_sum(call: AtenCall) -> Cost:
    """The products of two batches of matrices, added to a third."""
    return _added(call, "batch1", "batch2")


def _added(call: AtenCall, left: str, right: str) -> Cost:
    flop = _product_flop(call.tensor(left), call.tensor(right))
    return traffic(call) + Cost(matmul_flop=flop, vector_flop=prod(call.results[0].shape))


@register("aten::mv", "aten::dot", "aten::vdot")
def vector_product(call: AtenCall) -> Cost:
    """A matrix or a vector, times a vector."""
    return traffic(call) + Cost(vector_flop=2 * prod(call.tensor("self").shape))


@register("aten::addmv")
def vector_product_and_sum(call: AtenCall) -> Cost:
    """A matrix times a vector, added to another."""
    return traffic(call) + Cost(vector_flop=2 * prod(call.tensor("mat").shape))


def _convolution_flop(moving: TensorView, kernel: tuple[int, ...]) -> int:
    """``moving`` [batch, channels, places..]: at each of its places in the batch, all of the kernel; 2 FLOP each."""
    return 2 * moving.shape[0] * prod(moving.shape[2:]) * prod(kernel)


@register("aten::convolution", "aten::_convolution", "aten::convolution_overrideable")
def convolution(call: AtenCall) -> Cost:
    """A convolution with kernel [outputs, inputs of a group, places..]; transposed, the input's places count."""
    y = call.results[0]
    moving = call.tensor("input") if call.arguments["transposed"] else y
    bias = prod(y.shape) if call.arguments["bias"] is not None else 0
    flop = _convolution_flop(moving, call.tensor("weight").shape)
    return traffic(call) + Cost(matmul_flop=flop, vector_flop=bias)


@register("aten::convolution_backward", "aten::convolution_backward_overrideable")
def convolution_backward(call: AtenCall) -> Cost:
    """Gradients of input, kernel and bias, those that ``output_mask`` asks for; each reads the result's gradient.

    Input and kernel take a convolution of the forward's FLOP each. The kernel's, of a grouped convolution, is counted
    as ``FlopCounterMode`` counts it: as if it had no groups.
    """
    dy = call.tensor("grad_output" if "grad_output" in call.arguments else "grad")
    x, weight = call.tensor("input"), call.tensor("weight")
    for_input, for_weight, for_bias = _mask(call)
    moving, fixed = (x, dy) if call.arguments["transposed"] else (dy, x)
    flop = for_input * _convolution_flop(moving, weight.shape)
    flop += for_weight * _convolution_flop(moving, (moving.shape[1], fixed.shape[1], *weight.shape[2:]))
    read = [dy] * (for_input + for_weight + for_bias) + [weight] * for_input + [x] * for_weight
    return moved(read, call.outputs) + Cost(matmul_flop=flop, vector_flop=for_bias * prod(dy.shape))


def _mask(call: AtenCall) -> tuple[bool, bool, bool]:
    mask = call.arguments["output_mask"]
    assert isinstance(mask, tuple)
    first, second, third = (bool(wanted) for wanted in mask)
    return first, second, third


@register("aten::linalg_solve_triangular")
def triangular_solve(call: AtenCall) -> Cost:
    """A triangular system [n, n] for m right sides by substitution, n²·m, which torch's counter leaves out.

    (Golub and Van Loan, Matrix Computations, section 3.1.)
    """
    size = call.tensor("self").shape[-1]
    return traffic(call) + Cost(vector_flop=size * call.results[0].elements)


ATTENTION = (
    "aten::_scaled_dot_product_flash_attention",
    "aten::_scaled_dot_product_flash_attention_for_cpu",
    "aten::_scaled_dot_product_efficient_attention",
    "aten::_scaled_dot_product_cudnn_attention",
    "aten::_scaled_dot_product_fused_attention_overrideable",
)
"""Attention of queries [batch, heads, T, D] to keys [batch, key heads, S, D] and values [batch, key heads, S, E]."""

_HEADS_SECOND = ("aten::_flash_attention", "aten::_efficient_attention")
"""The same of [batch, T, heads, D], or of packed sequences of up to ``max_q`` tokens, [tokens, heads, D]."""

_PACKING = (("cum_seq_q", "max_q", "max_k"), ("cu_seqlens_q", "max_seqlen_q", "max_seqlen_k"))
"""Arguments that say where packed sequences start, and how long the longest is."""


@register(*ATTENTION, *(f"{name}_forward" for name in _HEADS_SECOND))
def attention(call: AtenCall) -> Cost:
    """Scores and mixing of values, all of them whatever the mask: 2·T·S·D and 2·T·S·E FLOP for a query head.

    Where sequences are packed, each counts as long as the longest, as in ``FlopCounterMode``.
    """
    scores, inner = _scores(call)
    return traffic(call) + Cost(matmul_flop=2 * scores * inner, vector_flop=SOFTMAX_FLOP * scores)


@register(*(f"{name}_backward" for name in (*ATTENTION, *_HEADS_SECOND)))
def attention_backward(call: AtenCall) -> Cost:
    """dV, dP, dQ, dK: twice the forward. Reads the result and its gradient once more for the sums of their rows.

    ``FlopCounterMode`` adds the scores that the kernel computes again; that is recomputation and no model FLOP.
    """
    scores, inner = _scores(call)
    names = ("grad_out", "grad_out_", "grad_output", "out", "logsumexp")
    again = [call.tensor(name) for name in names if isinstance(call.arguments.get(name), TensorView)]
    row_sums = [tensor for tensor in again if tensor is call.arguments.get("logsumexp")]
    vector_flop = (SOFTMAX_FLOP + SOFTMAX_BACKWARD_FLOP) * scores
    return traffic(call) + moved(again, row_sums) + Cost(matmul_flop=4 * scores * inner, vector_flop=vector_flop)


def _scores(call: AtenCall) -> tuple[int, int]:
    """Scores of all query heads, and D + E."""
    q, k, v = (call.tensor(name).shape for name in ("query", "key", "value"))
    inner = q[-1] + v[-1]
    for offsets, longest, longest_key in _PACKING:
        starts = call.arguments.get(offsets)
        if isinstance(starts, TensorView):
            lengths = [call.arguments[longest], call.arguments[longest_key]]
            queries, keys = (length for length in lengths if isinstance(length, int))
            return (starts.shape[0] - 1) * q[-2] * queries * keys, inner
    heads, places = (2, 1) if call.name.removesuffix("_backward").removesuffix("_forward") in _HEADS_SECOND else (1, 2)
    return q[0] * q[heads] * q[places] * k[places], inner
