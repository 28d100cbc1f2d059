"""Plans of the kinds that Megatron-LM can be told, as changes of the launch made by hand: 16 devices, fp32 masters."""

from __future__ import annotations

from typing import Any

_DEEPSEEK = {"model": "deepseek-v2-lite", "layout": {"data_parallel": 16, "expert_parallel": 8, "zero_stage": 1}}
_MIXTRAL = {"model": "mixtral-8x7b", "layout": {"data_parallel": 16, "expert_parallel": 8, "zero_stage": 1}}
_QWEN3 = {"model": "qwen3-30b-a3b"}
_SHARDED = {"layout": {"data_parallel": 16, "zero_stage": 1}}
_SPREAD = {"layout": {"data_parallel": 2, "tensor_parallel": 8, "zero_stage": 1}}


def _interleaved(chunks: int, **more: Any) -> dict[str, Any]:
    return {"pipeline_parallel": 4, "schedule": "interleaved", "virtual_stages": chunks, **more}


def _in_context(kind: str) -> dict[str, Any]:
    return {"layout": {"context_parallel": 4, "data_parallel": 4, "zero_stage": 1, "context_kind": kind}}


MEGATRON_PLANS: dict[str, dict[str, Any]] = {
    "one GPU, ZeRO 1": {"nodes": 1, "devices_per_node": 1, "layout": {"zero_stage": 1}},
    "no overlap": {"layout": {"data_parallel": 16, "zero_stage": 1, "overlap": False}},
    "shards in a node": {"layout": {"data_parallel": 16, "zero_stage": 1, "shard_ranks": 8}},
    "tensor, no sequence": {"layout": {"tensor_parallel": 8, "data_parallel": 2, "sequence_parallel": False}},
    "tensor on Ampere": _SPREAD | {"architecture": "ampere"},
    "tensor on Hopper": _SPREAD | {"architecture": "hopper", "async_tensor_parallel": True},
    "FSDP and tensor on Blackwell": {
        "layout": {"data_parallel": 2, "tensor_parallel": 8, "zero_stage": 3},
        "architecture": "blackwell",
    },
    "places of embedding and loss": {"model": "llama-3.1-405b", "layout": {"pipeline_parallel": 16}},
    "stages that differ": {
        "model": "llama-3.1-70b",
        "layout": {"pipeline_parallel": 12},
        "nodes": 3,
        "devices_per_node": 4,
    },
    "chunks that differ": {"model": "llama-3.1-70b", "layout": _interleaved(3, tensor_parallel=4)},
    "ring": _in_context("ring"),
    "Ulysses": _in_context("ulysses"),
    "all-gather": _in_context("all-gather"),
    "experts in context ranks": {
        "model": "mixtral-8x7b",
        "layout": {"data_parallel": 4, "context_parallel": 4, "expert_parallel": 4, "zero_stage": 1},
    },
    "experts in chunks": {
        "model": "mixtral-8x7b",
        "layout": _interleaved(2, data_parallel=4, expert_parallel=4, zero_stage=1),
        "expert_overlap": True,
    },
    "experts on tensor ranks": {
        "model": "mixtral-8x7b",
        "layout": {"data_parallel": 8, "tensor_parallel": 2, "expert_parallel": 8, "zero_stage": 1},
    },
    "whole experts beside tensor ranks": _QWEN3
    | {"layout": {"data_parallel": 4, "tensor_parallel": 4, "expert_parallel": 16, "expert_tensor": 1}},
    "experts' shards in a node": {
        "model": "mixtral-8x7b",
        "layout": {"data_parallel": 16, "expert_parallel": 4, "zero_stage": 1, "shard_ranks": 8},
    },
    "experts beside another micro-batch": _MIXTRAL | {"expert_overlap": True},
    "latent attention": {
        "model": "deepseek-v3",
        "layout": {"data_parallel": 8, "pipeline_parallel": 2, "expert_parallel": 8, "zero_stage": 1},
    },
    "latent attention, wide queries": _DEEPSEEK,
    "latent attention in context ranks": {
        "model": "deepseek-v2-lite",
        "layout": {"data_parallel": 8, "context_parallel": 2, "expert_parallel": 8, "zero_stage": 1},
    },
    "fp8, delayed": _SHARDED | {"dtype": "fp8", "fp8_recipe": "delayed", "fp8_all_gather": True},
    "fp8, blockwise": _SHARDED | {"dtype": "fp8", "fp8_recipe": "blockwise", "fp8_all_gather": True},
    "mxfp8": _SHARDED | {"dtype": "fp8", "fp8_recipe": "mxfp8", "fp8_all_gather": True, "architecture": "blackwell"},
    "fp8 without ZeRO": {"layout": {"data_parallel": 16}, "dtype": "fp8"},
    "fp4": _SHARDED | {"dtype": "fp4", "architecture": "blackwell"},
    "experts in fp8": _MIXTRAL | {"dtype": "fp8"},
    "fp16": _SHARDED | {"dtype": "fp16"},
    "fp16, narrow gradients": _SHARDED | {"dtype": "fp16", "gradient_bytes": 2},
    "fp32": _SHARDED | {"dtype": "fp32"},
    "narrow gradients": _SHARDED | {"gradient_bytes": 2},
    "muon": {"layout": {"data_parallel": 16}, "optimizer": "muon"},
    "sgd": {"layout": {"data_parallel": 16}, "optimizer": "sgd"},
    "scores in memory": _SHARDED | {"attention": "materialised"},
    "full recompute": _SHARDED | {"recompute": "full"},
    "recompute in some of each chunk": {
        "layout": _interleaved(2, tensor_parallel=4),
        "recompute": "full",
        "recompute_layers": 8,
    },
    "selective": _SHARDED | {"recompute": "selective", "selective": ("core_attn", "mlp", "layernorm")},
    "selective, experts": _MIXTRAL | {"recompute": "selective", "selective": ("moe_act", "core_attn")},
    "selective, latent": _DEEPSEEK
    | {"recompute": "selective", "selective": ("mla_up_proj", "shared_experts", "moe_act")},
    "offload": _SHARDED | {"offload": "optimizer"},
    "learned positions": {"model": "gpt3-13b", "seq_len": 2048, "layout": {"data_parallel": 2, "tensor_parallel": 8}},
    "tied, in stages": {
        "model": "gpt2-124m",
        "seq_len": 1024,
        "layout": {"pipeline_parallel": 4, "data_parallel": 4},
    },
    "tied": _SHARDED | {"model": "llama-3.2-1b"},
    "query biases": _SPREAD
    | {"model": "qwen2.5-7b", "seq_len": 4096, "layout": {"data_parallel": 4, "tensor_parallel": 4}},
    "norms of heads": _SPREAD | {"model": "qwen3-8b"},
    "a window": _SHARDED | {"model": "mistral-7b"},
}
