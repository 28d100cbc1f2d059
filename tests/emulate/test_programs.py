"""What programs of others do that plain loops don't: kernels of their own, generators, typed products."""

import torch

from hwprof.count.aten.registry import aten_cost
from hwprof.emulate.believed import Believed
from hwprof.emulate.run.cuda.kernels import follow
from hwprof.emulate.run.rank import Rank
from hwprof.emulate.start import machine_named, recorded

MEGATRON = """
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
