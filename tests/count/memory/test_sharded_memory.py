"""The memory need of a sharded step, against every byte that torch's FSDP2 holds on one of eight ranks.

The collectives of a fake process group move nothing, so that one process stands for a rank of any number; weights are
gathered into and gradients reduced from the same buffers as ever. torch's profiler reports each allocation of the CPU.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F  # noqa: N812 (the name that torch's own documentation uses)
from torch.profiler import ProfilerActivity, profile, record_function

from hwprof.count.memory.step import training_memory
from hwprof.specs.model.spec import ModelSpec
from hwprof.specs.record.run import RunSettings
from hwprof.train.decoder import Decoder
from hwprof.train.optimizers import build_optimizer

RANKS = 8
MEASURED = "measured step"

pytestmark = pytest.mark.skipif(
    torch.__version__ < (2, 13), reason="older FSDP2 and CPU kernels keep other tensors than those that are counted"
)


@pytest.fixture(scope="module")
def ranks() -> Iterator[Any]:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.testing._internal.distributed.fake_pg import FakeStore

    dist.init_process_group("fake", rank=0, world_size=RANKS, store=FakeStore())
    yield init_device_mesh("cpu", (RANKS,))
    dist.destroy_process_group()


def take_step(model: torch.nn.Module, optimizer: torch.optim.Optimizer, settings: RunSettings) -> None:
    tokens = torch.zeros(settings.micro_batch, settings.seq_len, dtype=torch.int64)

    def add_gradients() -> None:  # logits live as long as one micro-batch, as in the training loop
        logits = model(tokens)
        loss = F.cross_entropy(logits.float().view(-1, logits.shape[-1]), tokens.view(-1))
        torch.autograd.backward(loss)

    for _ in range(settings.gradient_accumulation):
        add_gradients()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def measured_peak_bytes(spec: ModelSpec, settings: RunSettings, mesh: Any, trace: Path, *, reshard: bool) -> float:
    from torch.distributed.fsdp import fully_shard

    gc.collect()  # of an earlier model nothing must go meanwhile
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        model = Decoder(spec.model_copy(update={"max_seq_len": settings.seq_len}), recompute=settings.recompute)
        for part in (*model.layers, model):
            fully_shard(part, mesh=mesh, reshard_after_forward=reshard and part is not model)
        optimizer = build_optimizer(model, "adamw", "foreach", learning_rate=settings.learning_rate)
        take_step(model, optimizer, settings)
        with record_function(MEASURED):
            take_step(model, optimizer, settings)
    profiler.export_chrome_trace(str(trace))
    events = json.loads(trace.read_text())["traceEvents"]
    step = next(event for event in events if event.get("name") == MEASURED)
    changes = sorted((event["ts"], event["args"]["Bytes"]) for event in events if event.get("name") == "[memory]")
    held = dict(zip((at for at, _ in changes), accumulate(size for _, size in changes), strict=True))
    return max(size for at, size in held.items() if step["ts"] <= at <= step["ts"] + step["dur"])


@pytest.mark.parametrize(
    ("stage", "model", "changes"),
    [
        (3, {}, {"seq_len": 32}),  # weights are most of it
        (3, {}, {"micro_batch": 4}),  # activations are
        (3, {"vocab_size": 8192}, {}),  # embedding, head and logits are
        (3, {}, {"gradient_accumulation": 2, "seq_len": 32}),
        (3, {"layers": 6}, {"recompute": "full"}),
        (2, {}, {"micro_batch": 4}),
        (2, {}, {"micro_batch": 1, "seq_len": 16}),
    ],
)
def test_peak_of_a_sharded_step_is_that_of_fsdp(
    make_spec: Callable[..., ModelSpec],
    ranks: Any,
    tmp_path: Path,
    stage: int,
    model: dict[str, Any],
    changes: dict[str, Any],
) -> None:
    sizes = {"layers": 4, "d_model": 128, "d_ff": 512, "head_dim": 32, "vocab_size": 512}
    spec = make_spec(**sizes | model)
    given = {"micro_batch": 2, "seq_len": 64, "optimizer_implementation": "foreach", "clip_norm": None}
    settings = RunSettings.model_validate({"model": spec.name, "device": "cpu"} | given | changes)
    need = training_memory(spec, settings, data_parallel=RANKS, zero_stage=stage)
    measured = measured_peak_bytes(spec, settings, ranks, tmp_path / "trace", reshard=stage == 3)
    assert need.peak_bytes == pytest.approx(measured, rel=0.01)
