"""Bytes kept for backward by experts, latent attention and cross-attention, against small modules written out in torch.

The modules are the plainest that do the work, in fp32 on the CPU; autograd says what it keeps of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (the name that torch's own documentation uses)
from torch import Tensor, nn

from hwprof.count.blocks.transformer import Precision, model_ops
from hwprof.specs.model.spec import ModelSpec

BATCH, SEQ_LEN, D = 2, 6, 32

pytestmark = pytest.mark.skipif(
    torch.__version__ < (2, 13), reason="older CPU kernels keep other tensors than those that are counted"
)


def packed_bytes(module: nn.Module, *inputs: Tensor) -> int:
    """Bytes of all storages that autograd keeps when the module runs, but for those of its parameters."""
    own = {tensor.untyped_storage().data_ptr() for tensor in module.parameters()}
    storages: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        module(*inputs)
    return sum(storage.nbytes() for storage in storages.values())


def counted_bytes(spec: ModelSpec, part: str) -> int:
    ops = model_ops(spec, batch_size=BATCH, seq_len=SEQ_LEN, precision=Precision.of("fp32"), device="cpu")
    return sum(op.saved_bytes for op in ops if op.label.startswith(part))


def stream(rows: int = BATCH * SEQ_LEN) -> Tensor:
    torch.manual_seed(0)
    return torch.randn(rows, D, requires_grad=True)


def bare(inside: int, out: int) -> nn.Linear:
    return nn.Linear(inside, out, bias=False)


class Experts(nn.Module):
    """Rows sorted by expert, each expert's products on its own rows, results weighted and added up."""

    def __init__(self, experts: int, top_k: int, width: int, shared: int) -> None:
        super().__init__()
        self.top_k = top_k
        self.router = bare(D, experts)
        self.gates, self.ups = (nn.ModuleList(bare(D, width) for _ in range(experts)) for _ in range(2))
        self.downs = nn.ModuleList(bare(width, D) for _ in range(experts))
        self.shared = nn.ModuleList([bare(D, shared), bare(D, shared), bare(shared, D)]) if shared else None

    def forward(self, x: Tensor) -> Tensor:
        scores = self.router(x).softmax(-1)
        weights, chosen = scores.topk(self.top_k)
        order = chosen.flatten().argsort()
        token = order // self.top_k
        parts = x[token].split(torch.bincount(chosen.flatten(), minlength=len(self.downs)).tolist())
        done = [
            down(F.silu(gate(rows)) * up(rows))
            for rows, gate, up, down in zip(parts, self.gates, self.ups, self.downs, strict=True)
        ]
        result = torch.cat(done) * weights.flatten()[order, None]
        total = torch.zeros_like(x).index_add(0, token, result)
        if self.shared is not None:
            gate, up, down = self.shared
            total = total + down(F.silu(gate(x)) * up(x))
        return total


class Latent(nn.Module):
    """Latent attention as training runs it: every head's key and value made from the narrow vector."""

    def __init__(self, heads: int, q_rank: int, kv_rank: int, nope: int, rope: int) -> None:
        super().__init__()
        self.heads, self.kv_rank, self.nope, self.rope = heads, kv_rank, nope, rope
        self.value = nope + rope
        self.query_down, self.query = bare(D, q_rank), bare(q_rank, heads * (nope + rope))
        self.kv_down, self.kv = bare(D, kv_rank + rope), bare(kv_rank, heads * (nope + self.value))
        self.query_norm, self.kv_norm = nn.RMSNorm(q_rank, eps=1e-6), nn.RMSNorm(kv_rank, eps=1e-6)
        self.output = bare(heads * self.value, D)

    def forward(self, x: Tensor) -> Tensor:
        q = self.query(self.query_norm(self.query_down(x))).view(BATCH, SEQ_LEN, self.heads, -1)
        narrow, turned = self.kv_down(x).split([self.kv_rank, self.rope], -1)
        k, v = self.kv(self.kv_norm(narrow)).view(BATCH, SEQ_LEN, self.heads, -1).split([self.nope, self.value], -1)
        shared = turned.view(BATCH, SEQ_LEN, 1, -1).expand(-1, -1, self.heads, -1)
        keys = torch.cat([k, shared], -1)
        mixed = F.scaled_dot_product_attention(*(t.transpose(1, 2) for t in (q, keys, v)), is_causal=True)
        return self.output(mixed.transpose(1, 2).reshape(BATCH * SEQ_LEN, -1))


class Cross(nn.Module):
    """Attention of a sequence to another of other length."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.output = (bare(D, D) for _ in range(4))

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        projected = ((self.query, x), (self.key, memory), (self.value, memory))
        q, k, v = (linear(t).view(BATCH, -1, self.heads, D // self.heads).transpose(1, 2) for linear, t in projected)
        return self.output(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(x.shape))


@pytest.mark.parametrize(("experts", "top_k", "shared"), [(4, 2, 0), (5, 3, 20), (2, 2, 0)])
def test_experts_keep_what_autograd_packs(
    make_spec: Callable[..., ModelSpec], experts: int, top_k: int, shared: int
) -> None:
    moe: dict[str, Any] = {"experts": experts, "top_k": top_k, "expert_ff": 24, "shared_ff": shared}
    module = Experts(experts, top_k, 24, shared)
    spec = make_spec(layers=1, moe=moe)
    assert counted_bytes(spec, "layers.*.moe") == packed_bytes(module, stream())


def test_latent_attention_keeps_what_autograd_packs(make_spec: Callable[..., ModelSpec]) -> None:
    mla = {"q_lora_rank": 12, "kv_lora_rank": 20, "nope_dim": 6, "rope_dim": 2, "value_dim": 8}
    spec = make_spec(layers=1, mla=mla, heads=4, kv_heads=4, head_dim=8)
    module = Latent(heads=4, q_rank=12, kv_rank=20, nope=6, rope=2)
    assert counted_bytes(spec, "layers.*.attention.") == packed_bytes(module, stream())


def test_cross_attention_keeps_what_autograd_packs_beside_the_encoders_result(
    make_spec: Callable[..., ModelSpec],
) -> None:
    spec = make_spec(kind="encoder_decoder", layers=1, heads=4, kv_heads=4, encoder={"layers": 1})
    shape: dict[str, Any] = {"batch_size": BATCH, "seq_len": 10, "target_len": SEQ_LEN}
    ops = model_ops(spec, **shape, precision=Precision.of("fp32"), device="cpu")
    counted = sum(op.saved_bytes for op in ops if op.label.startswith("layers.*.cross_attention."))
    memory = stream(BATCH * 10)
    assert counted == packed_bytes(Cross(4), stream(), memory) - memory.nbytes


@pytest.mark.parametrize(("image", "patch"), [(16, 4), (18, 5)])
def test_patches_keep_the_image(make_spec: Callable[..., ModelSpec], image: int, patch: int) -> None:
    tokens = (image // patch) ** 2 + 1
    vision = {"image_size": image, "patch_size": patch}
    changes: dict[str, Any] = {"kind": "vit", "vision": vision, "vocab_size": 0, "max_seq_len": tokens}
    spec = make_spec("gpt2", **changes, head={"kind": "none"}, tied_embeddings=False)
    module = nn.Conv2d(3, D, patch, stride=patch)
    pixels = torch.randn(BATCH, 3, image, image)
    assert counted_bytes(spec, "embedding.patches") == packed_bytes(module, pixels)


def test_the_witness_sees_a_parameterless_product() -> None:
    a, b = (torch.randn(3, 3, requires_grad=True) for _ in range(2))

    class Product(nn.Module):
        def forward(self, left: Tensor, right: Tensor) -> Tensor:
            return left @ right

    assert packed_bytes(Product(), a, b) == sum(itertools.chain([a.nbytes], [b.nbytes]))
