"""How many FLOP a second does attention reach at the model's own shape, forward and backward?

The model's own attention core is called on random data laid out as the model's projections leave it. FLOP are those of
the scores and the mixing of values: forward 4 x batch x heads x seq_len^2 x head_dim, backward twice that, and of a
causal model exactly half, as the kernel may skip what lies above the diagonal. Result and gradients are checked against
float64, so that a fast wrong answer is an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812 (the name that torch's own documentation uses)

from hwprof.measure.probes.attention_check import TOLERANCE, Core, check_attention, random_normal
from hwprof.measure.probes.bench import Bench, CannotRunError, Conditions
from hwprof.measure.probes.matmul import TORCH_DTYPE, heat, l2_flush, matmul_precision, require_support
from hwprof.measure.probes.operators import warmed_up
from hwprof.measure.probes.rotation import rotating
from hwprof.measure.probes.sampling import Work
from hwprof.specs.job.settings import Dtype
from hwprof.specs.measurement import Ceiling
from hwprof.specs.model.spec import ModelSpec
from hwprof.train.attention import AttentionCore, supports_native_gqa

Pass = Literal["forward", "backward"]
PASSES: tuple[Pass, ...] = ("forward", "backward")


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionShape:
    """The attention of one layer of ``spec`` on one micro-batch of ``batch`` sequences of ``seq_len`` tokens."""

    spec: ModelSpec
    batch: int
    seq_len: int

    def flop(self, direction: Pass) -> int:
        """Work of the matrix products; of a causal model half of it."""
        spec = self.spec
        full = 4 * self.batch * spec.heads * self.seq_len**2 * spec.head_dim
        return full // (2 if spec.causal else 1) * (1 if direction == "forward" else 2)

    def moved_bytes(self, dtype: Dtype, direction: Pass) -> int:
        """Query, result, key and value once each; backward their gradients beside them."""
        heads = 2 * self.spec.heads + 2 * self.spec.kv_heads
        elements = self.batch * self.seq_len * self.spec.head_dim * heads
        return elements * TORCH_DTYPE[dtype].itemsize * (1 if direction == "forward" else 2)

    def __str__(self) -> str:
        return f"{self.batch}x{self.spec.heads}x{self.spec.kv_heads}x{self.seq_len}x{self.spec.head_dim}"


@dataclass(frozen=True, slots=True)
class _Operands:
    """Heads as the model's projections leave them, [batch, seq_len, (kv_)heads, head_dim], with gradients wanted."""

    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor

    @property
    def all(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return self.query, self.key, self.value


@dataclass(frozen=True, slots=True)
class AttentionPass:
    """One direction of an attention."""

    shape: AttentionShape
    direction: Pass

    def __str__(self) -> str:
        return f"{self.shape}.{self.direction}"


def attention_ceiling(
    bench: Bench, dtype: Dtype, shape: AttentionShape, direction: Pass, *, deadline_s: float
) -> Ceiling:
    """What the model's attention core reaches in one direction.

    Forward runs with gradients wanted, so that it keeps what backward needs, as in training. Backward is timed on its
    own, again and again over what one forward kept.

    Args:
        bench: where to measure.
        dtype: the operands' format.
        shape: the attention.
        direction: which pass.
        deadline_s: time set aside for it.

    Raises:
        CannotRunError: the device does not compute in ``dtype``, or a sequence is a single token.
        WorkError: a result or a gradient is wrong.
    """
    require_support(bench.device, dtype)
    if shape.seq_len == 1:
        raise CannotRunError("attention over a single token multiplies nothing that could be timed")
    with torch.inference_mode(mode=False), torch.enable_grad(), matmul_precision(dtype):
        check_attention(
            _core(shape.spec, bench.device, dropout=False),
            _operands(bench.device, dtype, shape).all,
            causal=shape.spec.causal,
            tolerance=TOLERANCE[dtype],
        )
        core = _core(shape.spec, bench.device, dropout=True)
        work = rotating(
            lambda: _work(core, _operands(bench.device, dtype, shape), direction),
            shape.moved_bytes(dtype, direction),
            bench.device,
        )
        warm = warmed_up(bench, work, deadline_s=deadline_s)
        if bench.device.type != "cpu":
            heat(bench, work)
        timed = warm.bench.time(work, deadline_s=warm.deadline_s, prepare=l2_flush(bench.device))
    return bench.ceiling(
        f"attention.{dtype}.{shape}.{direction}",
        "compute",
        timed,
        work_per_call=shape.flop(direction),
        dtype=dtype,
        conditions=_conditions(shape) | {"operators": warm.operators},
    )


def _conditions(shape: AttentionShape) -> Conditions:
    return {
        "shape_batch_x_heads_x_kv_heads_x_seq_len_x_head_dim": str(shape),
        "counted_flop": "causal: half of all products" if shape.spec.causal else "full: all products",
        "dropout": shape.spec.dropout,
    }


def _operands(device: torch.device, dtype: Dtype, shape: AttentionShape) -> _Operands:
    """Unit normal heads: of a decoder [batch, seq_len, ...] in memory, of the stock encoder [seq_len, batch, ...]."""
    generator = torch.Generator(device).manual_seed(0)
    first, second = (shape.batch, shape.seq_len) if shape.spec.causal else (shape.seq_len, shape.batch)

    def heads(count: int) -> torch.Tensor:
        values = torch.randn(first, second, count, shape.spec.head_dim, generator=generator, device=device)
        values = values.to(TORCH_DTYPE[dtype])
        return (values if shape.spec.causal else values.transpose(0, 1)).requires_grad_()

    return _Operands(heads(shape.spec.heads), heads(shape.spec.kv_heads), heads(shape.spec.kv_heads))


def _core(spec: ModelSpec, device: torch.device, *, dropout: bool) -> Core:
    if spec.causal:
        group, native_gqa = spec.heads // spec.kv_heads, supports_native_gqa(device)
        return AttentionCore(group, dropout=spec.dropout, native_gqa=native_gqa).train(dropout)
    return _StockCore(spec.dropout if dropout else 0.0)


@dataclass(frozen=True, slots=True)
class _StockCore:
    """What ``torch.nn.functional.multi_head_attention_forward`` does between its projections, weights not wanted."""

    dropout_probability: float

    def __call__(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        query, key, value = (heads.transpose(1, 2) for heads in (query, key, value))
        mixed = F.scaled_dot_product_attention(query, key, value, dropout_p=self.dropout_probability)
        return mixed.permute(2, 0, 1, 3).contiguous().flatten(2).transpose(0, 1)


def _work(core: Core, operands: _Operands, direction: Pass) -> Work:
    if direction == "forward":
        return lambda: core(*operands.all)
    mixed = core(*operands.all)
    gradient = random_normal(mixed.device, *mixed.shape).to(mixed.dtype)
    return lambda: torch.autograd.grad(mixed, operands.all, gradient, retain_graph=True)
