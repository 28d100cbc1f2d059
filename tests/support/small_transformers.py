"""Which small modules of transformers stand for each family, and what do they multiply? Witnesses of several tests."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
from torch.utils.flop_counter import FlopCounterMode

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    transformers = pytest.importorskip("transformers", reason="transformers is the witness; pip install hwprof[dev]")
    if not transformers.is_torch_available():
        pytest.skip("this transformers works with a newer torch alone", allow_module_level=True)

DECODER: dict[str, Any] = {
    "vocab_size": 61,
    "hidden_size": 32,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
OWN_HEADS = {key: value for key, value in DECODER.items() if key != "num_key_value_heads"}
WITHOUT_WIDTH = {key: value for key, value in OWN_HEADS.items() if key != "intermediate_size"}
TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
MOE = DECODER | {"num_experts_per_tok": 2}
NARROW_MOE = MOE | {"moe_intermediate_size": 24}
MLA = NARROW_MOE | {
    "num_key_value_heads": 4,
    "first_k_dense_replace": 1,
    "n_routed_experts": 4,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 10,
    "head_dim": 4,
    "n_group": 1,
    "topk_group": 1,
}
T5 = {
    "vocab_size": 61,
    "d_model": 32,
    "d_kv": 12,
    "d_ff": 80,
    "num_layers": 2,
    "num_decoder_layers": 3,
    "num_heads": 4,
}
SIDES = {
    "vocab_size": 61,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 3,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 80,
}


def small_transformer(kind: str, keys: dict[str, Any]) -> Any:
    """The module of a ``model_type`` with eager attention and without dropout, which has no products."""
    config = transformers.CONFIG_MAPPING[kind](**keys)
    config._attn_implementation = config._experts_implementation = "eager"
    named = keys.get("architectures")
    if named:
        made = getattr(transformers, named[0])._from_config(config, attn_implementation="eager")
    else:
        made = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    return made.eval()


def multiplied(work: Callable[[], Any]) -> tuple[int, Any]:
    """All FLOP but those of tables of rotary angles, and the result."""
    with FlopCounterMode(display=False) as counter:
        result = work()
    by_module = counter.get_flop_counts().items()
    angles = sum(sum(counts.values()) for path, counts in by_module if path.endswith("rotary_emb"))
    return int(counter.get_total_flops() - angles), result
