"""What a captured model keeps between tokens, against the caches of the module itself after real passes: equal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from captured_types import saved
from click.testing import CliRunner
from other_types import OTHER_TYPES
from small_transformers import DECODER, MLA, MOE, OWN_HEADS, TOKENS, transformers
from torch.utils.flop_counter import FlopCounterMode

from hwprof.cli.count.command import command as count
from hwprof.count.aten.alive import activation_peak_bytes
from hwprof.count.aten.registry import aten_cost
from hwprof.errors import InputError
from hwprof.measure.capture.decoding import capture_decoding
from hwprof.measure.capture.inputs import Asked
from hwprof.specs.record.captured import AtenCall, Capture, Place, PlacedCall, TensorView

pytestmark = pytest.mark.filterwarnings("ignore")  # what transformers warns of is its own affair

BATCH, PROMPT, STEPS = 2, 11, 6
_STATES = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 16, "mamba_chunk_size": 8, "mamba_n_groups": 1}
TYPES: dict[str, tuple[str, str, dict[str, Any]]] = {
    **{
        name: OTHER_TYPES[name]
        for name in (
            *("state space 2", "state space beside attention", "state space, attention, experts"),
            *("gated delta", "lightning attention", "short convolution", "bias in every layer"),
        )
    },
    "state space 1": (
        "mamba",
        "MambaForCausalLM",
        {"vocab_size": 61, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 8},
    ),
    "state space 2 and experts": (
        "granitemoehybrid",
        "GraniteMoeHybridForCausalLM",
        MOE | _STATES | {"layer_types": ["mamba", "attention", "mamba"], "num_local_experts": 4},
    ),
    "state space 2 and shared attention": (
        "bamba",
        "BambaForCausalLM",
        DECODER | _STATES | {"attn_layer_indices": [1]},
    ),
    "state space and shared attention": (
        "zamba",
        "ZambaForCausalLM",
        OWN_HEADS
        | {"num_hidden_layers": 4, "attention_hidden_size": 64, "attention_head_dim": 16, "n_mamba_heads": 2}
        | {"num_key_value_heads": 4}
        | {"attn_layer_offset": 1, "attn_layer_period": 2, "layer_types": ["mamba", "hybrid"] * 2},
    ),
    "state space 2 and a shared block": (
        "zamba2",
        "Zamba2ForCausalLM",
        OWN_HEADS
        | {"num_hidden_layers": 4, "layer_types": ["mamba", "hybrid"] * 2, "hybrid_layer_ids": [1, 3]}
        | {"mamba_d_state": 16, "mamba_headdim": 8, "n_mamba_heads": 8, "chunk_size": 8, "attention_hidden_size": 64}
        | {"num_mem_blocks": 1, "num_key_value_heads": 4},
    ),
    "gated delta by channel and latent attention": (
        "kimi_linear",
        "KimiLinearForCausalLM",
        MLA
        | {"num_hidden_layers": 3, "num_experts_per_token": 2, "linear_head_dim": 8, "linear_num_heads": 4}
        | {"layer_types": ["linear_attention", "linear_attention", "full_attention"], "num_local_experts": 4},
    ),
    "gated delta of one list": (
        "olmo_hybrid",
        "OlmoHybridForCausalLM",
        DECODER
        | {"layer_types": ["linear_attention", "full_attention", "linear_attention"], "pad_token_id": 0}
        | {
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
            "linear_key_head_dim": 8,
            "linear_value_head_dim": 8,
        },
    ),
    "gated delta by channel in groups": (
        "bailing_hybrid",
        "BailingHybridForCausalLM",
        MLA
        | {"num_hidden_layers": 3, "layer_types": ["linear_attention", "linear_attention", "full_attention"]}
        | {"head_dim": 8, "num_local_experts": 4, "n_group": 1, "topk_group": 1, "num_experts_per_tok": 2}
        | {"pad_token_id": 0},
    ),
    "short convolutions and windows": (
        "lfm3",
        "Lfm3ForCausalLM",
        DECODER | {"layer_types": ["conv", "sliding_attention", "full_attention"], "sliding_window": 8, "head_dim": 8},
    ),
    "memory of matrices": (
        "xlstm",
        "xLSTMForCausalLM",
        {"vocab_size": 61, "hidden_size": 128, "num_hidden_layers": 2, "num_heads": 4, "chunk_size": 8, **TOKENS},
    ),
    "recurrence and windows": (
        "recurrent_gemma",
        "RecurrentGemmaForCausalLM",
        DECODER | {"num_key_value_heads": 1, "lru_width": 32, "head_dim": 8, "attention_window_size": 8},
    ),
    "windows": ("cohere2", "Cohere2ForCausalLM", DECODER | {"sliding_window": 8}),
    "indexer": (
        "deepseek_v32",
        "DeepseekV32ForCausalLM",
        {**MLA, "num_hidden_layers": 2, "q_lora_rank": 16, "index_topk": 4, "index_n_heads": 2, "index_head_dim": 8},
    ),
}


def held_bytes(value: Any, seen: set[int]) -> int:
    """Bytes of all numbers that an object holds."""
    if id(value) in seen or "Config" in type(value).__name__:
        return 0
    seen.add(id(value))
    if isinstance(value, torch.Tensor):
        return value.nbytes if value.is_floating_point() and value.dim() else 0
    if isinstance(value, dict):
        return sum(held_bytes(each, seen) for each in value.values())
    if isinstance(value, list | tuple):
        return sum(held_bytes(each, seen) for each in value)
    return sum(held_bytes(each, seen) for each in vars(value).values()) if hasattr(value, "__dict__") else 0


def own_bytes(module: Any) -> int:
    """Bytes of the states that layers keep themselves."""
    names = ("conv1d_state", "recurrent_states")
    held = [vars(part).get(name) for part in module.modules() for name in names]
    return sum(each.nbytes for each in held if each is not None)


def real_steps(kind: str, name: str, keys: dict[str, Any]) -> tuple[list[int], int]:
    """Bytes of the module's own cache after the prompt, the first and the last step, and the last step's FLOP."""
    config = transformers.CONFIG_MAPPING[kind](**keys)
    config._experts_implementation = config._attn_implementation = "eager"
    module = getattr(transformers, name)._from_config(config).eval()
    ids = torch.full((BATCH, PROMPT), 3)
    found, more = [], {}
    with torch.no_grad():
        if config.is_encoder_decoder:
            output = module(input_ids=ids, decoder_input_ids=ids, use_cache=True, logits_to_keep=1)
            more = {"encoder_outputs": (output.encoder_last_hidden_state,)}
        else:
            output = module(input_ids=ids, use_cache=True)
        names = ("cache", "past_key_values", "cache_params", "state")
        argument = next((key for key in names if output.get(key) is not None), "")
        if not argument:  # it fills one that it does not give back
            argument, cache = "cache", transformers.DynamicCache(config=config)
            module(input_ids=ids, use_cache=True, cache=cache)
        else:
            cache = output[argument]
        token = "decoder_input_ids" if config.is_encoder_decoder else "input_ids"
        found.append(held_bytes(cache, set()) + own_bytes(module))
        for step in range(STEPS):
            with FlopCounterMode(display=False) as counter:
                module(**{token: ids[:, :1], argument: cache}, use_cache=True, **more)
            if step in {0, STEPS - 1}:
                found.append(held_bytes(cache, set()) + own_bytes(module))
    return found, counter.get_total_flops()


@pytest.mark.parametrize("layer", TYPES)
def test_state_and_last_step_equal_those_of_the_module(layer: str, tmp_path: Path) -> None:
    path = saved(tmp_path, *TYPES[layer])
    seen = capture_decoding(path, Asked(batch_size=BATCH, seq_len=PROMPT), STEPS, "fp32")
    expected, flop = real_steps(*TYPES[layer])
    assert [sum(each.elements * each.element_bytes for each in cache) for cache in seen.caches] == expected
    assert sum(aten_cost(placed.call).matmul_flop for placed in seen.steps[1].calls) == pytest.approx(flop, rel=2e-3)


_RWKV = (
    "rwkv",
    "RwkvForCausalLM",
    {"vocab_size": 61, "hidden_size": 32, "attention_hidden_size": 32, "num_hidden_layers": 2, **TOKENS},
)


def test_a_class_that_mixes_sequences_is_counted_for_one_and_refused_for_more(tmp_path: Path) -> None:
    """Transformers' RWKV adds the last vectors [batch, width] to new ones [batch, 1, width]: each meets all others'."""
    path = saved(tmp_path, *_RWKV)
    seen = capture_decoding(path, Asked(batch_size=1, seq_len=PROMPT), 1, "fp32")
    assert sum(aten_cost(placed.call).matmul_flop for placed in seen.steps[0].calls) == 2 * (2 * 13 * 32 * 32 + 32 * 61)
    assert sum(each.elements for each in seen.caches[0]) == 5 * 2 * 32  # what came before twice, three sums; layers
    with pytest.raises(InputError, match=r"makes 2 tokens of one in a batch of 2.*give --batch-size 1"):
        capture_decoding(path, Asked(batch_size=2, seq_len=PROMPT), 1, "fp32")


def test_a_class_that_generates_nothing_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, *OTHER_TYPES["shared layers"])
    with pytest.raises(InputError, match="keeps nothing from one token to the next"):
        capture_decoding(path, Asked(batch_size=1, seq_len=4), 1, "fp32")


def test_count_shows_states_beside_keys_and_values(tmp_path: Path) -> None:
    path = saved(tmp_path, *OTHER_TYPES["state space beside attention"])
    typed = ("--inference", "--model", str(path), "--batch-size", "3", "--prompt-len", "10", "--new-tokens", "5")
    found = json.loads(CliRunner().invoke(count, (*typed, "--format", "json"), catch_exceptions=False).stdout)
    cache = found["inference"]["kv_cache"]
    assert cache["first_token_bytes"] == 2 * 2 * 2 * 8 * 2  # layers, keys and values, heads, width, bytes
    assert cache["full_bytes"] == 3 * 14 * cache["first_token_bytes"]
    assert cache["state_bytes"] == 2 * 3 * (96 * 4 * 2 + 8 * 8 * 16 * 4)  # layers, batch, convolution, state in fp32
    assert found["inference"]["decode"]["passes"] == 4
    assert "counted by capture of FalconH1ForCausalLM" in found["notes"]
    text = CliRunner().invoke(count, typed, catch_exceptions=False).stdout
    assert "of it states" in text


def test_what_is_alive_at_once_is_followed_from_call_to_call() -> None:
    def tensor(storage: int) -> TensorView:
        return TensorView(shape=(4,), dtype="float32", element_bytes=4, elements=4, storage=storage)

    def call(result: int, *read: int) -> PlacedCall:
        given = {f"argument{place}": tensor(storage) for place, storage in enumerate(read)}
        return PlacedCall(Place("m", "k"), "forward", AtenCall("aten::add", given, (tensor(result),)))

    calls = (call(1, 0), call(2, 1), call(3, 2, 1), call(4, 3))  # 0 is given; 1, 2 and 3 are there together
    assert activation_peak_bytes(Capture(calls=calls, kept=(), parameters=())) == 3 * 16
