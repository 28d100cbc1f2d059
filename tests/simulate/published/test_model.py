"""Models by the names that sources print."""

from __future__ import annotations

import pytest

from hwprof.simulate.published.model import published_model
from hwprof.specs.catalogue.lookup import load_model
from hwprof.specs.catalogue.published import PublishedRun


def model(name, **columns):
    base = {"id": "a", "accelerator": "H100", "n_devices": 8, "seq_len": 2048, "global_batch_seqs": 8}
    return published_model(PublishedRun(**base, model_name=name, **columns))


@pytest.mark.parametrize(
    ("printed", "name"),
    [
        ("llama3-70b (SFT)", "llama-3-70b"),
        ("Llama3.1-405B", "llama-3.1-405b"),
        ("Llama-3.1-8B-Instruct", "llama-3.1-8b"),
        ("GPT3-175B", "gpt3-175b"),
        ("Mixtral 8x7B", "mixtral-8x7b"),
        ("DeepSeek-V3", "deepseek-v3"),
    ],
)
def test_names_as_printed(printed, name):
    found, assumed = model(printed)
    assert found == load_model(name)
    assert assumed == ()


def test_a_cut_model_keeps_everything_but_its_layers():
    found, assumed = model("llama3_70b cut to 12 layers", n_layers=12)
    whole = load_model("llama-3-70b")
    assert found == whole.model_copy(update={"layers": 12})
    assert assumed == ("llama-3-70b with layers = 12",)


def test_a_cut_mixture_keeps_a_dense_layer_and_experts():
    """DeepSeek-V3 has 3 dense layers of 61; of 4 one stays dense."""
    found, _ = model("deepseekv3 cut to 4 layers", n_layers=4)
    assert (found.layers, found.moe.dense_layers, found.moe_layers) == (4, 1, 3)
    assert found.mla == load_model("deepseek-v3").mla


def test_columns_do_not_override_what_experts_and_latent_attention_have():
    found, assumed = model("DeepSeek-V3", ffn_hidden=2048, n_kv_heads=1, head_dim=64)
    assert found == load_model("deepseek-v3")
    assert assumed == ()


def test_a_model_of_columns_alone():
    dims = {"n_layers": 4, "hidden": 1024, "n_heads": 16, "vocab": 51200}
    plain, assumed = model("gpt L4 h1024", **dims)
    assert (plain.d_ff, plain.kv_heads, plain.head_dim, plain.gated, plain.positions) == (
        4096,
        16,
        64,
        False,
        "learned",
    )
    assert assumed == ("gpt L4 h1024 is not in the catalogue: architecture from the columns",)
    gated, _ = model("own", **dims, ffn_hidden=2816, gated_mlp=True, n_kv_heads=4)
    assert (gated.d_ff, gated.kv_heads, gated.gated, gated.positions) == (2816, 4, True, "rope")
    experts, _ = model("own", **dims, ffn_hidden=512, moe_experts=8, moe_topk=2)
    assert (experts.moe.experts, experts.moe.top_k, experts.moe.expert_ff) == (8, 2, 512)


def test_a_model_that_is_not_described_is_refused():
    with pytest.raises(ValueError, match="n_heads, vocab are blank"):
        model("own", n_layers=4, hidden=1024)


def test_short_names_are_not_taken_for_longer_ones():
    """ "gpt" begins many names, and is none of them."""
    with pytest.raises(ValueError, match="not in the catalogue"):
        model("gpt")
