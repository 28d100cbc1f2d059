"""Runs that everybody knows and no parameter was fitted on: does the predicted interval hold what was measured?

Where a paper gives FLOP/s of a device, a step's time follows from the FLOP that the paper counts for it: six for each
parameter that is no embedding and token, and attention in full (12 x layers x width x sequence for each token).
"""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from hwprof.cli.simulate import command

MT_NLG = """
name = "mt-nlg-530b"
family = "GPT-3"
kind = "decoder"
layers = 105
d_model = 20480
d_ff = 81920
heads = 128
kv_heads = 128
head_dim = 160
vocab_size = 50257
max_seq_len = 2048
activation = "gelu"
gated = false
norm = "layernorm"
norm_placement = "pre"
final_norm = true
positions = "learned"
tied_embeddings = true
attention_bias = "all"
mlp_bias = true

[source]
dimensions = "Smith et al. 2022, section 3.2"
"""

LLAMA = "--model 405b --hardware h100-sxm --tp 8 --pp 16 --vp 4"
LLAMA_FLOP = 6 * (405.85e9 - 128256 * 16384)
LLAMA_ATTENTION_FLOP = 12 * 126 * 16384
NLG = "--hardware a100-80gb-sxm --tp 8 --pp 35 --global-batch 1920 --recompute full --attention materialised"
NLG += " --stack megatron-deepspeed-bigscience"
PALM_FLOP = 6 * 540.35e9 + 12 * 118 * 48 * 256 * 2048
OPT_FLOP = 6 * 175e9 + 12 * 96 * 12288 * 2048

RUNS = {
    "Llama 3 405B, 8,192 H100 (Llama Team 2024, table 4: 430 TFLOP/s)": (
        f"{LLAMA} --devices 8192 --global-batch 2048 --seq-len 8192",
        (LLAMA_FLOP + LLAMA_ATTENTION_FLOP * 8192) * 2048 * 8192 / (8192 * 430e12),
    ),
    "the same on 16,384 (400 TFLOP/s)": (
        f"{LLAMA} --devices 16384 --global-batch 2048 --seq-len 8192",
        (LLAMA_FLOP + LLAMA_ATTENTION_FLOP * 8192) * 2048 * 8192 / (16384 * 400e12),
    ),
    "the same with sequences of 131,072 (380 TFLOP/s)": (
        f"{LLAMA} --devices 16384 --cp 16 --context-kind all-gather --global-batch 128 --seq-len 131072",
        (LLAMA_FLOP + LLAMA_ATTENTION_FLOP * 131072) * 128 * 131072 / (16384 * 380e12),
    ),
    "MT-NLG 530B, 280 DGX A100 (Smith et al. 2022, section 3.3)": (f"--model MT_NLG --devices 2240 {NLG}", 60.1),
    "the same on 350": (f"--model MT_NLG --devices 2800 {NLG}", 50.2),
    "the same on 420": (f"--model MT_NLG --devices 3360 {NLG}", 44.4),
    "PaLM 540B, 6,144 TPU v4 (Chowdhery et al. 2022, table 3: MFU 46.2 %)": (
        (
            "--model palm-540b --hardware tpu-v4 --devices 6144 --tp 12 --zero 3 --shard-ranks 256 --global-batch 2048"
            " --micro-batch 4 --stack maxtext --recompute full"
        ),
        PALM_FLOP * 2048 * 2048 / (6144 * 0.462 * 275e12),
    ),
    "DeepSeek-V3, 2,048 H800 (DeepSeek-AI 2024, section 1: 180,000 hours of a device for 10^12 tokens)": (
        (
            "--model deepseek-v3 --hardware h800-sxm --devices 2048 --pp 16 --ep 64 --global-batch 15360 --seq-len 4096"
            " --dtype fp8 --fp8-recipe blockwise --schedule dualpipe --expert-overlap --recompute selective"
            " --selective layernorm"
        ),
        180e3 * 3600 / 1e12 * 15360 * 4096 / 2048,
    ),
    "OPT-175B, 992 A100 (Zhang et al. 2022, section 2.4: 147 TFLOP/s, which counts what is computed again)": (
        (
            "--model opt-175b --hardware a100-80gb-sxm --devices 992 --tp 8 --zero 3 --global-batch 992 --micro-batch 8"
            " --stack fsdp --recompute full --dtype fp16"
        ),
        OPT_FLOP * 4 / 3 * 992 * 2048 / (992 * 147e12),
    ),
}
"""Options of ``hwprof simulate``, and the measured seconds of a step. GPT-3 and BLOOM are among the published runs."""


@pytest.mark.parametrize("name", RUNS)
def test_a_known_run_is_inside_its_interval(tmp_path, name):
    options, measured_s = RUNS[name]
    (tmp_path / "nlg.toml").write_text(MT_NLG)
    typed = options.replace("MT_NLG", str(tmp_path / "nlg.toml")).split()
    result = CliRunner().invoke(command, [*typed, "--format", "json"])
    assert result.exit_code == 0, result.stderr
    low_s, high_s = json.loads(result.stdout)["interval_s"]
    assert low_s <= measured_s <= high_s
