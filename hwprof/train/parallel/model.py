"""What does one rank hold of a model? Its pipeline chunk, divided over tensor ranks, sharded or copied over data ranks.

The model is described on the meta device first, so that no rank ever holds more than its own part and one whole weight.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from hwprof.errors import InputError
from hwprof.specs.model.spec import ModelSpec
from hwprof.specs.record.run import Dtype, RunSettings
from hwprof.train.attention import AttentionCore, Rope, rotary_tables, supports_native_gqa
from hwprof.train.decoder import Decoder
from hwprof.train.encoder import Encoder
from hwprof.train.initial import draw_weights
from hwprof.train.parallel.mesh import DATA, PIPELINE, TENSOR, RankMesh
from hwprof.train.parallel.tensor import divide
from hwprof.train.recompute import LayerRunner, layer_runner

_HAS_SYNC = "forward_sync_buffers" in inspect.signature(DistributedDataParallel).parameters
_NO_BUFFERS: dict[str, Any] = {"forward_sync_buffers" if _HAS_SYNC else "broadcast_buffers": False}
"""Rotary tables are the same everywhere; torch 2.13 calls the argument otherwise than those before."""
_NARROW: dict[Dtype, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, slots=True)
class Chunk:
    """A run of consecutive layers, and whether the embedding stands before it or the head after it."""

    layers: range
    first: bool
    last: bool


class ModelPart(nn.Module):
    """A chunk of a model; its modules are called as in the whole, what it lacks is None.

    Args:
        model: the whole model; the part takes its modules over.
        chunk: which layers.
        run_layer: how a layer is run.
    """

    def __init__(self, model: Decoder | Encoder, chunk: Chunk, run_layer: LayerRunner) -> None:
        super().__init__()
        self.embedding = model.embedding if chunk.first else None
        self.layers = nn.ModuleDict({str(index): model.layers[index] for index in chunk.layers})
        self.final_norm = getattr(model, "final_norm", None) if chunk.last else None
        self.head = model.head if chunk.last else None
        self._run_layer = run_layer

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        """Token ids [batch, seq] or vectors [batch, seq, d_model] -> vectors, or logits where the head is here."""
        if self.embedding is not None:
            value = self.embedding(value)
        for layer in self.layers.values():
            value = self._run_layer(layer, value)
        if self.final_norm is not None:
            value = self.final_norm(value)
        return value if self.head is None else self.head(value)


def chunk_of(layers: int, chunks: int, index: int) -> Chunk:
    """Chunk ``index`` of a model in so many: equal ones, and what does not divide goes to those in the middle.

    Raises:
        InputError: there are more chunks than layers.
    """
    if chunks > layers:
        raise InputError(f"{layers} layers can't be divided into {chunks} chunks", remedy="choose a smaller pp<N>")
    each, extra = divmod(layers, chunks)
    before = (chunks - extra) // 2  # the first and last chunks have the embedding and the head besides
    sizes = [each + (before <= place < before + extra) for place in range(chunks)]
    start = sum(sizes[:index])
    return Chunk(range(start, start + sizes[index]), first=index == 0, last=index == chunks - 1)


def build_parts(spec: ModelSpec, settings: RunSettings, mesh: RankMesh, device: torch.device) -> list[nn.Module]:
    """This rank's parts of the model, one for each chunk that it holds, with fresh weights on ``device``.

    A data-parallel wrapper is not among them: see ``replicated``.

    Raises:
        InputError: the layers do not divide over the pipeline.
    """
    stages, virtual = mesh.degree(PIPELINE), settings.layout.virtual_stages
    indices = [mesh.stage + place * stages for place in range(virtual)]
    chunks = [chunk_of(spec.layers, stages * virtual, index) for index in indices]
    return [_build(spec, settings, mesh, device, chunk) for chunk in chunks]


def _build(spec: ModelSpec, settings: RunSettings, mesh: RankMesh, device: torch.device, chunk: Chunk) -> nn.Module:
    if spec.positions == "rope":  # rotary tables only as long as this run's sequences
        spec = spec.changed(max_seq_len=settings.seq_len)
    with torch.device("meta"):
        whole = (Decoder if spec.kind == "decoder" else Encoder)(spec, recompute=settings.recompute)
    pipelined = mesh.degree(PIPELINE) > 1
    runner = layer_runner(settings.recompute, draws_random=spec.dropout > 0)
    part: nn.Module = ModelPart(whole, chunk, runner) if pipelined else whole
    if mesh.degree(TENSOR) > 1:
        divide(part, mesh.mesh[TENSOR], sequence_parallel=settings.layout.sequence_parallel)
        _tie(part, spec)
    if settings.compile:
        for layer in _layers(part):
            layer.compile()
    if settings.layout.zero_stage >= 2:
        _shard(part, settings, mesh.mesh[DATA])
    part.to_empty(device=device)
    _tie(part, spec)
    _fill_buffers(part, spec, device)
    draw_weights(part, spec, settings.seed)
    return part


def _layers(part: nn.Module) -> list[nn.Module]:
    layers: Any = part.layers
    return list(layers.values() if isinstance(layers, nn.ModuleDict) else layers)


def _tie(part: nn.Module, spec: ModelSpec) -> None:
    """Make the head's weight the embedding's again, where both are here: moving a module gives each its own."""
    embedding: Any = part.embedding
    head: Any = part.head
    if spec.tied_embeddings and embedding is not None and head is not None:
        head.weight = embedding.tokens.weight


def _shard(part: nn.Module, settings: RunSettings, mesh: Any) -> None:
    """FSDP2: each layer is gathered by itself, the rest with the root. Stage 2 keeps them gathered until the step."""
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    narrow = _NARROW.get(settings.dtype)
    policy = MixedPrecisionPolicy(param_dtype=narrow, reduce_dtype=torch.float32 if narrow else None)
    keep = settings.layout.zero_stage == 2
    for layer in _layers(part):
        fully_shard(layer, mesh=mesh, mp_policy=policy, reshard_after_forward=not keep)
    fully_shard(part, mesh=mesh, mp_policy=policy, reshard_after_forward=False)


def _fill_buffers(part: nn.Module, spec: ModelSpec, device: torch.device) -> None:
    """What is not learnt: rotary tables, one pair for all layers, and what the kernels of the device can do."""
    tables = tuple(table.to(device) for table in rotary_tables(spec)) if spec.positions == "rope" else None
    for module in part.modules():
        if isinstance(module, Rope):
            assert tables is not None
            module.cosines, module.sines = tables
        if isinstance(module, AttentionCore):
            module.native_gqa = supports_native_gqa(device)


def joined(parts: Sequence[nn.Module]) -> nn.Module:
    """One module with all modules of several parts, called as in the whole model."""
    if len(parts) == 1:
        return parts[0]
    whole = nn.Module()
    for name in ("embedding", "final_norm", "head"):
        setattr(whole, name, next((getattr(part, name) for part in parts if getattr(part, name) is not None), None))
    whole.layers = nn.ModuleDict({name: layer for part in parts for name, layer in _named_layers(part)})
    return whole


def _named_layers(part: nn.Module) -> list[tuple[str, nn.Module]]:
    layers: Any = part.layers
    return list(layers.items())


def replicated(part: nn.Module, settings: RunSettings, mesh: RankMesh, device: torch.device) -> nn.Module:
    """The part under torch's DistributedDataParallel where weights are copied to several data ranks; else itself."""
    if settings.layout.zero_stage >= 2 or mesh.degree(DATA) == 1:
        return part
    return DistributedDataParallel(
        part,
        device_ids=None if device.type == "cpu" else [device.index],
        process_group=mesh.group(DATA),
        gradient_as_bucket_view=True,
        **_NO_BUFFERS,
    )
