"""How is a model served? Widths of weights, activations and cache, and the form in which latent attention decodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hwprof.count.ops.operation import Execution
from hwprof.count.ops.precision import Precision
from hwprof.errors import InputError
from hwprof.specs.job.settings import Dtype
from hwprof.specs.model.spec import ModelSpec

WeightFormat = Literal["fp8", "int8", "int4"]
CacheDtype = Literal["fp32", "tf32", "bf16", "fp16", "fp8", "int8"]
MlaForm = Literal["absorbed", "naive", "reexpanded"]

CACHE_BYTES: dict[CacheDtype, int] = {"fp32": 4, "tf32": 4, "bf16": 2, "fp16": 2, "fp8": 1, "int8": 1}
"""Bytes of one number of the cache. Scales of the 1-byte formats, one a tensor or a head, are left out."""

INT4_GROUP = 128
"""Weights of a row that share a scale (GPTQ, AWQ); the scale is 2 bytes, there is no zero point."""

ROW_SCALE_BYTES = 4
"""fp8 and int8 weights have one fp32 scale a row (output feature)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """Widths of the numbers of inference, where all that is not said otherwise has the width of ``dtype``.

    Attributes:
        dtype: of products, activations, norms and embeddings, and of whatever the next two leave open.
        weights: format in which the matrices of layers are stored and read, to be widened on chip before a product
            (weight-only quantisation); None = ``dtype``. Embedding, head, router, norms and biases stay in ``dtype``.
        cache: of the key-value cache; None = ``dtype``.
        mla: how latent attention decodes. ``absorbed``: the latent vector is cached, and queries are brought to its
            width (DeepSeek-V2, section 2.1.2); ``naive``: keys and values of all heads are cached; ``reexpanded``: the
            latent vector is cached, and keys and values of all tokens are computed from it in each step.
    """

    dtype: Dtype = "bf16"
    weights: WeightFormat | None = None
    cache: CacheDtype | None = None
    mla: MlaForm = "absorbed"

    @property
    def compute_bytes(self) -> int:
        """One number of an activation, and of a weight that is not stored narrower."""
        return Precision.of(self.dtype).compute_bytes

    @property
    def cache_dtype(self) -> CacheDtype:
        """What the cache holds."""
        return self.cache or self.dtype

    @property
    def cache_bytes(self) -> int:
        """One number of the cache."""
        return CACHE_BYTES[self.cache_dtype]

    @property
    def execution(self) -> Execution:
        """The same widths as the op table takes them: no casts, eager kernels."""
        width = self.compute_bytes
        precision = Precision(name=self.dtype, weight_bytes=width, compute_bytes=width, residual_bytes=width)
        return Execution(precision=precision)


def served(spec: ModelSpec) -> ModelSpec:
    """The model as inference runs it: without dropout and without the layers for multi-token prediction."""
    return spec.changed(dropout=0.0, mtp_layers=0)


def check_lengths(spec: ModelSpec, *, batch_size: int, tokens: int, source_tokens: int) -> None:
    """Refuse a batch or a length that can't be.

    Raises:
        InputError: no sequence, no token, more than there are learned positions; a source that is missing, or that
            there is nothing to read.
    """
    if batch_size < 1 or tokens < 1:
        raise InputError(
            f"a batch of {batch_size} x {tokens} tokens has none",
            remedy="give a batch size and a length of at least 1",
        )
    if spec.positions == "learned" and not spec.vision and tokens > spec.max_seq_len:
        raise InputError(
            f"{spec.name} can't take {tokens} tokens",
            expectation=f"its learned positions end at {spec.max_seq_len}",
            remedy=f"let prompt and new tokens be at most {spec.max_seq_len}",
        )
    if (spec.kind == "encoder_decoder") != (source_tokens > 0):
        raise InputError(
            f"{source_tokens} source tokens for {spec.name}, which is of kind {spec.kind!r}",
            expectation="an encoder-decoder, and no other model, reads a source of at least 1 token",
        )
