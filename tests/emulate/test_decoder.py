"""Is the model of a script the one that it makes, and is what is none said to be none?"""

import json

import pytest
from click.testing import CliRunner

from hwprof.cli.plan.command import command
from hwprof.emulate.answer import emulation
from hwprof.emulate.decoder import decoder_of
from hwprof.emulate.folder import write_emulation
from hwprof.emulate.start import machine_named, recorded
from hwprof.errors import InputError
from hwprof.specs.catalogue.lookup import load_model
from hwprof.specs.catalogue.simulator import simulator_parameters

SCRIPT = """
import torch
from torch import nn
from torch.nn import functional as F

class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.n1, self.n2 = nn.RMSNorm(64), nn.RMSNorm(64)
        self.q, self.kv, self.o = nn.Linear(64, 64, bias=False), nn.Linear(64, 64, bias=False), nn.Linear(64, 64, bias=False)
        self.gate, self.up, self.down = nn.Linear(64, 192, bias=False), nn.Linear(64, 192, bias=False), nn.Linear(192, 64, bias=False)
    def forward(self, x):
        y = self.n1(x)
        q = self.q(y).view(2, 32, 4, 16).transpose(1, 2)
        k, v = (each.view(2, 32, 2, 16).transpose(1, 2) for each in self.kv(y).chunk(2, -1))
        x = x + self.o(F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True).transpose(1, 2).reshape(2, 32, 64))
        y = self.n2(x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y))

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.e, self.h = nn.Embedding(500, 64), nn.Linear(64, 500, bias=False)
        self.blocks = nn.ModuleList(Block() for _ in range(3))
    def forward(self, x):
        x = self.e(x)
        for block in self.blocks:
            x = block(x)
        return self.h(x)

model = Model().cuda().bfloat16()
optimizer = torch.optim.AdamW(model.parameters())
for _ in range(3):
    x = torch.randint(0, 500, (2, 33), device="cuda")
    F.cross_entropy(model(x[:, :-1]).flatten(0, 1), x[:, 1:].flatten()).backward()
    optimizer.step()
    optimizer.zero_grad()
"""  # noqa: E501


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    found = tmp_path_factory.mktemp("decoder")
    (found / "train.py").write_text(SCRIPT, encoding="utf-8")
    machine = machine_named("h100-sxm", 1)
    recordings = recorded([str(found / "train.py")], machine)
    write_emulation(emulation(recordings, machine, simulator_parameters()), (), found / "out")
    return found / "out"


def test_the_dimensions_are_those_of_the_script(folder):
    spec = load_model(folder / "model.toml")
    assert (spec.layers, spec.d_model, spec.heads, spec.kv_heads, spec.head_dim) == (3, 64, 4, 2, 16)
    assert (spec.d_ff, spec.gated, spec.vocab_size, spec.max_seq_len) == (192, True, 500, 32)
    assert (spec.kind, spec.norm, spec.activation, spec.mlp_bias) == ("decoder", "rmsnorm", "silu", False)


def test_the_planner_starts_from_it(folder):
    asked = ["--emulation", str(folder), "--hardware", "h100-sxm", "--devices", "8", "--global-batch", "64"]
    result = CliRunner().invoke(command, [*asked, "--format", "json"])
    assert result.exit_code == 0
    assert json.loads(result.stdout)["plans"]


def test_another_model_beside_it_is_refused(folder):
    asked = ["--emulation", str(folder), "--model", "8b", "--hardware", "h100-sxm", "--devices", "8"]
    result = CliRunner().invoke(command, [*asked, "--global-batch", "64"])
    assert isinstance(result.exception, InputError)


def test_what_is_no_decoder_is_said_to_be_none(emulated):
    with pytest.raises(InputError, match="no words for the script's model"):
        decoder_of(emulated)
