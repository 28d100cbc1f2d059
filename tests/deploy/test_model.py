"""Models as serving sees them, against published parameter counts and the catalogue's own count."""

from __future__ import annotations

import json

import pytest

from hwprof.count.blocks.parameters import parameter_tensors
from hwprof.deploy.config import model_from_config
from hwprof.deploy.model import served_model
from hwprof.deploy.names import known_model
from hwprof.errors import HwprofError, InputError
from hwprof.specs.catalogue.lookup import load_model

LLAMA_70B = {
    "model_type": "llama",
    "hidden_size": 8192,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "intermediate_size": 28672,
    "vocab_size": 128256,
    "hidden_act": "silu",
}


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("Qwen/Qwen3.5-397B-A17B", 397),
        ("zai-org/GLM-5-FP8", 744),
        ("moonshotai/Kimi-K2.5", 1030),
        ("MiniMaxAI/MiniMax-M2.5", 229),
        ("deepseek-ai/DeepSeek-R1-0528", 671),
        ("openai/gpt-oss-120b", 117),
        ("meta-llama/Llama-3.1-70B-Instruct", 70.6),
        ("Qwen/Qwen3-235B-A22B-FP8", 235),
        ("Qwen/Qwen3-Next-80B-A3B-Instruct", 79.7),
        ("tencent/Hunyuan-A13B-Instruct", 80.4),
    ],
)
def test_names_of_a_hub_have_the_parameters_that_their_authors_state(name, billions):
    assert known_model(name).parameters / 1e9 == pytest.approx(billions, rel=0.005)


def test_a_name_whose_layers_servers_do_not_know_is_refused_without_its_class():
    with pytest.raises(InputError, match="nemotron-3-nano-30b-a3b has layers that are not among those of servers"):
        known_model("nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16")


@pytest.mark.parametrize("name", ["llama-3.1-8b", "deepseek-v3", "gpt-oss-120b", "qwen3-30b-a3b", "gemma-2-9b"])
def test_the_weights_are_those_of_the_catalogue_but_for_norms_and_biases(name):
    spec = load_model(name)
    counted = sum(tensor.elements * tensor.repeats for tensor in parameter_tensors(spec))
    assert served_model(spec).parameters == pytest.approx(counted, rel=0.002)


def test_a_config_is_the_same_model_as_the_catalogue_has():
    read = model_from_config(json.dumps(LLAMA_70B), "mine")
    known = served_model(load_model("llama-3.1-70b"))
    assert (read.mixing, read.feed, read.d_model, read.vocab) == (known.mixing, known.feed, known.d_model, known.vocab)


GEMMA_2_9B = {
    "model_type": "gemma2",
    "hidden_size": 3584,
    "num_hidden_layers": 42,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 256,
    "intermediate_size": 14336,
    "sliding_window": 4096,
    "vocab_size": 256000,
}


def test_what_a_family_implies_is_read_where_its_file_is_silent():
    """Tied embeddings and every second layer local in Gemma 2, tied ones in GPT-2, though neither file says so."""
    read = model_from_config(json.dumps(GEMMA_2_9B | {"unheard_of": [1]}), "mine")
    assert read.tied
    assert read.assumptions == ("not known, and taken to change no width: unheard_of",)
    assert [(one.layers, one.window) for one in read.mixing] == [(21, 0), (21, 4096)]
    assert read.parameters / 1e9 == pytest.approx(9.241, rel=0.001)  # 9.24 B in its model card
    gpt = {"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024, "vocab_size": 50257}
    assert model_from_config(json.dumps(gpt), "mine").parameters == pytest.approx(124_439_808, rel=0.01)


def test_an_encoder_is_served_by_no_one():
    config = {"model_type": "bert", "hidden_size": 768, "intermediate_size": 3072, "vocab_size": 30522}
    with pytest.raises(InputError, match="is of kind 'encoder'"):
        model_from_config(json.dumps(config | {"num_hidden_layers": 12, "num_attention_heads": 12}), "mine")


def test_layers_with_a_state_keep_no_tokens():
    mixing = known_model("qwen3.5-397b-a17b").mixing
    assert [(one.kind, one.layers) for one in mixing] == [("linear", 45), ("heads", 15)]
    assert mixing[0].cached_numbers == 0
    assert mixing[0].state_bytes == 64 * 128 * 128 * 4
    assert mixing[1].cached_numbers == 2 * (256 + 256)


def test_a_latent_cache_with_an_indexer_keeps_both_vectors():
    (mixing,) = known_model("glm-5").mixing
    assert (mixing.kind, mixing.chosen, mixing.cached_numbers) == ("latent", 2048, 512 + 64 + 128)


def test_a_text_model_inside_another_is_served_and_said():
    outer = {"model_type": "seen", "text_config": LLAMA_70B, "vision_config": {"hidden_size": 1152}}
    read = model_from_config(json.dumps(outer), "seen")
    assert read.layers == 80
    assert read.assumptions == ("the text model alone is served: no images or sounds",)


@pytest.mark.parametrize("text", ["{", "[]", '{"hidden_size": 64}', '{"hidden_size": "wide", "num_hidden_layers": 2}'])
def test_what_is_no_config_is_refused(text):
    with pytest.raises(HwprofError):
        model_from_config(text, "broken")


def test_an_encoder_is_no_server_of_tokens():
    with pytest.raises(HwprofError, match="decoder"):
        served_model(load_model("bert-base-uncased"))


@pytest.mark.parametrize(
    ("config", "billions"),
    [
        (
            {  # bigcode/starcoder2-3b
                "model_type": "starcoder2",
                "hidden_size": 3072,
                "num_hidden_layers": 30,
                "num_attention_heads": 24,
                "num_key_value_heads": 2,
                "intermediate_size": 12288,
                "vocab_size": 49152,
                "hidden_act": "gelu_pytorch_tanh",
                "tie_word_embeddings": True,
            },
            3.03,
        ),
        (
            {  # tiiuae/falcon-7b
                "model_type": "falcon",
                "hidden_size": 4544,
                "num_hidden_layers": 32,
                "num_attention_heads": 71,
                "multi_query": True,
                "vocab_size": 65024,
                "tie_word_embeddings": True,
            },
            6.92,
        ),
        (
            {  # meta-llama/Llama-4-Scout-17B-16E, its text model
                "model_type": "llama4_text",
                "hidden_size": 5120,
                "num_hidden_layers": 48,
                "num_attention_heads": 40,
                "num_key_value_heads": 8,
                "head_dim": 128,
                "intermediate_size": 8192,
                "intermediate_size_mlp": 16384,
                "num_local_experts": 16,
                "num_experts_per_tok": 1,
                "vocab_size": 202048,
            },
            107.77,
        ),
        (
            {  # google/gemma-3n: lists of widths
                "model_type": "gemma3n_text",
                "hidden_size": 2048,
                "num_hidden_layers": 2,
                "num_attention_heads": 8,
                "num_key_value_heads": 2,
                "head_dim": 256,
                "intermediate_size": [8192, 8192],
                "vocab_size": 1000,
            },
            0.125,
        ),
    ],
)
def test_families_say_the_same_in_their_own_words(config, billions):
    assert model_from_config(json.dumps(config), "own").parameters / 1e9 == pytest.approx(billions, rel=0.01)
