"""What programs of others do that plain loops don't: kernels of their own, generators, typed products."""

from importlib.machinery import ModuleSpec

import pytest
import torch

from hwprof.count.aten.registry import aten_cost
from hwprof.emulate.believed import Believed
from hwprof.emulate.run.cuda.kernels import follow
from hwprof.emulate.run.rank import Rank
from hwprof.emulate.run.values import dealt
from hwprof.emulate.start import emulate, machine_named, recorded
from hwprof.errors import InputError

MEGATRON = """
import pytest
import torch
torch.cuda.manual_seed(1)
before = torch.cuda.get_rng_state()
generator = torch.cuda.default_generators[0]
generator.set_state(before)
generator.graphsafe_set_state(generator.clone_state())
assert generator.get_state().numel() == before.numel() == 16
host = torch.get_rng_state()
torch.set_rng_state(host)
weight = torch.nn.Parameter(torch.randn(64, 32, device="cuda", dtype=torch.bfloat16))
optimizer = torch.optim.SGD([weight], lr=0.1)
for _ in range(3):
    x = torch.randn(128, 64, device="cuda", dtype=torch.bfloat16)
    with torch.no_grad():
        torch.mm(x, weight, out_dtype=torch.float32)
    (x @ weight).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
"""


class Kernel:
    """As ``triton.runtime.jit.JITFunction`` of Triton 3.9 is launched."""

    def __init__(self, fn):
        self.fn = fn

    def __getitem__(self, grid):
        return lambda *args, **kwargs: self.run(*args, grid=grid, warmup=False, **kwargs)


class Tuned(Kernel):
    pass


def test_a_kernel_written_in_triton_counts_with_its_tensors():
    def squared_kernel():
        raise AssertionError("it is compiled, never called")

    believed = Believed(name="", capability=(9, 0), capacity_bytes=10**9, units=1, devices=1, node=1)
    rank = Rank(0, believed)
    follow(rank, Kernel, (Tuned,))
    x, y = torch.ones(1024, 256), torch.zeros(1024, 256)
    for _ in range(2):
        Tuned(Kernel(squared_kernel))[(8,)](x, y, x.numel(), BLOCK=128)
    (only,) = rank.tape.calls
    assert (only.name, rank.tape.current.calls) == ("triton::squared_kernel", 2)
    assert only.call is not None
    assert aten_cost(only.call).moved_bytes == 2 * 1024 * 256 * 4
    assert list(rank.notes) == ["kernel triton::squared_kernel: its tensors are counted once, its arithmetic is not"]


def test_generators_of_a_device_have_states_and_products_may_name_their_result(tmp_path):
    """Megatron-Core keeps states of generators by tensor-parallel rank; TRL multiplies into 32 bits."""
    script = tmp_path / "train.py"
    script.write_text(MEGATRON, encoding="utf-8")
    found = recorded([str(script)], machine_named("h100-sxm", 1))[0]
    assert found.flop == 3 * 2 * 128 * 64 * 32


BATCH_NORM = """
import os, torch, torch.distributed as dist
from torch.nn.attention.flex_attention import flex_attention
dist.init_process_group("nccl")
model = torch.nn.SyncBatchNorm.convert_sync_batchnorm(
    torch.nn.Sequential(torch.nn.Conv2d(3, 16, 3), torch.nn.BatchNorm2d(16), torch.nn.ReLU())
).cuda()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
generator = torch.Generator()
state = generator.get_state().cuda()
dist.broadcast(state, 0)
generator.set_state(state.cpu())
for _ in range(3):
    model(torch.randn(8, 3, 32, 32, device="cuda")).mean().backward()
    query = torch.randn(1, 2, 128, 16, device="cuda", requires_grad=True)
    flex_attention(query, query, query).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
"""


def test_batch_norms_over_ranks_flex_attention_and_states_from_other_ranks(tmp_path):
    """Operators that only CUDA has: a rank gathers mean, deviation and count of 16 channels, and reduces two sums."""
    script = tmp_path / "train.py"
    script.write_text(BATCH_NORM, encoding="utf-8")
    found = recorded([str(script)], machine_named("h100-sxm", 4))[0]
    sent = {found.collectives[place].op: found.collectives[place].size_bytes for place in found.count(1)}
    assert sent == {"all_gather": 4 * (2 * 16 + 1) * 4, "all_reduce": 2 * 16 * 4}
    assert "flex_attention" in {found.calls[place].name for place in found.count(0)}


EXPERTS = """
import torch, torch.distributed as dist, torch.nn as nn
from torch.distributed._functional_collectives import all_to_all_single
dist.init_process_group("nccl")
ranks = dist.get_world_size()
router, expert = nn.Linear(64, ranks).cuda(), nn.Linear(64, 64).cuda()
optimizer = torch.optim.SGD([*router.parameters(), *expert.parameters()], lr=0.1)
for _ in range(3):
    x = torch.randn(1024, 64, device="cuda")
    chosen = router(x).topk(2, dim=-1).indices.flatten()
    counts = torch.bincount(chosen, minlength=ranks)
    theirs = torch.empty_like(counts)
    dist.all_to_all_single(theirs, counts)
    sent, got = counts.tolist(), theirs.tolist()
    tokens = x.repeat_interleave(2, 0)[chosen.argsort()]
    mine = all_to_all_single(tokens, got, sent, dist.group.WORLD)
    expert(mine).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
"""


@pytest.mark.parametrize(("skew", "tokens"), [(1.0, 2048), (2.0, 4096)])
def test_the_busiest_expert_gets_so_many_times_the_mean(tmp_path, skew, tokens):
    """1,024 tokens choose two of 4 experts; rank 0 has the first, and all ranks send it what this one does."""
    script = tmp_path / "train.py"
    script.write_text(EXPERTS, encoding="utf-8")
    found = recorded([str(script)], machine_named("h100-sxm", 4), expert_skew=skew)[0]
    router, expert = 2 * 1024 * 64 * 4, 2 * tokens * 64 * 64
    assert found.flop == router + expert * 2  # the router's choice passes no gradient on; x asks for none
    said = "is dealt out evenly" if skew == 1 else "falls on the first 2 times as often as on the mean"
    assert any(said in rule for rule in found.made_up)


def test_choices_of_a_row_differ():
    for skew in (1.0, 1.5, 3.0, 4.0):
        found = dealt(torch.Size([60, 2]), 8, skew)
        assert all(len(set(row)) == 2 for row in found.tolist())
        assert (found == 0).sum() == int(60 * 2 / 8 * skew)


def test_a_torch_that_is_too_old_is_said_before_the_script_starts(tmp_path, monkeypatch):
    (tmp_path / "train.py").write_text("raise SystemExit('it ran')")
    older = ModuleSpec("torch", None, origin=str(tmp_path / "torch" / "__init__.py"))
    monkeypatch.setattr("hwprof.emulate.start.find_spec", {"torch": older}.get)
    machine = machine_named("h100-sxm", 2)
    with pytest.raises(InputError, match=r"is too old to emulate a script with; 2.5 or newer.*install a newer torch"):
        recorded([str(tmp_path / "train.py")], machine)
    with pytest.raises(InputError, match="is too old"):
        emulate(lambda: None, hardware="h100-sxm")
