"""Arguments of Megatron-LM that plans use, as its own parser declares them.

Source: NVIDIA/Megatron-LM, megatron/training/arguments.py at commit 000c4ac24f61159c138b0975def722c65245983c, and the
options that it makes of TransformerConfig's fields. With the parser itself, ``test_megatron_lm.py`` compares.
"""

from __future__ import annotations

import argparse

_NUMBERS = (
    "--num-layers --hidden-size --ffn-hidden-size --num-attention-heads --kv-channels --num-query-groups "
    "--max-position-embeddings --rotary-base --seq-length --micro-batch-size --global-batch-size --train-iters "
    "--recompute-num-layers --tensor-model-parallel-size --pipeline-model-parallel-size "
    "--num-virtual-stages-per-pipeline-rank --context-parallel-size --expert-model-parallel-size "
    "--expert-tensor-parallel-size --num-distributed-optimizer-instances --num-experts --moe-router-topk "
    "--moe-router-num-groups --moe-router-group-topk "
    "--moe-ffn-hidden-size --moe-shared-expert-intermediate-size --q-lora-rank --kv-lora-rank --qk-head-dim "
    "--qk-pos-emb-head-dim --v-head-dim --mtp-num-layers --vocab-size"
)

_SWITCHES = (
    "--group-query-attention --swiglu --disable-bias-linear --add-qkv-bias --untie-embeddings-and-output-weights "
    "--multi-latent-attention --qk-layernorm --sequence-parallel --account-for-embedding-in-pipeline-split "
    "--account-for-loss-in-pipeline-split --use-distributed-optimizer --overlap-grad-reduce --overlap-param-gather "
    "--use-megatron-fsdp --no-gradient-accumulation-fusion --bf16 --fp16 --grad-reduce-in-bf16 --moe-grouped-gemm "
    "--moe-router-enable-expert-bias --tp-comm-overlap --fp8-param-gather --optimizer-cpu-offload "
    "--use-precision-aware-optimizer --cross-entropy-loss-fusion --accumulate-allreduce-grads-in-fp32 "
    "--overlap-moe-expert-parallel-comm --reuse-grad-buf-for-mxfp8-param-ag"
)

CHOICES = {
    "--normalization": ("LayerNorm", "RMSNorm"),
    "--position-embedding-type": ("learned_absolute", "rope", "mrope", "relative", "none"),
    "--recompute-granularity": ("full", "selective"),
    "--recompute-method": ("uniform", "block"),
    "--attention-backend": ("flash", "fused", "unfused", "local", "auto"),
    "--optimizer": ("adam", "sgd", "muon", "dist_muon"),
    "--fp8-format": ("e4m3", "hybrid"),
    "--fp4-format": ("e2m1",),
    "--fp4-recipe": ("nvfp4", "custom"),
    "--cp-comm-type": ("p2p", "a2a", "all_gather", "a2a+p2p"),
    "--data-parallel-sharding-strategy": ("no_shard", "optim", "optim_grads", "optim_grads_params"),
    "--ckpt-format": ("torch", "torch_dist", "zarr", "torch_dcp", "fsdp_dtensor"),
    "--moe-token-dispatcher-type": ("allgather", "alltoall", "flex"),
    "--moe-router-score-function": ("softmax", "sigmoid"),
    "--moe-router-load-balancing-type": ("aux_loss", "seq_aux_loss", "global_aux_loss", "sinkhorn", "none"),
    "--fp8-recipe": ("tensorwise", "delayed", "mxfp8", "blockwise", "custom"),
}

FRACTIONS = (
    *("--rotary-percent", "--attention-dropout", "--hidden-dropout"),
    *("--moe-aux-loss-coeff", "--moe-router-bias-update-rate"),
)
LISTS = ("--recompute-modules",)
TEXTS = ("--pipeline-model-parallel-layout", "--moe-layer-freq", "--window-size")


NUMBERS, SWITCHES = tuple(_NUMBERS.split()), tuple(_SWITCHES.split())


def parser() -> argparse.ArgumentParser:
    """Knows these arguments alone."""
    found = argparse.ArgumentParser(allow_abbrev=False, exit_on_error=False)
    for kind, names in ((int, NUMBERS), (float, FRACTIONS), (str, TEXTS)):
        for name in names:
            found.add_argument(name, type=kind)
    for name in LISTS:
        found.add_argument(name, nargs="*")
    for name in SWITCHES:
        found.add_argument(name, action="store_true")
    for name, choices in CHOICES.items():
        found.add_argument(name, choices=choices)
    return found
