"""How does the software run a training step? The switches that a user of a framework knows, and the words of each."""

from __future__ import annotations

from typing import Literal, TypedDict

from hwprof.specs.job.settings import OptimizerImplementation

JobDtype = Literal["fp32", "tf32", "fp16", "bf16", "fp8", "fp4"]
"""What the linear layers multiply in; below 16 bits everything else works in bf16."""

Storage = Literal["autocast", "narrowed", "mixed", "pure"]
"""``autocast``: weights, gradients and optimizer state in fp32, narrow copies for the products, a wide residual stream
(torch.autocast). ``narrowed``: the same in store, but all of a layer works on narrow copies, residual stream included
(FSDP's mixed precision; XLA programs). ``mixed``: narrow weights and activations, gradients accumulated in fp32, fp32
master weights and moments with the optimizer (Megatron-LM). ``pure``: everything in the narrow format."""

Framework = Literal["torch", "megatron-core", "megatron-deepspeed", "deepspeed", "internevo", "xla"]
"""Whose way of keeping gradients, buckets and logits is meant: torch's own with DDP or FSDP, Megatron-Core with
Transformer Engine, Megatron-DeepSpeed (ZeRO stage 1, BF16Optimizer), DeepSpeed's ZeRO engine under a model of PyTorch,
InternEvo (narrow gradients, made fp32 for torch's AdamW), XLA (one program, whose buffers are assigned ahead of
time)."""

Loss = Literal["plain", "returned", "compiled", "fused", "chunked", "chunked-head", "fused-linear"]
"""``plain``: the framework's own cross-entropy over whole logits, in steps that write fp32. ``returned``: the same, and
the narrow logits that the model hands back stay until the step ends (transformers: 14 bytes a logit). ``compiled``:
kernels that read narrow logits and write their gradient beside them (torch.compile, XLA). ``fused``: one kernel turns
narrow logits into their gradient in place (Transformer Engine, Liger). ``chunked``: whole narrow logits, made wide a
chunk of tokens at a time (torchtune). ``chunked-head``: the head runs on 128 tokens at a time, its logits are made wide
and stay until the next step's (litgpt). ``fused-linear``: head and loss run together a chunk of tokens at a time;
whole logits never exist (Liger, cut cross-entropy)."""

Attention = Literal["flash", "flash-1", "flash-2", "flash-3", "flash-4", "cudnn", "torch-sdpa", "materialised"]
"""``flash``: the kernel that the software takes on the device, of any generation; none of these but ``materialised``
writes scores to memory (``eager`` or ``math`` elsewhere)."""

JobOptimizer = Literal["adamw", "adam", "adamw-8bit", "sgd", "adafactor", "lion", "muon"]

Fp8Recipe = Literal["delayed", "tensorwise", "rowwise", "blockwise", "mxfp8", "nvfp4"]
"""What shares a scale: a tensor, by the maxima of earlier steps (``delayed``) or its own; a row; 128 elements or 128 x
128; 32 elements (``mxfp8``); 16 elements in 4 bits (``nvfp4``)."""

Selective = Literal[
    "core_attn",
    "attention",
    "layernorm",
    "mlp",
    "moe",
    "moe_act",
    "shared_experts",
    "mla_up_proj",
    "op-list",
    "products",
    "products-without-attention",
]
"""What selective recompute runs again. Megatron-Core's modules (``--recompute-modules``; ``attention`` is the whole
block), or all but what a policy keeps: ``op-list`` every second matrix product and attention (torchtitan), ``products``
all of them and attention, ``products-without-attention`` all of them alone (MaxText's ``minimal``)."""

KEEPING: frozenset[Selective] = frozenset({"op-list", "products", "products-without-attention"})
"""Words that say what is kept; they stand alone."""

OffloadPart = Literal["optimizer", "activations", "weights"]
Offload = Literal[
    "none",
    "optimizer",
    "activations",
    "weights",
    "optimizer+activations",
    "optimizer+weights",
    "activations+weights",
    "optimizer+activations+weights",
]
OffloadTarget = Literal["host", "nvme"]

LoraTargets = Literal["query-value", "attention", "ffn", "all", "linear"]
"""Which linear layers get a pair: queries and values (Hu et al. 2021, section 7.1), all of attention, of the
feed-forward network, both, or both and the head."""

AdapterLibrary = Literal["peft", "litgpt", "torchtune", "megatron"]
"""Whose adapters: they differ in what they adapt and quantize, and in what products with 4-bit weights keep."""


class Switches(TypedDict, total=False):
    """Fields of a ``TrainingJob`` that belong to the software; what a preset leaves out has the job's default."""

    storage: Storage
    framework: Framework
    gradient_bytes: Literal[2, 4] | None
    compiled: bool
    fused: bool
    cuda_graphs: bool
    loss: Loss
    attention: Attention
    optimizer_implementation: OptimizerImplementation
    optimizer_paged: bool
    update_in_backward: bool
    fp8_recipe: Fp8Recipe
    fp8_saved: bool
    fp8_all_gather: bool
    async_tensor_parallel: bool
    expert_overlap: bool
    prefetch_layers: int
    offload_each_micro_batch: bool
    selective: tuple[Selective, ...]
    wide_norms: bool
    repeats_kv: bool
    adapter_library: AdapterLibrary
    pipeline_outputs: bool
