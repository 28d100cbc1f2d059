"""How is a model told to Megatron-LM? Its dimensions as arguments, and what no argument says.

Arguments and their meaning: NVIDIA/Megatron-LM, ``megatron/training/arguments.py``.
"""

from __future__ import annotations

from hwprof.specs.model.parts import EmbeddingSpec
from hwprof.specs.model.spec import ModelSpec

_POSITIONS = {"rope": "rope", "learned": "learned_absolute", "none": "none"}
_NORMS = {"rmsnorm": "RMSNorm", "layernorm": "LayerNorm"}


_BY_BIAS = (
    "--moe-router-enable-expert-bias",
    "--moe-router-score-function sigmoid",
    "--moe-router-bias-update-rate 1e-3",
    "--moe-router-load-balancing-type seq_aux_loss",
    "--moe-aux-loss-coeff 1e-4",
)
"""As DeepSeek-V3 balances its experts (DeepSeek-AI 2024, section 4.2)."""

_BY_LOSS = ("--moe-router-load-balancing-type aux_loss", "--moe-aux-loss-coeff 1e-2")
"""As Switch Transformers do (Fedus et al. 2021, section 2.2)."""


def missing_of_model(model: ModelSpec) -> list[tuple[bool, str]]:
    """(whether the model has it, what it is) of everything that has no argument."""
    attention, moe = model.attention, model.moe
    return [
        (model.captured is not None, "a model that was captured"),
        (model.kind != "decoder", f"model of kind {model.kind}"),
        (model.block != "sequential", f"{model.block} blocks"),
        (model.norm_placement != "pre" or not model.final_norm, f"{model.norm_placement} norms"),
        (model.norm_weights != "all", f"norms with {model.norm_weights} weights"),
        (model.positions not in _POSITIONS, f"{model.positions} positions"),
        ((model.activation == "silu") != model.gated or model.activation in {"relu", "relu2"}, _activation(model)),
        (not _biases_known(model), f"biases of {model.attention_bias} in attention, mlp_bias {model.mlp_bias}"),
        (model.head_bias or model.head.kind != "linear" or model.head.softcap, "its head"),
        (model.embedding != EmbeddingSpec(), "its embedding"),
        (attention.qk_norm not in {"none", "head"}, f"{attention.qk_norm} norm of queries and keys"),
        (attention.nope_layers > 0 or not _same_window(model), "layers with different attention"),
        (attention.softcap or attention.sinks, "soft caps or sinks of attention"),
        (moe is not None and (moe.shared_gate or moe.expert_bias), "a gate of the shared experts, or their biases"),
    ]


def _same_window(model: ModelSpec) -> bool:
    """No layer attends to a window only, or all of them to a sliding one."""
    window = model.attention.window
    return window is None or (window.kind == "sliding" and window.layers == model.layers)


def _activation(model: ModelSpec) -> str:
    return f"{'gated ' * model.gated}{model.activation} activation"


def _biases_known(model: ModelSpec) -> bool:
    """Biases everywhere, nowhere, or at queries, keys and values alone."""
    return (model.attention_bias, model.mlp_bias) in {("all", True), ("none", False), ("qkv", False)}


def arguments_of_model(model: ModelSpec) -> list[str]:
    """Its dimensions."""
    found = [
        f"--num-layers {model.layers}",
        f"--hidden-size {model.d_model}",
        f"--ffn-hidden-size {model.d_ff}",
        f"--num-attention-heads {model.heads}",
        f"--vocab-size {model.vocab_size}",
        f"--normalization {_NORMS[model.norm]}",
        *_of_positions(model),
        *(["--swiglu"] if model.gated else []),
        *([] if model.mlp_bias else ["--disable-bias-linear"]),
        *(["--add-qkv-bias"] if model.attention_bias == "qkv" else []),
        *([] if model.tied_embeddings else ["--untie-embeddings-and-output-weights"]),
        *(["--qk-layernorm"] if model.attention.qk_norm == "head" else []),
        *([f"--mtp-num-layers {model.mtp_layers}"] if model.mtp_layers else []),
        f"--attention-dropout {model.dropout:g}",
        f"--hidden-dropout {model.dropout:g}",
    ]
    window = model.attention.window
    found += [f"--window-size {window.tokens - 1},0"] if window else []
    return [*found, *_of_attention(model), *_of_experts(model)]


def _of_positions(model: ModelSpec) -> list[str]:
    found = [f"--position-embedding-type {_POSITIONS[model.positions]}"]
    if model.positions == "rope":
        found += [f"--rotary-base {model.rope_theta:.0f}"]
        share = model.attention.rope_fraction
        found += [f"--rotary-percent {share:g}"] if share < 1 else []
    return found


def _of_attention(model: ModelSpec) -> list[str]:
    if model.mla is None:
        found = [f"--kv-channels {model.head_dim}"]
        if model.kv_heads < model.heads:
            found += ["--group-query-attention", f"--num-query-groups {model.kv_heads}"]
        return found
    mla = model.mla
    return [
        "--multi-latent-attention",
        *([f"--q-lora-rank {mla.q_lora_rank}"] if mla.q_lora_rank else []),
        f"--kv-lora-rank {mla.kv_lora_rank}",
        f"--qk-head-dim {mla.nope_dim}",
        f"--qk-pos-emb-head-dim {mla.rope_dim}",
        f"--v-head-dim {mla.value_dim}",
        *([] if model.attention.qk_norm == "head" else ["--qk-layernorm"]),  # of the narrow vectors (DeepSeek-V2)
    ]


def _of_experts(model: ModelSpec) -> list[str]:
    """Experts; a bias of the router is that of DeepSeek-V3, which balances experts without a loss."""
    moe = model.moe
    if moe is None:
        return []
    kinds = [int(i >= moe.dense_layers and (i + 1) % moe.every == 0) for i in range(model.layers)]
    return [
        f"--num-experts {moe.experts}",
        f"--moe-router-topk {moe.top_k}",
        f"--moe-ffn-hidden-size {moe.expert_ff}",
        "--moe-grouped-gemm",
        "--moe-token-dispatcher-type alltoall",
        *(
            [f"--moe-router-num-groups {moe.groups}", f"--moe-router-group-topk {moe.top_groups}"]
            if moe.groups > 1
            else []
        ),
        *([f"--moe-shared-expert-intermediate-size {moe.shared_ff}"] if moe.shared_ff else []),
        *(_BY_BIAS if moe.router_bias != "none" else _BY_LOSS),
        *([] if all(kinds) else [f"--moe-layer-freq '{str(kinds).replace(' ', '')}'"]),
    ]
