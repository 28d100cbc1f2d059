"""What stands for attention whose values are not as wide as its keys? A CPU has no kernel for it, and keeps all scores.

Latent attention (DeepSeek, Kimi, GLM) calls torch's fused attention so. On a GPU its memory-efficient kernel runs,
which takes both widths and keeps no scores; on fake tensors it can be called, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (the name that torch's own documentation uses)
from torch._subclasses.fake_tensor import FakeTensor

_MORE = ("attn_mask", "dropout_p", "is_causal")
"""What it takes after query, key and value."""

_SIZES = 4
"""Of queries: sequences, heads, tokens, width."""


@contextmanager
def with_kernels_of_gpus() -> Iterator[None]:
    """Such attention of fake tensors as one kernel."""
    own = F.scaled_dot_product_attention

    def attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *more: Any, **named: Any) -> Any:
        if not _is_unequal(query, key, value):
            return own(query, key, value, *more, **named)
        given = dict(zip(_MORE, more, strict=False)) | named
        bias, rate, causal = given.get("attn_mask"), given.get("dropout_p", 0.0), given.get("is_causal", False)
        if bias is not None and bias.dtype is torch.bool:
            bias = torch.where(bias, 0.0, -torch.inf).to(query.dtype)
        kernel = torch.ops.aten._scaled_dot_product_efficient_attention  # noqa: SLF001 (no other name)
        return kernel(query, key, value, bias, True, rate, causal, scale=given.get("scale"))[0]

    setattr(F, own.__name__, attention)
    try:
        yield
    finally:
        setattr(F, own.__name__, own)


def _is_unequal(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> bool:
    return (
        isinstance(query, FakeTensor)
        and query.dim() == _SIZES
        and query.shape[1] == key.shape[1] == value.shape[1]
        and query.shape[-1] != value.shape[-1]
    )
