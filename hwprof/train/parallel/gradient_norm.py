"""How long is the gradient when each rank holds a part of it? One norm over all shards, tensor parts and stages."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist

from hwprof.train.parallel.mesh import DATA, PIPELINE, TENSOR, RankMesh

_DIVIDED = (DATA, TENSOR)


def clip_gradients(
    parameters: Iterable[torch.nn.Parameter], mesh: RankMesh, most: float, *, copies: Iterable[torch.nn.Parameter] = ()
) -> torch.Tensor:
    """Scale the gradients of this rank so that the norm over all ranks is at most ``most``.

    torch's own ``clip_grad_norm_`` wants all weights on one mesh; here some are divided over data ranks, some over
    tensor ranks, some over both or none. What is whole on several ranks counts once.

    Args:
        parameters: of this rank.
        mesh: the ranks.
        most: the largest norm.
        copies: those of the parameters that another stage counts already.

    Returns:
        The norm before, a scalar on the device.
    """
    weights = [weight for weight in parameters if weight.grad is not None]
    left_out = {id(copy) for copy in copies}
    squares = torch.zeros(1 << len(_DIVIDED), device=weights[0].device)
    for weight in weights:
        if id(weight) not in left_out:
            squares[_slot(weight.grad)] += torch.linalg.vector_norm(_local(weight.grad).float()).square()
    norm = _over_all(squares, mesh).sqrt()
    scale = (most / (norm + 1e-6)).clamp(max=1.0)
    for weight in weights:
        _local(weight.grad).mul_(scale)
    return norm


def settle_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Divide each gradient over the ranks as its weight is.

    DTensor leaves it as it came about: a norm whose input was split over the sequence has a summand on each rank.
    """
    for weight in parameters:
        gradient: Any = weight.grad
        wanted = getattr(weight, "placements", None)
        if wanted is not None and gradient is not None and gradient.placements != wanted:
            weight.grad = gradient.redistribute(placements=wanted)


def _local(gradient: Any) -> torch.Tensor:
    """This rank's part of a gradient, itself."""
    part: torch.Tensor = gradient.to_local() if hasattr(gradient, "to_local") else gradient
    return part


def _slot(gradient: Any) -> int:
    """Over which axes a gradient is divided, as a number: 1 for data, 2 for tensor, 3 for both."""
    if not hasattr(gradient, "device_mesh"):
        return 0
    divided = {
        axis
        for axis, placement in zip(gradient.device_mesh.mesh_dim_names, gradient.placements, strict=True)
        if not placement.is_replicate()  # also strided shards, where both axes divide one dimension
    }
    return sum(1 << place for place, axis in enumerate(_DIVIDED) if axis in divided)


def _over_all(squares: torch.Tensor, mesh: RankMesh) -> torch.Tensor:
    """The sum of squares over all ranks: each slot over the axes that it is divided over, then over the stages."""
    divides = {DATA: mesh.layout.zero_stage >= 2, TENSOR: True}
    for place, axis in enumerate(_DIVIDED):
        if divides[axis] and mesh.degree(axis) > 1:
            slots = [slot for slot in range(len(squares)) if slot >> place & 1]
            part = squares[slots]
            dist.all_reduce(part, group=mesh.group(axis))
            squares[slots] = part
    total = squares.sum()
    if mesh.degree(PIPELINE) > 1:
        dist.all_reduce(total, group=mesh.group(PIPELINE))
    return total
