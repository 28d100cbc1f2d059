"""Memory of FSDP2's mixed precision, against every byte that it holds on one of eight ranks, policies of recompute
included.

Fake collectives, real tensors, torch's profiler: as in ``test_sharded_memory``.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterator
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F  # noqa: N812 (the name that torch's own documentation uses)
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile, record_function
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from hwprof.count.memory.job import job_memory
from hwprof.specs.job.step import TrainingJob
from hwprof.specs.model.spec import ModelSpec

RANKS, BATCH, SEQ_LEN = 8, 4, 64
MEASURED = "measured step"
KEPT = {torch.ops.aten.mm.default, torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default}

pytestmark = pytest.mark.skipif(torch.__version__ < (2, 13), reason="older FSDP2 keeps other tensors")


def every_second_product() -> Any:
    """torchtitan's policy: attention, and every second matrix product from the first."""
    count = {False: 0, True: 0}

    def policy(context: Any, op: Any, *_args: Any, **_kwargs: Any) -> CheckpointPolicy:
        if op is torch.ops.aten.mm.default:
            count[context.is_recompute] += 1
            if count[context.is_recompute] % 2 == 0:
                return CheckpointPolicy.PREFER_RECOMPUTE
        return CheckpointPolicy.MUST_SAVE if op in KEPT else CheckpointPolicy.PREFER_RECOMPUTE

    return create_selective_checkpoint_contexts(policy)


class Layer(nn.Module):
    """A layer of Llama whose norms run in steps, as in transformers."""

    def __init__(self, spec: ModelSpec, recompute: str) -> None:
        super().__init__()
        width, inside = spec.d_model, spec.d_ff
        self.heads, self.recompute = spec.heads, recompute
        self.norms = nn.ParameterList([nn.Parameter(torch.ones(width)) for _ in range(2)])
        self.query, self.key, self.value, self.output = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.gate, self.up = (nn.Linear(width, inside, bias=False) for _ in range(2))
        self.down = nn.Linear(inside, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.recompute == "none":
            return self.work(x)
        contexts = {"context_fn": every_second_product} if self.recompute == "op-list" else {}
        result = checkpoint(self.work, x, use_reentrant=False, early_stop=False, **contexts)
        assert isinstance(result, Tensor)
        return result

    def work(self, x: Tensor) -> Tensor:
        y = norm(x, self.norms[0])
        q, k, v = (
            part(y).view(*y.shape[:2], self.heads, -1).transpose(1, 2) for part in (self.query, self.key, self.value)
        )
        x = x + self.output(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))
        y = norm(x, self.norms[1])
        return x + self.down(F.silu(self.gate(y)) * self.up(y))


def norm(x: Tensor, weight: Tensor) -> Tensor:
    wide = x.float()
    return weight * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-5)).to(x.dtype)


class Model(nn.Module):
    def __init__(self, spec: ModelSpec, recompute: str) -> None:
        super().__init__()
        self.embedding = nn.Embedding(spec.vocab_size, spec.d_model)
        self.layers = nn.ModuleList([Layer(spec, recompute) for _ in range(spec.layers)])
        self.norm = nn.Parameter(torch.ones(spec.d_model))
        self.head = nn.Linear(spec.d_model, spec.vocab_size, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        for layer in self.layers:
            x = layer(x)
        logits = self.head(norm(x, self.norm))
        assert isinstance(logits, Tensor)
        return logits


@pytest.fixture(scope="module")
def mesh() -> Iterator[Any]:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.testing._internal.distributed.fake_pg import FakeStore

    dist.init_process_group("fake", rank=0, world_size=RANKS, store=FakeStore())
    yield init_device_mesh("cpu", (RANKS,))
    dist.destroy_process_group()


def take_step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    tokens = torch.zeros(BATCH, SEQ_LEN, dtype=torch.int64)
    torch.autograd.backward(F.cross_entropy(model(tokens).float().flatten(0, 1), tokens.flatten()))
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def sharded(model: Model, mesh: Any) -> Model:
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    shard = partial(fully_shard, mesh=mesh, mp_policy=MixedPrecisionPolicy(torch.bfloat16, torch.float32))
    for part in model.layers:
        shard(part)
    return shard(model, reshard_after_forward=False)


class Pair(nn.Module):
    """A frozen product with a pair beside it (Hu et al. 2021)."""

    def __init__(self, frozen: nn.Linear, rank: int) -> None:
        super().__init__()
        self.frozen = frozen
        self.down = nn.Linear(frozen.in_features, rank, bias=False)
        self.up = nn.Linear(rank, frozen.out_features, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        result = self.frozen(x) + self.up(self.down(x))
        assert isinstance(result, Tensor)
        return result


def adapted(model: Model, rank: int) -> Model:
    model.requires_grad_(False)
    for layer in model.layers:
        assert isinstance(layer, Layer)
        layer.query, layer.value = Pair(layer.query, rank), Pair(layer.value, rank)
    return model.bfloat16()


def measured_peak_bytes(make: Callable[[], nn.Module], trace: Path) -> float:
    gc.collect()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        model = make()
        optimizer = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad], fused=True)
        take_step(model, optimizer)
        with record_function(MEASURED):
            take_step(model, optimizer)
    profiler.export_chrome_trace(str(trace))
    events = json.loads(trace.read_text())["traceEvents"]
    step = next(event for event in events if event.get("name") == MEASURED)
    changes = sorted((event["ts"], event["args"]["Bytes"]) for event in events if event.get("name") == "[memory]")
    held = dict(zip((at for at, _ in changes), accumulate(size for _, size in changes), strict=True))
    return max(size for at, size in held.items() if step["ts"] <= at <= step["ts"] + step["dur"])


@pytest.mark.parametrize("recompute", ["none", "full", "op-list"])
@pytest.mark.parametrize("vocabulary", [512, 8192])
def test_peak_of_a_narrowed_step_is_that_of_fsdp(
    make_spec: Callable[..., ModelSpec], mesh: Any, tmp_path: Path, recompute: str, vocabulary: int
) -> None:
    spec = make_spec(layers=6, d_model=128, d_ff=384, head_dim=32, kv_heads=4, vocab_size=vocabulary)
    job = TrainingJob.model_validate(
        {
            "model": spec,
            "seq_len": SEQ_LEN,
            "global_batch": BATCH * RANKS,
            "micro_batch": BATCH,
            "storage": "narrowed",
            "framework": "torch",
            "fused": False,
            "wide_norms": True,
            "loss": "plain",
            "recompute": "selective" if recompute == "op-list" else recompute,
            "selective": ["op-list"],
            "layout": {"data_parallel": RANKS, "zero_stage": 3},
        }
    )
    measured = measured_peak_bytes(lambda: sharded(Model(spec, recompute), mesh), tmp_path / "trace")
    assert job_memory(job).peak_bytes == pytest.approx(measured, rel=0.012)


@pytest.mark.parametrize("recompute", ["none", "full"])
def test_peak_of_adapters_is_that_of_torch(make_spec: Callable[..., ModelSpec], tmp_path: Path, recompute: str) -> None:
    """Frozen weights keep no input, make no gradient and have no state."""
    spec = make_spec(layers=6, d_model=128, d_ff=384, head_dim=32, kv_heads=4, vocab_size=512)
    job = TrainingJob.model_validate(
        {
            "model": spec,
            "seq_len": SEQ_LEN,
            "global_batch": BATCH,
            "micro_batch": BATCH,
            "storage": "pure",
            "fused": False,
            "wide_norms": True,
            "recompute": recompute,
            "lora": {"rank": 8, "targets": "query-value"},
            "adapter_library": "torchtune",
        }
    )
    measured = measured_peak_bytes(lambda: adapted(Model(spec, recompute), 8), tmp_path / "trace")
    assert job_memory(job).peak_bytes == pytest.approx(measured, rel=0.02)
