from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from hwprof.train.decoder import Decoder
from hwprof.train.encoder import Encoder


def _twins(kind, spec, recompute):
    plain, other = kind(spec), kind(spec, recompute=recompute)
    other.load_state_dict(plain.state_dict())
    return plain, other


def _gradients(model, tokens):
    torch.manual_seed(3)  # the same dropout
    model(tokens).logsumexp(-1).sum().backward()
    return {name: weight.grad for name, weight in model.named_parameters()}


@pytest.mark.parametrize("recompute", ["selective", "full"])
@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_gradients_of_a_decoder_are_those_without_recompute(recompute, dropout, decoder_spec):
    plain, other = _twins(Decoder, decoder_spec(dropout=dropout), recompute)
    tokens = torch.randint(256, (2, 16))
    expected = _gradients(plain, tokens)
    assert all(torch.equal(expected[name], gradient) for name, gradient in _gradients(other, tokens).items())


@pytest.mark.parametrize("recompute", ["selective", "full"])
def test_gradients_of_an_encoder_are_those_without_recompute(recompute, encoder_spec):
    plain, other = _twins(Encoder, encoder_spec(dropout=0.1), recompute)
    tokens = torch.randint(300, (2, 16))
    expected = _gradients(plain, tokens)
    assert all(torch.equal(expected[name], gradient) for name, gradient in _gradients(other, tokens).items())


@pytest.mark.parametrize("recompute", ["selective", "full"])
def test_gradients_agree_under_bf16_autocast(recompute, decoder_spec):
    plain, other = _twins(Decoder, decoder_spec(), recompute)
    tokens = torch.randint(256, (2, 16))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected, found = _gradients(plain, tokens), _gradients(other, tokens)
    assert all(torch.equal(expected[name], gradient) for name, gradient in found.items())


class _OperatorCount(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.calls = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.calls[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


def _calls(spec, recompute):
    model = Decoder(spec, recompute=recompute)
    with _OperatorCount() as count:
        model(torch.randint(256, (2, 16))).sum().backward()
    return count.calls


def test_selective_recomputes_activations_but_no_matrix_product(decoder_spec):
    none, selective = _calls(decoder_spec(), "none"), _calls(decoder_spec(), "selective")
    assert none["mm"] == selective["mm"]
    attention = "_scaled_dot_product_flash_attention_for_cpu"
    assert none[attention] == selective[attention] == 2
    assert none["silu"] == 2  # one a layer
    assert selective["silu"] == 4


def _matmul_flop(spec, recompute):
    with torch.device("meta"):
        model = Decoder(spec, recompute=recompute)
        tokens = torch.zeros(2, 16, dtype=torch.int64)
    with FlopCounterMode(display=False) as forward:
        logits = model(tokens)
    with FlopCounterMode(display=False) as backward:
        logits.sum().backward()
    return forward.get_total_flops(), backward.get_total_flops()


def test_full_recompute_adds_the_forward_flop_of_the_layers_but_their_last_product(decoder_spec):
    spec = decoder_spec(kv_heads=4)
    forward_flop, backward_flop = _matmul_flop(spec, "none")
    again_forward_flop, again_backward_flop = _matmul_flop(spec, "full")
    head_flop = 2 * (2 * 16) * 32 * 256
    # recompute stops as soon as all that backward needs is there; the result of ``down`` is not needed
    down_flop = 2 * (2 * 2 * 16 * 48 * 32)
    assert again_forward_flop == forward_flop
    assert again_backward_flop - backward_flop == forward_flop - head_flop - down_flop
