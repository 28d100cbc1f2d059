"""How ranks share captured models, against what transformers' own plans leave on a rank of two."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from click.testing import CliRunner
from other_types import OTHER_TYPES
from small_transformers import transformers
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.testing._internal.distributed.fake_pg import FakeStore

from hwprof.cli.simulate import command as simulate
from hwprof.count.blocks.parameters import parameter_tensors
from hwprof.count.memory.job import job_memory
from hwprof.errors import InputError
from hwprof.session.captured import Shapes, counted_model
from hwprof.specs.job.step import TrainingJob

pytestmark = pytest.mark.filterwarnings("ignore")  # what transformers warns of is its own affair

parallel: Any = pytest.importorskip("transformers.distributed.tensor_parallel", reason="transformers is too old")

BATCH, LENGTH, RANKS = 2, 16, 2


@pytest.fixture
def ranks() -> Iterator[DeviceMesh]:
    """Two ranks, of which this is one and the other does nothing."""
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=RANKS)
    try:
        yield init_device_mesh("cpu", (RANKS,))
    finally:
        dist.destroy_process_group()


def config_of(layer: str) -> tuple[str, str, dict[str, Any]]:
    kind, name, keys = OTHER_TYPES[layer]
    return kind, name, keys | {"vocab_size": 64}


def saved(folder: Path, layer: str) -> Path:
    kind, name, keys = config_of(layer)
    path = folder / "config.json"
    path.write_text(json.dumps({"model_type": kind, "architectures": [name], **keys}))
    return path


def shared(module: Any, mesh: DeviceMesh) -> int:
    """Elements of a rank where each parameter is split as the plan of its class says."""
    from transformers.distributed.parallel_utils import _get_parameter_plan

    named = {name: _get_parameter_plan(name, module.tp_plan) for name, _ in module.named_parameters()}
    parallel.apply_tensor_parallelism(module, mesh, {name: style for name, style in named.items() if style})
    local = (each.to_local() if hasattr(each, "to_local") else each for each in module.parameters())
    return sum(each.numel() for each in local)


def weights_bytes(path: Path, **degrees: int) -> float:
    model = counted_model(str(path), Shapes(batch_sizes=(BATCH,), seq_len=LENGTH, dtype="fp32"))
    job = TrainingJob(model=model, seq_len=LENGTH, micro_batch=BATCH, global_batch=2 * BATCH, dtype="fp32")
    layout = job.layout.changed(**degrees)
    parts = job_memory(job.changed(layout=layout, global_batch=BATCH * layout.data_parallel)).parts
    return next(part.predicted_bytes for part in parts if part.name == "weights")


def test_tensor_ranks_hold_what_the_plan_of_the_class_leaves_them(ranks: DeviceMesh, tmp_path: Path) -> None:
    layer = "gated delta"
    kind, name, keys = config_of(layer)
    module = getattr(transformers, name)._from_config(transformers.CONFIG_MAPPING[kind](**keys))
    whole = sum(each.numel() for each in module.parameters())
    path = saved(tmp_path, layer)
    assert weights_bytes(path) == 4 * whole
    assert weights_bytes(path, tensor_parallel=RANKS) == 4 * shared(module, ranks) < 4 * whole


def test_expert_ranks_spread_the_experts_alone(tmp_path: Path) -> None:
    path = saved(tmp_path, "gated delta")
    spec = counted_model(str(path), Shapes(batch_sizes=(BATCH,), seq_len=LENGTH, dtype="fp32"))
    experts = sum(tensor.total for tensor in parameter_tensors(spec) if tensor.experts > 1)
    assert spec.routed == (4, 2, 4)
    spread = weights_bytes(path, data_parallel=2, expert_parallel=2)
    assert weights_bytes(path, data_parallel=2) - spread == 4 * experts // 2
    asked = ("--model", str(path), "--hardware", "2xh100-sxm", "--seq-len", "16", "--format", "json")
    alone, both = (
        json.loads(CliRunner().invoke(simulate, (*asked, *more), catch_exceptions=False).stdout)
        for more in ((), ("--ep", "2"))
    )
    assert both["memory"]["breakdown"]["weights"] < alone["memory"]["breakdown"]["weights"]
    assert both["breakdown_s"]["expert communication"] > 0
    with pytest.raises(InputError, match="4 experts do not divide by expert parallel 3"):
        CliRunner().invoke(simulate, (*asked[:3], "3xh100-sxm", "--ep", "3", "--seq-len", "16"), catch_exceptions=False)


def test_context_ranks_keep_a_share_of_the_sequence(tmp_path: Path) -> None:
    """Two ranks of a sequence keep what one keeps of half of it; keys and values go around beside that."""
    path = saved(tmp_path, "gated delta")
    memory = {}
    for length, ranks in ((512, 1), (1024, 2)):
        model = counted_model(str(path), Shapes(batch_sizes=(BATCH,), seq_len=length, dtype="bf16"))
        job = TrainingJob(model=model, seq_len=length, micro_batch=BATCH, global_batch=BATCH, dtype="bf16")
        parts = job_memory(job.changed(layout=job.layout.changed(context_parallel=ranks))).parts
        memory[ranks] = sum(part.predicted_bytes for part in parts if part.name.startswith("activations"))
    kind, name, keys = config_of("gated delta")
    module = getattr(transformers, name)._from_config(transformers.CONFIG_MAPPING[kind](**keys))
    recurrent = next(layer.linear_attn for layer in module.model.layers if hasattr(layer, "linear_attn"))
    changed = sum(each.out_features for each in (recurrent.in_proj_qkvz, recurrent.in_proj_ba))
    assert model.mixing.attention_share == 1 / 4
    assert model.mixing.changed_width == 3 / 4 * (changed + recurrent.out_proj.in_features)
    assert memory[2] == pytest.approx(memory[1], rel=0.03)  # some small tables have no tokens
    asked = ("--model", str(path), "--hardware", "2xh100-sxm", "--seq-len", "1024", "--cp", "2", "--format", "json")
    both = json.loads(CliRunner().invoke(simulate, asked, catch_exceptions=False).stdout)
    assert both["breakdown_s"]["context communication"] > 0
    assert "layers without attention change between tokens and channels" in " ".join(both["basis"])


def test_torch_is_not_left_with_ranks() -> None:
    assert not torch.distributed.is_initialized()
