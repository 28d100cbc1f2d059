"""What serving sees of captured models: all their weights, and for each sequence what their own caches keep."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from other_types import OTHER_TYPES
from small_transformers import MLA, transformers

from hwprof.cli.deploy.command import command as deploy
from hwprof.errors import InputError
from hwprof.session.captured import counted_server

pytestmark = pytest.mark.filterwarnings("ignore")  # what transformers warns of is its own affair


def saved(folder: Path, layer: str) -> str:
    kind, name, keys = OTHER_TYPES[layer]
    path = folder / "config.json"
    path.write_text(json.dumps({"model_type": kind, "architectures": [name], **keys}))
    return str(path)


def weights_of(layer: str) -> int:
    kind, name, keys = OTHER_TYPES[layer]
    module = getattr(transformers, name)._from_config(transformers.CONFIG_MAPPING[kind](**keys))
    return sum(each.numel() for each in module.parameters())


@pytest.mark.parametrize(
    ("layer", "layers", "tokens", "state_bytes"),
    [
        ("state space 2", 2, 0, 2 * (96 * 4 * 2 + 8 * 8 * 16 * 4)),  # each layer: convolution in bf16, state in fp32
        ("state space beside attention", 2, 2 * 32, 2 * (96 * 4 * 2 + 8 * 8 * 16 * 4)),
        ("short convolution", 3, 32, 2 * 32 * 3 * 2),  # one layer of three has keys: 2 heads of 8, and values
        ("gated delta", 4, 64, 3 * (64 * 4 * 2 + 4 * 8 * 8 * 4)),
    ],
)
def test_each_sequence_keeps_what_the_class_keeps(
    layer: str, layers: int, tokens: int, state_bytes: int, tmp_path: Path
) -> None:
    model = counted_server(saved(tmp_path, layer))
    assert model.parameters == weights_of(layer)
    assert model.layers == layers
    assert sum(one.layers * one.cached_numbers for one in model.mixing) == tokens
    assert sum(one.layers * one.state_bytes for one in model.mixing) == state_bytes


def test_routed_experts_are_told_from_what_every_token_passes(tmp_path: Path) -> None:
    model = counted_server(saved(tmp_path, "gated delta"))
    assert [(feed.experts, feed.top_k, feed.expert_width) for feed in model.feed if feed.experts] == [(4, 2, 24)]
    assert model.expert_weights == 4 * 4 * 3 * 24 * 32  # layers, experts, matrices
    assert model.dense_weights == 4 * (3 * 24 * 32 + 32)  # shared experts and their gates


def test_a_latent_cache_is_that_of_servers_where_the_file_says_all_weights(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    keys = {**MLA, "num_hidden_layers": 2, "q_lora_rank": 16, "index_topk": 4, "index_n_heads": 2, "index_head_dim": 8}
    keys |= {"hidden_size": 256, "intermediate_size": 512, "moe_intermediate_size": 128, "n_shared_experts": 1}
    path.write_text(json.dumps({"model_type": "deepseek_v32", "architectures": ["DeepseekV32ForCausalLM"], **keys}))
    model = counted_server(str(path))
    assert {one.kind for one in model.mixing} == {"latent"}
    assert {one.cached_numbers for one in model.mixing} == {16 + 4 + 8}  # latent vector, rotary key, indexer's key


def test_deploy_answers_for_a_model_with_states(tmp_path: Path) -> None:
    typed = ("--model", saved(tmp_path, "state space 2"), "--hardware", "h100-sxm", "--users", "1,64")
    found = json.loads(CliRunner().invoke(deploy, (*typed, "--format", "json"), catch_exceptions=False).stdout)
    assert "counted by capture of Mamba2ForCausalLM" in json.dumps(found)
    encoder = saved(tmp_path, "shared layers")
    refused = CliRunner().invoke(deploy, ("--model", encoder, "--hardware", "h100-sxm"))
    assert isinstance(refused.exception, InputError)
    assert "generates no tokens; a server predicts tokens with a decoder" in str(refused.exception)


@pytest.mark.parametrize(("layer", "heads"), [("state space 2", {8}), ("short convolution", {4, 32})])
def test_tensor_ranks_share_states_by_heads_or_channels(layer: str, heads: set[int], tmp_path: Path) -> None:
    assert {one.heads for one in counted_server(saved(tmp_path, layer)).mixing} == heads
