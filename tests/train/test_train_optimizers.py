from __future__ import annotations

import pytest
import torch
from torch import nn

from hwprof.errors import InputError
from hwprof.train.decoder import Decoder
from hwprof.train.optimizers import build_optimizer, implementations

_RATES = {"adamw": 3e-3, "adam": 3e-3, "sgd": 0.3, "adafactor": 0.03}
_PAIRS = [(name, implementation) for name in _RATES for implementation in implementations(name)]


def _trained(spec, name, implementation, steps=6):
    torch.manual_seed(0)
    model = Decoder(spec)
    optimizer = build_optimizer(model, name, implementation, learning_rate=_RATES[name])
    tokens = torch.randint(256, (2, 17))
    losses = []
    for _ in range(steps):
        loss = nn.functional.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    return model, losses


@pytest.mark.parametrize(("name", "implementation"), _PAIRS)
def test_every_optimizer_lowers_the_loss(name, implementation, decoder_spec):
    _, losses = _trained(decoder_spec(), name, implementation)
    assert losses[-1] < losses[0] - 0.05


@pytest.mark.parametrize(("name", "implementation"), [pair for pair in _PAIRS if pair[1] != "for-loop"])
def test_every_implementation_computes_the_same_update(name, implementation, decoder_spec):
    expected, _ = _trained(decoder_spec(), name, "for-loop", steps=2)
    found, _ = _trained(decoder_spec(), name, implementation, steps=2)
    for one, other in zip(expected.parameters(), found.parameters(), strict=True):
        assert torch.allclose(one, other, atol=2e-5)


@pytest.mark.parametrize(
    ("implementation", "flags"),
    [("for-loop", (False, False)), ("foreach", (True, False)), ("fused", (False, True))],
)
def test_implementation_is_the_one_asked_for(implementation, flags):
    optimizer = build_optimizer(nn.Linear(2, 2), "adamw", implementation, learning_rate=1e-3)
    assert all((group["foreach"], group["fused"]) == flags for group in optimizer.param_groups)


def test_weight_decay_shrinks_matrices_and_leaves_the_rest():
    model = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3))
    optimizer = build_optimizer(model, "adamw", "for-loop", learning_rate=0.5)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    for weight in model.parameters():
        weight.grad = torch.zeros_like(weight)
    optimizer.step()
    after = dict(model.named_parameters())
    assert torch.allclose(after["0.weight"], before["0.weight"] * 0.95)  # 1 - 0.5 * 0.1
    assert all(torch.equal(after[name], before[name]) for name in ("0.bias", "1.weight", "1.bias"))


def test_tied_weights_are_updated_once(decoder_spec):
    optimizer = build_optimizer(Decoder(decoder_spec()), "adamw", "for-loop", learning_rate=1e-3)
    assert sum(weight.numel() for group in optimizer.param_groups for weight in group["params"]) == 23_712


def test_missing_implementation_says_which_there_are():
    with pytest.raises(InputError, match=r"'adafactor' has no 'fused' implementation.* has for-loop, foreach"):
        build_optimizer(nn.Linear(2, 2), "adafactor", "fused", learning_rate=1e-3)


class _AdamWWithoutFusedKernels(torch.optim.AdamW):
    def __init__(self, params, lr, betas, *, foreach, fused):
        if fused:
            raise RuntimeError("`fused=True` requires all the params to be on supported devices")
        super().__init__(params, lr=lr, betas=betas, foreach=foreach)


def test_fused_on_a_device_without_such_kernels_says_what_there_is(monkeypatch):
    monkeypatch.setattr(torch.optim, "AdamW", _AdamWWithoutFusedKernels)
    with pytest.raises(InputError, match=r"here \(`fused=True` requires .*\); .* has for-loop, foreach"):
        build_optimizer(nn.Linear(2, 2), "adamw", "fused", learning_rate=1e-3)


def test_optimizer_that_this_torch_lacks_is_refused(monkeypatch):
    monkeypatch.delattr(torch.optim, "Adafactor")
    with pytest.raises(InputError, match=r"has no optimizer 'adafactor'; it has adamw, adam, sgd"):
        build_optimizer(nn.Linear(2, 2), "adafactor", "for-loop", learning_rate=1e-3)
