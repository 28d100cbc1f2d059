"""What does a fused operator of another library cost? By its name and the shapes that a profile recorded.

Arguments stand in the order of each library's own signature. Bytes are those of one pass over what is read and written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

from hwprof.count.ops.cost import Cost
from hwprof.count.ops.matmul import SOFTMAX_BACKWARD_FLOP, SOFTMAX_FLOP
from hwprof.spans.arguments import Recorded, element_of


@dataclass(frozen=True, slots=True)
class _Tensor:
    shape: tuple[int, ...]
    size_bytes: int


_Cost = Callable[[Recorded], Cost]


def _cost(matmul_flop: int, vector_flop: int, read_bytes: int, write_bytes: int) -> Cost:
    return Cost(matmul_flop=matmul_flop, vector_flop=vector_flop, read_bytes=read_bytes, write_bytes=write_bytes)


def _tensor(call: Recorded, place: int) -> _Tensor:
    element = element_of(call.types[place])
    if element is None:
        raise ValueError(f"argument {place} is no tensor")
    shape = tuple(int(size) for size in call.dims[place])
    return _Tensor(shape, prod(shape) * element[1])


def _all(call: Recorded) -> list[_Tensor]:
    return [_tensor(call, place) for place, kind in enumerate(call.types) if element_of(kind) and call.dims[place]]


def _attention(first: int, *, backward: bool = False) -> _Cost:
    """Queries [batch, T, heads, D], keys [batch, S, key heads, D] and values from an argument on; all scores."""

    def cost(call: Recorded) -> Cost:
        q, k, v = (_tensor(call, place) for place in range(first, first + 3))
        batch, queries, heads, width = q.shape
        return _scores(batch * heads * queries * k.shape[1], width + v.shape[-1], (q, k, v), backward=backward)

    return cost


def _packed_attention(first: int, *, starts: int, longest: tuple[int, int], backward: bool = False) -> _Cost:
    """The same of packed sequences [tokens, heads, D]; each counts as long as the longest, as torch's counter does."""

    def cost(call: Recorded) -> Cost:
        q, k, v = (_tensor(call, place) for place in range(first, first + 3))
        sequences = _tensor(call, starts).shape[0] - 1
        queries, keys = (int(call.values[place]) for place in longest)
        scores = sequences * q.shape[-2] * queries * keys
        return _scores(scores, q.shape[-1] + v.shape[-1], (q, k, v), backward=backward)

    return cost


def _scores(scores: int, inner: int, qkv: Sequence[_Tensor], *, backward: bool) -> Cost:
    """Forward reads q, k, v, writes a result like q; backward reads result and gradient too, writes dq, dk, dv."""
    q, k, v = qkv
    inputs = q.size_bytes + k.size_bytes + v.size_bytes
    if not backward:
        return _cost(2 * scores * inner, SOFTMAX_FLOP * scores, inputs, q.size_bytes)
    flop = (SOFTMAX_FLOP + SOFTMAX_BACKWARD_FLOP) * scores
    return _cost(4 * scores * inner, flop, inputs + 2 * q.size_bytes, inputs)


def _product(left: int, right: int, *, transposed: bool, written: bool) -> _Cost:
    """[m, k] with [k, n], or with [n, k] where ``transposed``; ``written``: the result is among the arguments."""

    def cost(call: Recorded) -> Cost:
        a, b = _tensor(call, left), _tensor(call, right)
        inner, columns = b.shape[::-1] if transposed else b.shape
        if a.shape[-1] != inner:
            raise ValueError("the matrices do not fit")
        rows = prod(a.shape[:-1])
        result = 0 if written else rows * columns * 2  # half precision, as these operators give
        return _cost(2 * rows * inner * columns, 0, sum(each.size_bytes for each in _all(call)), result)

    return cost


def _pass(*, results: Sequence[int] = (), again: Sequence[int] = (), but: Sequence[int] = (), flop: int = 1) -> _Cost:
    """All tensors once; ``results`` are as large as these arguments, ``again``: written too, ``but``: hardly read."""

    def cost(call: Recorded) -> Cost:
        unread = sum(_tensor(call, place).size_bytes for place in but)
        read = sum(each.size_bytes for each in _all(call)) - unread
        write = sum(_tensor(call, place).size_bytes for place in (*results, *again))
        return _cost(0, flop * max(prod(each.shape) for each in _all(call)), read, write)

    return cost


def _linear_cross_entropy(call: Recorded) -> Cost:
    """Hidden [tokens, H] and head [V, H]: logits, and at once the gradients of both: three products."""
    hidden, head = _tensor(call, 0), _tensor(call, 1)
    flop = 2 * prod(hidden.shape) * head.shape[0]
    once = hidden.size_bytes + head.size_bytes
    return _cost(3 * flop, 5 * hidden.shape[0] * head.shape[0], 2 * once, once)


FUSED: dict[str, _Cost] = {
    "flash_attn::_flash_attn_forward": _attention(0),
    "flash_attn::_flash_attn_backward": _attention(1, backward=True),
    "flash_attn::_flash_attn_varlen_forward": _packed_attention(0, starts=3, longest=(5, 6)),
    "flash_attn::_flash_attn_varlen_backward": _packed_attention(1, starts=9, longest=(11, 12), backward=True),
    "flash_attn_3::fwd": _attention(0),
    "FlashAttnFunc": _attention(0),
    "aiter::_flash_attn_forward": _attention(0),
    "aiter::mha_fwd": _attention(0),
    "aiter::fmha_v3_fwd": _attention(0),
    "aiter::wrapper_fmha_v3_fwd": _attention(0),
    "aiter::mha_bwd": _attention(1, backward=True),
    "aiter::gemm_a8w8": _product(0, 1, transposed=True, written=False),
    "aiter::gemm_a16w16": _product(0, 1, transposed=True, written=False),
    "aiter::rmsnorm2d_fwd": _pass(results=[0], flop=4),
    "aiter::rms_norm": _pass(results=[0], flop=4),
    "trtllm::cublas_scaled_mm": _product(0, 1, transposed=False, written=False),
    "bitsandbytes::int8_linear_matmul": _product(0, 1, transposed=True, written=False),
    "_C::cutlass_scaled_mm": _product(1, 2, transposed=False, written=True),
    "_C::rms_norm": _pass(flop=4),
    "_C::fused_add_rms_norm": _pass(again=[0, 1], flop=5),
    "_C::silu_and_mul": _pass(flop=5),
    "_C::gelu_and_mul": _pass(flop=10),
    "_C::rotary_embedding": _pass(again=[1, 2], but=[4], flop=3),
    "_C_cache_ops::reshape_and_cache_flash": _pass(again=[0, 1], but=[2, 3], flop=0),
    "flashinfer::rmsnorm": _pass(flop=4),
    "flashinfer::fused_add_rmsnorm": _pass(again=[0, 1], flop=5),
    "flashinfer::silu_and_mul": _pass(flop=5),
    "LigerRMSNormFunction": _pass(results=[0], flop=4),
    "LigerLayerNormFunction": _pass(results=[0], flop=8),
    "LigerSiLUMulFunction": _pass(results=[0], flop=5),
    "LigerGELUMulFunction": _pass(results=[0], flop=10),
    "LigerRopeFunction": _pass(again=[0, 1], flop=3),
    "LigerCrossEntropyFunction": _pass(again=[0], flop=5),
    "LigerFusedLinearCrossEntropyFunction": _linear_cross_entropy,
}
"""Operator, or autograd function -> its cost. FLOP of each element as in ``registry.FLOP_PER_ELEMENT``."""

CAUSAL: dict[str, int] = {
    "flash_attn::_flash_attn_forward": 5,
    "flash_attn::_flash_attn_backward": 11,
    "flash_attn::_flash_attn_varlen_forward": 9,
    "flash_attn::_flash_attn_varlen_backward": 15,
    "FlashAttnFunc": 5,
    "aiter::_flash_attn_forward": 5,
    "aiter::mha_fwd": 5,
    "aiter::fmha_v3_fwd": 5,
    "aiter::wrapper_fmha_v3_fwd": 5,
    "aiter::mha_bwd": 8,
}
"""Which argument of an attention says that it is causal."""

_INDUCTOR = "triton_"
_TEMPLATE = "triton_tem_fused_mm", "triton_tem_fused_addmm"


def fused_cost(name: str, call: Recorded) -> Cost | None:
    """The cost of one call; None where the operator is not known, or its shapes are others.

    A kernel of inductor's reads or writes each of its buffers; one that does both counts once.
    """
    if name.startswith(_TEMPLATE):
        matrices = [place for place, dims in enumerate(call.dims) if dims and len(dims) == 2]
        return _product(*matrices[-3:-1], transposed=False, written=True)(call) if len(matrices) >= 3 else None
    if name.startswith(_INDUCTOR):
        return _pass(flop=0)(call) if _all(call) else None
    found = FUSED.get(name)
    return found(call) if found else None
