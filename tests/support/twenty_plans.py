"""Plans that differ, as changes of the launch made by hand in ``tests/plan/settings/conftest.py``: 16 devices, 8B."""

from __future__ import annotations

from typing import Any

from hwprof.specs.job.step import LoraSpec

ONE = {"nodes": 1, "devices_per_node": 1}
MIXED = {"storage": "mixed"}
NARROWED = {"storage": "narrowed"}

PLANS: dict[str, dict[str, Any]] = {
    "one GPU": ONE | {"layout": {}},
    "replicas (DDP)": {"layout": {"data_parallel": 16}},
    "ZeRO 1": MIXED | {"layout": {"data_parallel": 16, "zero_stage": 1}},
    "ZeRO 2": NARROWED | {"layout": {"data_parallel": 16, "zero_stage": 2}},
    "ZeRO 3 (FSDP)": NARROWED | {"layout": {"data_parallel": 16, "zero_stage": 3}},
    "HSDP": NARROWED | {"layout": {"data_parallel": 16, "zero_stage": 3, "shard_ranks": 8}},
    "TP, ZeRO 1": MIXED | {"layout": {"data_parallel": 2, "tensor_parallel": 8, "zero_stage": 1}},
    "TP, FSDP": NARROWED | {"layout": {"data_parallel": 2, "tensor_parallel": 8, "zero_stage": 3}},
    "TP, PP interleaved": MIXED
    | {"layout": {"tensor_parallel": 4, "pipeline_parallel": 4, "schedule": "interleaved", "virtual_stages": 2}},
    "PP zero bubble": NARROWED
    | {"layout": {"data_parallel": 2, "pipeline_parallel": 8, "zero_stage": 2, "schedule": "zb-v"}, "fused": False},
    "CP, FSDP": NARROWED
    | {"layout": {"data_parallel": 4, "context_parallel": 4, "zero_stage": 3, "context_kind": "all-gather"}},
    "CP, TP": MIXED | {"layout": {"data_parallel": 2, "context_parallel": 2, "tensor_parallel": 4, "zero_stage": 1}},
    "MoE, EP": MIXED
    | {"model": "mixtral-8x7b", "layout": {"data_parallel": 16, "expert_parallel": 8, "zero_stage": 1}},
    "MoE, EP, FSDP": NARROWED
    | {"model": "qwen3-30b-a3b", "layout": {"data_parallel": 16, "expert_parallel": 8, "zero_stage": 3}},
    "recompute, every second layer": NARROWED | {"recompute": "full", "recompute_layers": 16},
    "recompute, selective": NARROWED | {"recompute": "selective", "selective": ("op-list",)},
    "fp8": NARROWED | {"dtype": "fp8", "fp8_all_gather": True},
    "offload": MIXED | {"layout": {"data_parallel": 16, "zero_stage": 2}, "offload": "optimizer", "gradient_bytes": 2},
    "QLoRA": ONE
    | {"layout": {}, "lora": LoraSpec(rank=16, targets="all", quantized=True), "recompute": "full", "steps": None},
    "CPU": ONE | {"layout": {}, "backend": "cpu", "device": "cpu", "dtype": "fp32"},
    "TPU": NARROWED | {"backend": "other", "device": "tpu-v5p", "recompute": "full"},
}

STARTED: dict[str, tuple[str, ...]] = {
    "one GPU": ("deepspeed.json", "accelerate.yaml"),
    "replicas (DDP)": ("torchtitan.toml", "fsdp2.py"),
    "ZeRO 1": ("deepspeed.json",),
    "ZeRO 2": ("torchtitan.toml", "deepspeed.json"),
    "ZeRO 3 (FSDP)": ("torchtitan.toml", "deepspeed.json", "accelerate.yaml", "fsdp2.py"),
    "PP zero bubble": ("torchtitan.toml",),
    "recompute, every second layer": ("torchtitan.toml", "fsdp2.py"),
    "CPU": ("accelerate.yaml", "trl.yaml"),
}
"""Kinds of plans with which ``test_started`` starts a framework on one or two ranks."""
