from __future__ import annotations

import math
import re

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (the name that torch's own documentation uses)
from hypothesis import given, settings
from hypothesis import strategies as st

from hwprof.specs.model.spec import ModelSpec
from hwprof.train.attention import AttentionCore, Rope, rotary_tables
from hwprof.train.decoder import Decoder
from hwprof.train.initial import initial_std

_GPT2 = {
    "d_ff": 3072,
    "max_seq_len": 1024,
    "activation": "gelu",
    "gated": False,
    "norm": "layernorm",
    "positions": "learned",
    "tied_embeddings": True,
    "attention_bias": "all",
    "mlp_bias": True,
}
_LLAMA = {
    "max_seq_len": 2048,
    "activation": "silu",
    "gated": True,
    "norm": "rmsnorm",
    "positions": "rope",
    "attention_bias": "none",
    "mlp_bias": False,
}
# layers, d_model, heads, kv_heads, head_dim, vocab_size, more; parameters as released
_RELEASED = {
    "gpt2-124m": ((12, 768, 12, 12, 64, 50257), _GPT2, 124_439_808),
    "llama-3.2-1b": (
        (16, 2048, 32, 8, 64, 128256),
        {**_LLAMA, "d_ff": 8192, "tied_embeddings": True},
        1_235_814_400,
    ),
    "llama-2-7b": (
        (32, 4096, 32, 32, 128, 32000),
        {**_LLAMA, "d_ff": 11008, "tied_embeddings": False},
        6_738_415_616,
    ),
    "qwen2.5-0.5b": (
        (24, 896, 14, 2, 64, 151936),
        {**_LLAMA, "d_ff": 4864, "tied_embeddings": True, "attention_bias": "qkv"},
        494_032_768,
    ),
}


def _parameters(model):
    return sum(weight.numel() for weight in model.parameters())


@pytest.mark.parametrize("name", _RELEASED)
def test_parameter_count_is_that_of_the_released_model(name, decoder_spec):
    (layers, d_model, heads, kv_heads, head_dim, vocab_size), more, stated = _RELEASED[name]
    spec = decoder_spec(
        layers=layers,
        d_model=d_model,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        vocab_size=vocab_size,
        **more,
    )
    with torch.device("meta"):
        assert stated == _parameters(Decoder(spec))


def test_parameter_count_of_a_small_model_by_hand(decoder_spec):
    # embedding 256*32 = 8192; attention q 32*32, k and v 32*16 each, output 32*32 = 3072;
    # ffn 3*32*48 = 4608; two norms 64; a layer 7744, two layers 15488; final norm 32; tied head 0
    assert _parameters(Decoder(decoder_spec())) == 23_712
    # an own head adds 8192, its bias 256
    assert _parameters(Decoder(decoder_spec(tied_embeddings=False, head_bias=True))) == 32_160


def test_module_paths_are_the_contract_with_recorder_and_op_table(decoder_spec):
    paths = {re.sub(r"\.\d+", ".*", path) for path, _ in Decoder(decoder_spec()).named_modules()}
    assert paths == {
        "",
        "embedding",
        "embedding.tokens",
        "layers",
        "layers.*",
        "layers.*.attention_norm",
        "layers.*.attention",
        "layers.*.attention.query",
        "layers.*.attention.key",
        "layers.*.attention.value",
        "layers.*.attention.rope",
        "layers.*.attention.cache",
        "layers.*.attention.core",
        "layers.*.attention.output",
        "layers.*.ffn_norm",
        "layers.*.ffn",
        "layers.*.ffn.gate",
        "layers.*.ffn.up",
        "layers.*.ffn.activation",
        "layers.*.ffn.down",
        "final_norm",
        "head",
    }


def test_optional_modules_exist_only_where_the_spec_has_them(decoder_spec):
    plain = decoder_spec(gated=False, positions="learned", dropout=0.1, final_norm=False)
    paths = {path for path, _ in Decoder(plain).named_modules()}
    assert {"embedding.positions", "embedding.dropout", "layers.0.dropout1", "layers.0.dropout2"} <= paths
    assert not {"layers.0.ffn.gate", "layers.0.attention.rope", "final_norm"} & paths


@pytest.mark.parametrize(
    ("attention_bias", "biased"),
    [("none", set()), ("qkv", {"query", "key", "value"}), ("all", {"query", "key", "value", "output"})],
)
def test_attention_biases_are_those_of_the_spec(attention_bias, biased, decoder_spec):
    attention = Decoder(decoder_spec(attention_bias=attention_bias)).layers[0].attention
    linears = {name: getattr(attention, name) for name in ("query", "key", "value", "output")}
    assert biased == {name for name, linear in linears.items() if linear.bias is not None}


@pytest.mark.parametrize(("d_model", "tied"), [(32, True), (32, False), (256, True), (1024, False)])
@torch.no_grad()
def test_loss_starts_near_the_log_of_the_vocabulary(d_model, tied, decoder_spec):
    model = Decoder(decoder_spec(d_model=d_model, d_ff=4 * d_model, tied_embeddings=tied))
    tokens = torch.randint(256, (2, 33))
    loss = F.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
    assert float(loss) == pytest.approx(math.log(256), abs=0.4)


def test_wide_models_start_with_small_init():
    assert initial_std(768) == 0.02
    assert initial_std(4096) == pytest.approx(0.009882, rel=1e-4)  # sqrt(0.4 / 4096)


@pytest.mark.parametrize("placement", ["pre", "post"])
@pytest.mark.parametrize("positions", ["rope", "learned", "none"])
def test_a_later_token_does_not_change_earlier_logits(placement, positions, decoder_spec):
    model = Decoder(decoder_spec(norm_placement=placement, positions=positions))
    tokens = torch.randint(255, (1, 12))
    changed = tokens.clone()
    changed[0, 7] += 1
    before, after = model(tokens), model(changed)
    assert torch.allclose(before[0, :7], after[0, :7], atol=1e-6)
    assert all(not torch.allclose(before[0, place], after[0, place], atol=1e-6) for place in range(7, 12))


def _turned(vectors: torch.Tensor, theta: float) -> torch.Tensor:
    """RoPE by complex multiplication: element i and i + D/2 are one number, turned by position * theta^(-2i/D)."""
    seq, dim = vectors.shape[1], vectors.shape[-1]
    numbers = torch.complex(vectors[..., : dim // 2].double(), vectors[..., dim // 2 :].double())
    frequency = torch.tensor([theta ** (-2 * i / dim) for i in range(dim // 2)], dtype=torch.float64)
    turn = torch.exp(1j * torch.arange(seq, dtype=torch.float64)[:, None] * frequency)
    result = numbers * turn[:, None]
    return torch.cat([result.real, result.imag], dim=-1)


def test_rope_is_multiplication_by_unit_complex_numbers(decoder_spec):
    spec = decoder_spec(rope_theta=500_000.0)
    query, key = torch.randn(2, 64, 4, 8), torch.randn(2, 64, 2, 8)
    rotated = Rope(rotary_tables(spec))(query, key)
    for vectors, result in zip((query, key), rotated, strict=True):
        assert torch.allclose(_turned(vectors, 500_000.0), result.double(), atol=2e-5)


@given(near=st.integers(0, 20), far=st.integers(0, 20), shift=st.integers(1, 40))
@settings(max_examples=25, deadline=None)
def test_rope_scores_depend_only_on_distance(near, far, shift):
    spec = ModelSpec(**{**_SMALL, "max_seq_len": 64})
    generator = torch.Generator().manual_seed(1)
    query, key = (torch.randn(1, 1, 1, 8, generator=generator).expand(1, 64, 1, 8) for _ in range(2))
    query, key = Rope(rotary_tables(spec))(query, key)

    def score(place, other):
        return float(query[0, place, 0] @ key[0, other, 0])

    assert score(near, far) == pytest.approx(score(near + shift, far + shift), abs=1e-4)


_SMALL = {
    "name": "rope",
    "kind": "decoder",
    "layers": 1,
    "d_model": 8,
    "d_ff": 8,
    "heads": 1,
    "kv_heads": 1,
    "head_dim": 8,
    "vocab_size": 8,
    "activation": "silu",
    "gated": True,
    "norm": "rmsnorm",
    "norm_placement": "pre",
    "final_norm": True,
    "positions": "rope",
    "tied_embeddings": True,
    "attention_bias": "none",
    "mlp_bias": False,
    "source": {"all": "made up"},
}


def test_rope_keeps_the_type_of_its_input(decoder_spec):
    heads = torch.randn(1, 5, 2, 8, dtype=torch.bfloat16)
    assert all(result.dtype == torch.bfloat16 for result in Rope(rotary_tables(decoder_spec()))(heads, heads))


@pytest.mark.parametrize("native_gqa", [True, False])
def test_grouped_query_attention_equals_each_group_repeated_by_hand(native_gqa):
    grouped = AttentionCore(3, native_gqa=native_gqa)
    query, key, value = torch.randn(2, 5, 6, 8), torch.randn(2, 5, 2, 8), torch.randn(2, 5, 2, 8)
    head_by_head = []
    for head in range(6):
        scores = query[:, :, head] @ key[:, :, head // 3].transpose(1, 2) / math.sqrt(8)
        scores = scores.masked_fill(torch.triu(torch.ones(5, 5, dtype=torch.bool), 1), float("-inf"))
        head_by_head.append(scores.softmax(-1) @ value[:, :, head // 3])
    assert torch.allclose(torch.cat(head_by_head, dim=-1), grouped(query, key, value), atol=1e-5)


def _reference_norm(spec, norm, vectors):
    if spec.norm == "rmsnorm":
        return vectors / torch.sqrt(vectors.pow(2).mean(-1, keepdim=True) + 1e-5) * norm.weight
    centred = vectors - vectors.mean(-1, keepdim=True)
    return centred / torch.sqrt(centred.pow(2).mean(-1, keepdim=True) + 1e-5) * norm.weight + norm.bias


def _reference_linear(linear, vectors):
    result = vectors @ linear.weight.T
    return result if linear.bias is None else result + linear.bias


def _reference_attention(spec, attention, vectors):
    batch, seq, _ = vectors.shape
    query, key, value = (
        _reference_linear(linear, vectors).view(batch, seq, -1, spec.head_dim)
        for linear in (attention.query, attention.key, attention.value)
    )
    if spec.positions == "rope":
        query, key = _turned(query, spec.rope_theta), _turned(key, spec.rope_theta)
    group = spec.heads // spec.kv_heads
    mixed = torch.zeros_like(query)
    for head in range(spec.heads):
        for place in range(seq):
            scores = key[:, : place + 1, head // group] @ query[:, place, head, :, None] / math.sqrt(spec.head_dim)
            mixed[:, place, head] = (scores.softmax(1) * value[:, : place + 1, head // group]).sum(1)
    return _reference_linear(attention.output, mixed.flatten(2))


def _reference_ffn(spec, ffn, vectors):
    up = _reference_linear(ffn.up, vectors)
    if spec.gated:
        gate = _reference_linear(ffn.gate, vectors)
        return _reference_linear(ffn.down, gate / (1 + torch.exp(-gate)) * up)
    gelu = 0.5 * up * (1 + torch.tanh(math.sqrt(2 / math.pi) * (up + 0.044715 * up**3)))
    return _reference_linear(ffn.down, gelu)


def _reference_logits(spec, model, tokens):
    vectors = model.embedding.tokens.weight[tokens]
    if spec.positions == "learned":
        vectors = vectors + model.embedding.positions.weight[: tokens.shape[1]]
    layer = model.layers[0]
    if spec.norm_placement == "pre":
        normed = _reference_norm(spec, layer.attention_norm, vectors)
        vectors = vectors + _reference_attention(spec, layer.attention, normed)
        vectors = vectors + _reference_ffn(spec, layer.ffn, _reference_norm(spec, layer.ffn_norm, vectors))
    else:
        attended = vectors + _reference_attention(spec, layer.attention, vectors)
        vectors = _reference_norm(spec, layer.attention_norm, attended)
        vectors = _reference_norm(spec, layer.ffn_norm, vectors + _reference_ffn(spec, layer.ffn, vectors))
    if spec.final_norm:
        vectors = _reference_norm(spec, model.final_norm, vectors)
    return _reference_linear(model.head, vectors)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"tied_embeddings": False, "head_bias": True, "attention_bias": "qkv", "kv_heads": 4},
        {
            "positions": "learned",
            "gated": False,
            "activation": "gelu",
            "norm": "layernorm",
            "attention_bias": "all",
            "mlp_bias": True,
        },
        {"norm_placement": "post", "final_norm": False, "norm": "layernorm", "positions": "none"},
    ],
    ids=["llama", "qwen", "gpt2", "post-norm"],
)
def test_one_layer_equals_the_formulas_in_double_precision(changes, decoder_spec):
    spec = decoder_spec(layers=1, **changes)
    model = Decoder(spec).double()
    with torch.no_grad():
        for weight in model.parameters():  # biases and norms away from 0 and 1, so that they are tested
            weight.add_(torch.randn_like(weight) * 0.2)
        tokens = torch.randint(256, (2, 9))
        assert torch.allclose(_reference_logits(spec, model, tokens), model(tokens), atol=1e-5, rtol=1e-5)


def test_tied_head_is_the_embedding(decoder_spec):
    model = Decoder(decoder_spec())
    assert model.head.weight is model.embedding.tokens.weight


def test_dropout_acts_in_training_only(decoder_spec):
    model = Decoder(decoder_spec(dropout=0.5))
    tokens = torch.randint(256, (1, 8))
    assert not torch.equal(model(tokens), model(tokens))
    model.eval()
    assert torch.equal(model(tokens), model(tokens))
