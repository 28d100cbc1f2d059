"""Is the model of a script the one that it makes, and is what is none said to be none?"""

import json
from dataclasses import replace
from threading import Thread

import pytest
import torch
from click.testing import CliRunner
from torch import distributed as dist
from torch import nn
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.nn import functional

from hwprof.cli.plan.command import command
from hwprof.emulate.answer import emulation
from hwprof.emulate.decoder import trained_of
from hwprof.emulate.folder import write_emulation
from hwprof.emulate.start import emulate, machine_named, recorded
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
        trained_of(emulated)


class Adapted(nn.Module):
    """A frozen linear layer with a pair of rank 4 beside it."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.base = nn.Linear(inputs, outputs, bias=False).requires_grad_(requires_grad=False)
        self.a, self.b = nn.Linear(inputs, 4, bias=False), nn.Linear(4, outputs, bias=False)

    def forward(self, x):
        return self.base(x) + self.b(self.a(x))


class Experts(nn.Module):
    """Each token to 2 of 6, and through 1 that all share."""

    def __init__(self):
        super().__init__()
        self.router = nn.Linear(64, 6, bias=False)
        self.up, self.down = (
            nn.ModuleList(nn.Linear(*size, bias=False) for _ in range(7)) for size in ((64, 96), (96, 64))
        )

    def forward(self, x):
        flat = x.flatten(0, 1)
        shares, chosen = self.router(flat).softmax(-1).topk(2, -1)
        out = self.down[6](functional.gelu(self.up[6](flat)))
        for number in range(6):
            tokens, place = (chosen == number).nonzero(as_tuple=True)
            done = self.down[number](functional.gelu(self.up[number](flat[tokens])))
            out = out.index_add(0, tokens, done * shares[tokens, place, None])
        return out.view_as(x)


class Layer(nn.Module):
    def __init__(self, linear, experts):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(64), nn.LayerNorm(64)
        self.q, self.k, self.v, self.o = (linear(*size) for size in ((64, 64), (64, 32), (64, 32), (64, 64)))
        self.ffn = Experts() if experts else nn.Sequential(linear(64, 256), nn.GELU(), linear(256, 64))

    def forward(self, x):
        q, k, v = (each(self.norm1(x)).unflatten(-1, (-1, 16)).transpose(1, 2) for each in (self.q, self.k, self.v))
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        x = x + self.o(mixed.transpose(1, 2).flatten(-2))
        return x + self.ffn(self.norm2(x))


def _linear(inputs, outputs):
    return nn.Linear(inputs, outputs, bias=False)


def _trains(linear=_linear, *, experts=False, tensor_ranks=1):
    def train():
        parts = [nn.Embedding(500, 64), *(Layer(linear, experts) for _ in range(3)), nn.Linear(64, 500, bias=False)]
        model = nn.Sequential(*parts).cuda().bfloat16()
        if tensor_ranks > 1:
            dist.init_process_group("nccl")
            mesh = dist.init_device_mesh("cuda", (tensor_ranks,))
            columns = dict.fromkeys(("q", "k", "v", "ffn.0"), ColwiseParallel())
            for layer in model[1:-1]:
                parallelize_module(layer, mesh, columns | dict.fromkeys(("o", "ffn.2"), RowwiseParallel()))
        optimizer = torch.optim.SGD([each for each in model.parameters() if each.requires_grad], 0.1)
        for _ in range(2):
            tokens = torch.randint(0, 500, (2, 33), device="cuda")
            functional.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten()).backward()
            optimizer.step()
            optimizer.zero_grad()

    return train


def _trained(train, devices=1):
    return trained_of(emulate(train, hardware="h100-sxm", devices=devices, steps=1).recording)


def test_experts_are_as_many_as_the_router_chooses_among():
    spec = _trained(_trains(experts=True)).spec
    assert (spec.layers, spec.d_model, spec.heads, spec.kv_heads, spec.gated) == (3, 64, 4, 2, False)
    assert (spec.moe.experts, spec.moe.top_k, spec.moe.expert_ff, spec.moe.shared_ff) == (6, 2, 96, 96)


def test_a_process_that_has_trained_already_emulates_what_trains():
    """Autograd's threads are made for the devices that there are at the first backward pass of a process."""
    torch.ones(3, requires_grad=True).sum().backward()
    spec = _trained(_trains()).spec
    assert (spec.layers, spec.d_model, spec.d_ff) == (3, 64, 256)


def test_a_backward_pass_in_a_thread_of_the_script_is_followed():
    torch.ones(3, requires_grad=True).sum().backward()

    def train():
        thread = Thread(target=_trains())
        thread.start()
        thread.join()

    apart, usual = (emulate(each, hardware="h100-sxm", steps=1).recording for each in (train, _trains()))
    assert apart.flop == usual.flop
    assert apart.call_count == usual.call_count


def test_what_tensor_ranks_share_is_whole_in_the_model():
    spec = _trained(_trains(tensor_ranks=2), devices=2).spec
    assert (spec.layers, spec.d_model, spec.heads, spec.kv_heads, spec.head_dim) == (3, 64, 4, 2, 16)
    assert (spec.d_ff, spec.vocab_size) == (256, 500)


def test_adapters_are_no_part_of_the_model_and_are_planned_with_it(tmp_path):
    found = emulate(_trains(Adapted), hardware="h100-sxm", steps=1)
    trained = trained_of(found.recording)
    assert (trained.spec.d_ff, trained.spec.kv_heads, trained.spec.moe) == (256, 2, None)
    assert (trained.adapters.rank, trained.adapters.targets) == (4, "all")
    write_emulation(found, (), tmp_path)
    asked = ["--hardware", "h100-sxm", "--devices", "1", "--global-batch", "8", "--format", "json"]
    whole = ["--model", str(tmp_path / "model.toml")]
    ways = (["--emulation", str(tmp_path)], [*whole, "--lora-rank", "4"], whole)
    answers = [json.loads(CliRunner().invoke(command, [*way, *asked]).stdout)["plans"][0] for way in ways]
    assert answers[0]["memory"] == answers[1]["memory"] != answers[2]["memory"]


def test_a_stage_of_a_pipeline_is_no_whole_model(emulated):
    sent = replace(emulated.collectives[emulated.events[next(iter(_collectives(emulated)))][1]], op="send", peer=1)
    with pytest.raises(InputError, match="spread over the stages of a pipeline"):
        trained_of(replace(emulated, collectives=(sent,) * len(emulated.collectives)))


def _collectives(recording):
    return (place for place, event in enumerate(recording.events) if event[0] == 1)
