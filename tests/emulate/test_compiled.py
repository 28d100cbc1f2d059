"""What is left of compiled code, against TorchInductor's own count; what CUDA runs whole stays whole."""

import json
from collections import Counter
from pathlib import Path

import pytest

from hwprof.count.aten.registry import aten_cost
from hwprof.emulate.prices import NO_KERNEL
from hwprof.emulate.run.script import software_of
from hwprof.emulate.start import machine_named, recorded
from hwprof.emulate.tape import KERNEL

SCRIPT = Path(__file__).parent / "scripts" / "compiled.py"


@pytest.fixture(scope="module")
def eager():
    return recorded([str(SCRIPT)], machine_named("h100-sxm", 1))[0]


@pytest.fixture(scope="module")
def compiled():
    return recorded([str(SCRIPT), "--compile"], machine_named("h100-sxm", 1))[0]


def _moved_bytes(recording):
    """Of the block: all but what makes the input, the loss and the update."""
    sums = Counter()
    for event in recording.events:
        if event[0] == KERNEL:
            call = recording.calls[event[1]]
            if call.call is not None and call.name not in NO_KERNEL:
                sums[call.name] += aten_cost(call.call).moved_bytes - call.spared_bytes
    return sum(sums.values()) - sum(sums[name] for name in OUTSIDE)


OUTSIDE = ("aten::randn", "aten::ones_like", "aten::add_")


def test_compiled_code_moves_what_inductor_says(eager, compiled):
    """torch 2.13: ``torch._inductor.metrics.num_bytes_accessed`` of ``Block()`` on [4096, 512] in fp32 is 806.4 MB."""
    assert _moved_bytes(compiled) == pytest.approx(806.4e6, rel=0.05)
    assert _moved_bytes(eager) > 930e6


def test_flop_are_the_same(eager, compiled):
    assert compiled.flop == eager.flop


def test_less_is_kept_for_the_backward_pass(eager, compiled):
    """The gate's activation [4096, 1536] in fp32 is computed again: 25.2 MB, twice while its gradient is there."""
    spared_bytes = eager.memory.peak_bytes - compiled.memory.peak_bytes
    assert 25e6 < spared_bytes < 51e6


def test_what_cuda_has_a_kernel_for_is_one_call(eager):
    names = Counter(eager.calls[event[1]].name for event in eager.events if event[0] == KERNEL)
    whole = {"aten::_fused_rms_norm": 1, "aten::_fused_rms_norm_backward": 1, "aten::silu_backward": 1}
    assert {name: names[name] for name in whole} == whole
    assert not names["aten::rsqrt"] + names["aten::sigmoid"]


def test_software_is_what_the_script_imports():
    assert software_of({"torch", "torchtitan.components", "transformers.trainer"}, sharded=True) == "torchtitan"
    assert software_of({"torch", "transformers"}, sharded=True) == "fsdp"
    assert software_of({"torch", "transformers.trainer"}, sharded=False) == "huggingface"
    assert software_of({"torch"}, sharded=False) == "torch"


CHECKPOINTED = """
import functools, json, sys, torch
from torch import nn
from torch.nn.functional import gelu
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

def policy(_context, function, *_, **__):
    products = function is torch.ops.aten.mm.default
    return CheckpointPolicy.MUST_SAVE if products else CheckpointPolicy.PREFER_RECOMPUTE

class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(64, 192, bias=False), nn.Linear(192, 64, bias=False)
    def inner(self, x):
        return x + self.down(gelu(self.up(x)))
    def forward(self, x):
        contexts = functools.partial(create_selective_checkpoint_contexts, policy)
        return checkpoint(self.inner, x, use_reentrant=False, context_fn=contexts)

blocks = [Block().cuda(), torch.compile(Block().cuda())]
optimizer = torch.optim.SGD([each for block in blocks for each in block.parameters()], 0.1)
for _ in range(4):
    kept = []
    for block in blocks:
        x = torch.randn(1024, 64, device="cuda", requires_grad=True)
        before = torch.cuda.memory_allocated()
        y = block(x)
        kept.append(torch.cuda.memory_allocated() - before)
        y.sum().backward()
        del x, y
    optimizer.step()
    optimizer.zero_grad()
    json.dump(kept, open(sys.argv[1], "w"))
"""


def test_what_a_policy_saves_and_no_backward_pass_reads_is_not_kept_in_compiled_code(tmp_path):
    """torch 2.13's own partitioner (``aot_eager_decomp_partition``) saves [1024, 192] beside the result, [1024, 64].

    In eager mode the policy's cache holds the last product, too.
    """
    (tmp_path / "train.py").write_text(CHECKPOINTED, encoding="utf-8")
    recorded([str(tmp_path / "train.py"), str(tmp_path / "kept.json")], machine_named("h100-sxm", 1), steps=3)
    up, down = 1024 * 192 * 4, 1024 * 64 * 4
    assert json.loads((tmp_path / "kept.json").read_text(encoding="utf-8")) == [up + 2 * down, up + down]


CHAIN = """
import gc, json, sys, torch
from torch import nn
from torch.utils.checkpoint import checkpoint

seen = []

class Chain(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(64, 64, bias=False) for _ in range(12))
    def inner(self, x):
        for layer in self.layers:
            x = layer(x)
            seen.append(torch.cuda.memory_allocated())
        return x
    def forward(self, x):
        return checkpoint(self.inner, x, use_reentrant=False)

chains = [Chain().cuda(), torch.compile(Chain().cuda())]
optimizer = torch.optim.SGD([each for chain in chains for each in chain.parameters()], 0.1)
for _ in range(4):
    highest = []
    for chain in chains:
        x = torch.randn(1024, 64, device="cuda", requires_grad=True)
        gc.collect()
        before = torch.cuda.memory_allocated()
        seen.clear()
        y = chain(x)
        highest.append(max(seen[:12]) - before)
        y.sum().backward()
        del x, y
    optimizer.step()
    optimizer.zero_grad()
    json.dump(highest, open(sys.argv[1], "w"))
"""


def test_what_dies_within_compiled_code_is_not_held_to_its_end(tmp_path):
    """Of a checkpointed chain of twelve layers one result lives at a time, 262 kB."""
    (tmp_path / "train.py").write_text(CHAIN, encoding="utf-8")
    recorded([str(tmp_path / "train.py"), str(tmp_path / "highest.json")], machine_named("h100-sxm", 1), steps=3)
    assert json.loads((tmp_path / "highest.json").read_text(encoding="utf-8")) == [1024 * 64 * 4] * 2


EXCHANGING = """
import sys, torch
import torch.distributed as dist
from torch import nn
from torch.distributed._functional_collectives import reduce_scatter_tensor_autograd
from torch.nn.functional import gelu
from torch.utils.checkpoint import checkpoint

dist.init_process_group("nccl")

class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(64, 192, bias=False), nn.Linear(192, 64, bias=False)
    def inner(self, x):
        return self.down(reduce_scatter_tensor_autograd(gelu(self.up(x)), "sum", 0, dist.group.WORLD))
    def forward(self, x):
        return checkpoint(self.inner, x, use_reentrant=False)

block = torch.compile(Block().cuda()) if sys.argv[1:] else Block().cuda()
optimizer = torch.optim.SGD(block.parameters(), 0.1)
for _ in range(4):
    block(torch.randn(1024, 64, device="cuda", requires_grad=True)).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
"""


def test_what_a_collective_reads_is_computed_again_in_compiled_code_too(tmp_path):
    """The activation before it is computed twice; of products two forwards, one once more, two for each backwards."""
    (tmp_path / "train.py").write_text(EXCHANGING, encoding="utf-8")
    for words in ([], ["compiled"]):
        found = recorded([str(tmp_path / "train.py"), *words], machine_named("h100-sxm", 2), steps=3)[0]
        calls = [found.calls[event[1]] for event in found.events if event[0] == KERNEL]
        made = Counter(each.name for each in calls if not each.joined)
        assert (made["aten::gelu"], made["aten::mm"]) == (2, 7), words
