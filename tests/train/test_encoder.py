from __future__ import annotations

import torch
from torch import nn

from hwprof.train.encoder import Encoder


def test_parameter_count_by_hand(encoder_spec):
    # a layer: in_proj 3*(16*16 + 16) = 816, out_proj 272, linear1 544, linear2 528, two norms 64: 2224
    # two layers 4448; embedding 300*16 = 4800; head 4800
    assert sum(weight.numel() for weight in Encoder(encoder_spec()).parameters()) == 14_048


def test_logits_equal_those_of_torch_stock_encoder(encoder_spec):
    model = Encoder(encoder_spec())
    layer = nn.TransformerEncoderLayer(16, 2, dim_feedforward=32, dropout=0.0, activation="gelu", batch_first=True)
    stock = nn.TransformerEncoder(layer, num_layers=2, enable_nested_tensor=False)
    weights = model.state_dict()
    stock.load_state_dict({key: value for key, value in weights.items() if key.startswith("layers.")})
    tokens = torch.randint(300, (2, 7))
    expected = stock(weights["embedding.tokens.weight"][tokens]) @ weights["head.weight"].T
    assert torch.allclose(expected, model(tokens), atol=1e-6)


def test_every_token_sees_every_other(encoder_spec):
    model = Encoder(encoder_spec())
    tokens = torch.randint(299, (1, 6))
    changed = tokens.clone()
    changed[0, 5] += 1
    before, after = model(tokens), model(changed)
    assert all(not torch.equal(before[0, place], after[0, place]) for place in range(6))


def test_dropout_of_the_spec_reaches_the_layers(encoder_spec):
    model = Encoder(encoder_spec(dropout=0.25))
    assert model.layers[1].dropout1.p == 0.25
    assert model.layers[1].self_attn.dropout == 0.25
    assert model.embedding.dropout.p == 0.25
