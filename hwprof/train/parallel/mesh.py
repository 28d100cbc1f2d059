"""Which part of a parallel layout does this rank play? Its places along the axes, and the process groups of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from hwprof.errors import InputError
from hwprof.specs.job.parallel import ParallelLayout
from hwprof.train.data import Share

PIPELINE, DATA, TENSOR = "pipeline", "data", "tensor"
AXES = (PIPELINE, DATA, TENSOR)
"""Axes of the mesh, outermost first: neighbouring ranks are tensor ranks (``ParallelLayout``'s order)."""
OLDEST_TORCH = (2, 6)
"""The first release with ``torch.distributed.fsdp.fully_shard`` and a pipeline that infers its shapes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankMesh:
    """The ranks as a grid, as one of them sees it.

    Attributes:
        mesh: torch's device mesh with the axes ``AXES``.
        stage: place along the pipeline.
        data: place among the data ranks, which read different batches.
        tensor: place among the tensor ranks.
    """

    layout: ParallelLayout
    mesh: Any
    stage: int
    data: Share
    tensor: int

    def group(self, axis: str) -> Any:
        """The process group along an axis."""
        return self.mesh[axis].get_group()

    def degree(self, axis: str) -> int:
        """How many ranks there are along an axis."""
        return int(self.mesh[axis].size())


def rank_mesh(layout: ParallelLayout, device: torch.device) -> RankMesh:
    """The grid of all ranks; every rank calls it.

    Raises:
        InputError: this torch is too old, or the layout has axes that the training loop does not.
    """
    from torch.distributed.device_mesh import init_device_mesh

    check_trainable_layout(layout)
    shape = (layout.pipeline_parallel, layout.data_parallel, layout.tensor_parallel)
    mesh = init_device_mesh(device.type, shape, mesh_dim_names=AXES)
    stage, data, tensor = (mesh.get_local_rank(axis) for axis in AXES)
    return RankMesh(
        layout=layout, mesh=mesh, stage=stage, data=Share(index=data, of=layout.data_parallel), tensor=tensor
    )


def check_trainable_layout(layout: ParallelLayout) -> None:
    """Refuse what the training loop does not do itself.

    Raises:
        InputError: says what, and what it does.
    """
    version = tuple(int(part) for part in torch.__version__.split(".")[:2])
    if version < OLDEST_TORCH:
        raise InputError(
            f"torch {torch.__version__} has no fully_shard",
            remedy="install torch 2.6 or newer to train on several ranks",
        )
    if not dist.is_available():
        raise InputError("this torch is built without torch.distributed", remedy="install another build")
    other = (
        "context parallelism" if layout.context_parallel > 1 else "",
        "expert parallelism" if layout.expert_parallel > 1 else "",
        "sharding of the optimizer alone (ZeRO 1)" if layout.zero_stage == 1 else "",
        "hybrid sharding" if layout.shard_ranks not in {None, layout.data_parallel} else "",
        f"the {layout.schedule} schedule" if layout.schedule not in {"gpipe", "1f1b", "interleaved"} else "",
    )
    if any(other):
        raise InputError(
            f"hwprof run does not train with {' or '.join(filter(None, other))}",
            expectation="it trains with ddp, zero2, fsdp, tp<N>, sp, pp<N> and vp<N>",
            remedy="hwprof simulate predicts the others",
        )
