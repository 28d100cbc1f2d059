"""Prefill, decode and cache of every family against transformers' own modules with a real cache: equal.

Small modules run for real on the CPU with eager attention under torch's ``FlopCounterMode``; tables of rotary angles,
which older versions of transformers write as a matrix product, are left out of the witness's count, nothing else.
transformers caches the latent vector of latent attention and computes all keys and values from it in each step: that is
the form ``reexpanded``. Its growing cache of a window of w holds w - 1 tokens between steps and w during a step.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from small_transformers import (
    DECODER,
    MLA,
    MOE,
    OWN_HEADS,
    SIDES,
    T5,
    TOKENS,
    WITHOUT_WIDTH,
    multiplied,
    small_transformer,
    transformers,
)
from torch import nn

from hwprof.count.inference.cache import kv_cache, visible_keys
from hwprof.count.inference.generation import generation
from hwprof.count.inference.phases import Batch, prefill_ops, step_ops
from hwprof.count.inference.serving import Serving, served
from hwprof.count.inference.weights import weights_bytes
from hwprof.count.ops.cost import Cost
from hwprof.count.ops.operation import Op
from hwprof.specs.huggingface import model_from_config
from hwprof.specs.model.spec import ModelSpec

BATCH, PROMPT, SOURCE, MEL_BINS, STEPS = 2, 12, 20, 8, 3
SERVING = Serving(dtype="fp32", mla="reexpanded")

_SIDES = SIDES | TOKENS | {"encoder_attention_heads": 4}

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama, grouped": ("llama", DECODER | {"attention_bias": True, "head_dim": 16}),
    "llama, one key head, tied": ("llama", DECODER | {"num_key_value_heads": 1, "tie_word_embeddings": True}),
    "gpt2": ("gpt2", {"vocab_size": 61, "n_positions": 64, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_inner": 80}),
    "opt, narrow": ("opt", WITHOUT_WIDTH | {"ffn_dim": 80, "word_embed_proj_dim": 16, "do_layer_norm_before": False}),
    "bloom": ("bloom", {"vocab_size": 61, "hidden_size": 32, "n_layer": 3, "n_head": 4}),
    "gpt-neox": ("gpt_neox", OWN_HEADS),
    "falcon, one key head": ("falcon", WITHOUT_WIDTH | {"num_kv_heads": 4}),  # with groups it caches every head
    "qwen3": ("qwen3", DECODER | {"head_dim": 16}),
    "mistral, window": ("mistral", DECODER | {"sliding_window": 8, "head_dim": 8}),
    "mistral, window not yet full": ("mistral", DECODER | {"sliding_window": 14, "head_dim": 8}),
    "gemma2": ("gemma2", DECODER | {"head_dim": 16, "sliding_window": 8}),
    "gemma3": ("gemma3_text", DECODER | {"head_dim": 16, "sliding_window": 8, "num_hidden_layers": 7}),
    "mixtral": ("mixtral", MOE | {"num_local_experts": 4}),
    "gpt-oss": ("gpt_oss", MOE | {"num_local_experts": 4, "head_dim": 16, "sliding_window": 8}),
    "deepseek-v2": ("deepseek_v2", MLA | {"q_lora_rank": None, "n_shared_experts": 2}),
    "deepseek-v3": ("deepseek_v3", MLA | {"q_lora_rank": 12, "n_shared_experts": 1, "attention_bias": True}),
    "t5": ("t5", T5 | {"architectures": ["T5ForConditionalGeneration"]}),
    "bart": ("bart", _SIDES | {"architectures": ["BartForConditionalGeneration"]}),
    "whisper": (
        "whisper",
        _SIDES
        | {"num_mel_bins": MEL_BINS, "max_source_positions": SOURCE, "max_target_positions": 64}
        | {"architectures": ["WhisperForConditionalGeneration"]},
    ),
}


class Served(NamedTuple):
    module: Any
    spec: ModelSpec

    @property
    def source(self) -> int:
        return SOURCE if self.spec.encoder else 0


@pytest.fixture(autouse=True)
def _quietly() -> Iterator[None]:
    """What transformers warns of is its own affair."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture(scope="module", params=FAMILIES)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Served:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return made(*FAMILIES[request.param], folder=tmp_path_factory.mktemp("model"))


def made(kind: str, keys: dict[str, Any], *, folder: Path) -> Served:
    module = small_transformer(kind, keys)
    module.config.save_pretrained(folder)
    return Served(module, model_from_config(folder / "config.json"))


def first_inputs(model: Served) -> dict[str, Any]:
    prompt = torch.randint(3, 60, (BATCH, PROMPT))
    if model.spec.encoder is None:
        return {"input_ids": prompt, "logits_to_keep": 1} if keeps_logits(model.module) else {"input_ids": prompt}
    if model.spec.encoder.mel_bins:
        source = {"input_features": torch.randn(BATCH, MEL_BINS, 2 * SOURCE)}
    else:
        source = {"input_ids": torch.randint(3, 60, (BATCH, SOURCE))}
    return source | {"decoder_input_ids": prompt}


def keeps_logits(module: nn.Module) -> bool:
    """Whether the module can leave out the logits of all tokens but the last."""
    return "logits_to_keep" in module.forward.__code__.co_varnames


def next_inputs(model: Served, before: Any) -> dict[str, Any]:
    token = torch.randint(3, 60, (BATCH, 1))
    if model.spec.encoder is None:
        return {"input_ids": token, "past_key_values": before.past_key_values}
    encoded = (before.encoder_last_hidden_state,)
    return {"decoder_input_ids": token, "encoder_outputs": encoded, "past_key_values": before.past_key_values}


def matmul_flop(ops: tuple[Op, ...]) -> float:
    return sum((op.cost("forward") for op in ops), Cost.ZERO).matmul_flop


def test_flop_of_prefill_and_of_each_decode_step_equal_those_of_the_module(model: Served) -> None:
    flop, output = multiplied(lambda: model.module(**first_inputs(model), use_cache=True))
    all_logits = model.spec.encoder is not None or not keeps_logits(model.module)
    prefill = prefill_ops(
        model.spec,
        batch_size=BATCH,
        prompt_tokens=PROMPT,
        serving=SERVING,
        source_tokens=model.source,
        all_logits=all_logits,
    )
    assert matmul_flop(prefill) == flop
    for context in range(PROMPT, PROMPT + STEPS):
        inputs = next_inputs(model, output)
        encoder = output.encoder_last_hidden_state if model.source else None
        flop, output = multiplied(lambda inputs=inputs: model.module(**inputs, use_cache=True))
        if encoder is not None:
            output.encoder_last_hidden_state = encoder
        batch = Batch(spec=served(model.spec), size=BATCH, serving=SERVING, source_tokens=model.source)
        step = step_ops(batch, visible_keys(model.spec, context + 1))
        assert matmul_flop(step) == flop


def stored(cache: Any) -> tuple[int, int]:
    """Bytes of all tensors of a cache, and those of layers with a window."""
    sizes = [(layer, layer.keys.nbytes + layer.values.nbytes) for layer in cache.layers]
    return sum(size for _, size in sizes), sum(size for layer, size in sizes if layer.is_sliding)


def test_bytes_of_the_cache_equal_those_of_the_tensors_in_it(model: Served) -> None:
    output = model.module(**first_inputs(model), use_cache=True)
    shapes = {"batch_size": BATCH, "dtype": "fp32", "mla": "reexpanded", "source_tokens": model.source}
    cache = kv_cache(model.spec, context_tokens=PROMPT, **shapes)
    if model.source:
        assert (cache.full_bytes, 0) == stored(output.past_key_values.self_attention_cache)
        assert (cache.cross_bytes, 0) == stored(output.past_key_values.cross_attention_cache)
        return
    window = model.spec.attention.window
    between_steps = kv_cache(model.spec, context_tokens=window.tokens - 1, **shapes) if window else cache
    in_window = min(cache.window_bytes, between_steps.window_bytes)
    assert (cache.full_bytes + in_window, in_window) == stored(output.past_key_values)


def test_bytes_of_weights_equal_those_of_the_module(model: Served) -> None:
    assert weights_bytes(model.spec, SERVING) == sum(weight.nbytes for weight in model.module.parameters())


def test_a_static_cache_has_as_many_slots_as_the_window(tmp_path: Path) -> None:
    model = made(*FAMILIES["gemma2"], folder=tmp_path)
    cache = transformers.StaticCache(config=model.module.config, max_cache_len=PROMPT)
    model.module(**first_inputs(model), past_key_values=cache)
    ours = kv_cache(model.spec, batch_size=BATCH, context_tokens=PROMPT, dtype="fp32")
    assert (ours.total_bytes, ours.window_bytes) == stored(cache)


@pytest.mark.parametrize("family", ["llama, grouped", "gpt2", "mixtral", "gemma3", "deepseek-v3"])
def test_flop_of_a_generation_equal_those_of_generate(family: str, tmp_path: Path) -> None:
    model = made(*FAMILIES[family], folder=tmp_path)
    new = 6
    prompt = torch.randint(3, 60, (BATCH, PROMPT))
    lengths = {"max_new_tokens": new, "min_new_tokens": new, "do_sample": False}
    flop, tokens = multiplied(lambda: model.module.generate(prompt, attention_mask=torch.ones_like(prompt), **lengths))
    assert tokens.shape == (BATCH, PROMPT + new)
    work = generation(model.spec, batch_size=BATCH, prompt_tokens=PROMPT, new_tokens=new, serving=SERVING)
    assert work.prefill.cost.matmul_flop + work.decode.cost.matmul_flop == flop
