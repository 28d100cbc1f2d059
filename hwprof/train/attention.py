"""How does a token look at those before it? Rotary positions and causal, grouped-query attention."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812 (the name that torch's own documentation uses)
from torch import nn

from hwprof.specs.model.spec import ModelSpec
from hwprof.train.cache import Append, LayerCache


def rotary_tables(spec: ModelSpec) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines of the rotation angles, each fp32 [max_seq_len, head_dim / 2].

    Pair i at position p turns by p * theta ** (-2 i / head_dim) (Su et al. 2021, equation 15).
    """
    pairs = torch.arange(0, spec.head_dim, 2, dtype=torch.float32) / spec.head_dim
    angles = torch.outer(torch.arange(spec.max_seq_len, dtype=torch.float32), spec.rope_theta**-pairs)
    return angles.cos(), angles.sin()


class Rope(nn.Module):
    """Rotary position embedding of queries and keys; element i is paired with element i + head_dim / 2.

    The rotation is done in fp32 and cast back, as bf16 cosines would blur positions far apart.
    """

    cosines: torch.Tensor
    sines: torch.Tensor

    def __init__(self, tables: tuple[torch.Tensor, torch.Tensor]) -> None:
        super().__init__()
        self.register_buffer("cosines", tables[0], persistent=False)
        self.register_buffer("sines", tables[1], persistent=False)

    def forward(self, query: torch.Tensor, key: torch.Tensor, start: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
        """Rotate ``query`` [batch, seq, heads, head_dim] and ``key`` [batch, seq, kv_heads, head_dim].

        ``start``: position of the first of them.
        """
        places = slice(start, start + query.shape[1])
        cosines, sines = self.cosines[places, None], self.sines[places, None]
        return _rotated(query, cosines, sines), _rotated(key, cosines, sines)


def _rotated(heads: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor) -> torch.Tensor:
    real, imaginary = heads.chunk(2, dim=-1)
    turned = (real * cosines - imaginary * sines, imaginary * cosines + real * sines)
    return torch.cat(turned, dim=-1).to(heads.dtype)


class AttentionCore(nn.Module):
    """softmax(Q K^T / sqrt(head_dim)) V with a causal mask, by torch's fused kernels, with the head transposes.

    A query over more keys than itself is one new token, which sees them all.

    Args:
        group: query heads that share a key/value head.
        dropout: on attention weights, in training.
        native_gqa: hand grouped key/value heads to the kernel as they are; else repeat them first.
    """

    def __init__(self, group: int, *, dropout: float = 0.0, native_gqa: bool) -> None:
        super().__init__()
        self.group = group
        self.dropout_probability = dropout
        self.native_gqa = native_gqa

    def forward(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Heads [batch, seq, (kv_)heads, head_dim] -> mixed values [batch, seq, heads * head_dim]."""
        query, key, value = (heads.transpose(1, 2) for heads in (query, key, value))
        dropout = self.dropout_probability if self.training else 0.0
        causal = query.shape[2] == key.shape[2]
        attend = partial(F.scaled_dot_product_attention, dropout_p=dropout, is_causal=causal)
        if self.group > 1 and self._kernel_takes_groups(query):
            attend = partial(attend, enable_gqa=True)
        elif self.group > 1:
            key, value = (heads.repeat_interleave(self.group, dim=1) for heads in (key, value))
        return attend(query, key, value).transpose(1, 2).flatten(2)

    def _kernel_takes_groups(self, query: torch.Tensor) -> bool:
        # On CUDA only FlashAttention takes groups, and it is for 16-bit types only; with others SDPA would fall back
        # to the math kernel, which stores seq_len ** 2 scores.
        return self.native_gqa and (query.device.type != "cuda" or query.dtype in {torch.float16, torch.bfloat16})


def supports_native_gqa(device: torch.device) -> bool:
    """Whether a fused attention kernel of ``device`` reads grouped key/value heads without repeating them."""
    if device.type == "cuda":  # FlashAttention 2 needs compute capability 8.0; the argument came with torch 2.5
        return torch.__version__ >= "2.5" and bool(torch.cuda.get_device_capability(device) >= (8, 0))
    if device.type != "cpu":
        return False
    return torch.__version__ >= "2.13"  # the oldest release whose CPU flash kernel was seen to take groups


class Attention(nn.Module):
    """Projections, rotary positions if any, the attention itself, and the output projection."""

    def __init__(self, spec: ModelSpec, tables: tuple[torch.Tensor, torch.Tensor] | None) -> None:
        super().__init__()
        qkv_bias = spec.attention_bias != "none"
        self.head_dim = spec.head_dim
        self.query = nn.Linear(spec.d_model, spec.q_dim, bias=qkv_bias)
        self.key = nn.Linear(spec.d_model, spec.kv_dim, bias=qkv_bias)
        self.value = nn.Linear(spec.d_model, spec.kv_dim, bias=qkv_bias)
        self.rope = None if tables is None else Rope(tables)
        self.cache = Append()
        native_gqa = supports_native_gqa(self.query.weight.device)
        self.core = AttentionCore(spec.heads // spec.kv_heads, dropout=spec.dropout, native_gqa=native_gqa)
        self.output = nn.Linear(spec.q_dim, spec.d_model, bias=spec.attention_bias == "all")

    def forward(self, vectors: torch.Tensor, kept: LayerCache | None = None) -> torch.Tensor:
        """Vectors [batch, seq, d_model] -> what each token gathers, same shape; from what is ``kept``, too."""
        query, key, value = (
            projection(vectors).unflatten(-1, (-1, self.head_dim)) for projection in (self.query, self.key, self.value)
        )
        if self.rope is not None:
            query, key = self.rope(query, key, kept.length if kept else 0)
        if kept is not None:
            key, value = self.cache(kept, key, value)
        gathered: torch.Tensor = self.output(self.core(query, key, value))
        return gathered
