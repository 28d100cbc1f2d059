"""How do weights start? Each drawn from a generator of its own name, whoever holds it, so that ranks agree.

A rank that holds a part of a model, or shards of its weights, thus starts from the numbers that one process would.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from hwprof.specs.model.spec import ModelSpec

_LARGEST_STD = 0.02
"""Of GPT-2 (Radford et al. 2019); wide models start smaller, see ``initial_std``."""


@dataclass(frozen=True, slots=True)
class Start:
    """How a weight is filled: ``normal`` with a standard deviation, ``uniform`` up to a bound, or a ``constant``."""

    kind: Literal["normal", "uniform", "constant"]
    scale: float


_ZERO, _ONE = Start("constant", 0.0), Start("constant", 1.0)


def initial_std(d_model: int) -> float:
    """Standard deviation of fresh weights: 0.02, or sqrt(2 / (5 d_model)) where that is smaller.

    The second is SmallInit (Nguyen & Salazar 2019, section 2.2). It keeps the variance of the first logits of a wide
    model at 0.4 or less, so that the loss starts near ln(vocab_size).
    """
    return min(_LARGEST_STD, math.sqrt(2 / (5 * d_model)))


def start_of(spec: ModelSpec, name: str) -> Start:
    """How the weight of a path (``layers.3.ffn.down.weight``) starts.

    In a decoder the two projections of a layer that write to the residual stream are smaller by sqrt(2 layers), as in
    GPT-2 (Radford et al. 2019, section 2.3). Stock encoder layers start as torch itself starts them.
    """
    module, _, weight = name.rpartition(".")
    owner = module.rpartition(".")[2]
    std = initial_std(spec.d_model)
    if "norm" in owner:
        return _ZERO if weight == "bias" else _ONE
    if spec.kind == "encoder" and module.startswith("layers."):
        return _stock_start(spec, owner, weight)
    if weight == "bias":
        return _ZERO
    writes_residual = name.endswith(("attention.output.weight", "ffn.down.weight"))
    return Start("normal", std / math.sqrt(2 * spec.layers) if writes_residual else std)


def _stock_start(spec: ModelSpec, owner: str, weight: str) -> Start:
    """torch: Xavier for the packed input projection, zero biases of attention, Kaiming (a = sqrt(5)) for the rest."""
    if weight == "in_proj_weight":
        return Start("uniform", math.sqrt(6 / (spec.d_model + 3 * spec.d_model)))
    if weight == "in_proj_bias" or (owner, weight) == ("out_proj", "bias"):
        return _ZERO
    inputs = spec.d_ff if owner == "linear2" else spec.d_model
    return Start("uniform", 1 / math.sqrt(inputs))


def draw_weights(model: nn.Module, spec: ModelSpec, seed: int) -> None:
    """Fill every weight of a model, or of a part of it; weights on the meta device hold nothing and stay so.

    Args:
        model: its parameters are called as in the whole model; they may be DTensors, of which each rank fills its own.
        spec: the model.
        seed: of the run.
    """
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not parameter.is_meta:
                shared = spec.tied_embeddings and name == "head.weight"  # in a pipeline, the last stage's copy
                own = "embedding.tokens.weight" if shared else name
                _fill(parameter, start_of(spec, own), _seed_of(own, seed))


def _fill(parameter: nn.Parameter, start: Start, seed: int) -> None:
    if start.kind == "constant":
        parameter.fill_(start.scale)
        return
    device = parameter.device
    whole = torch.empty(parameter.shape, device=device, dtype=parameter.dtype)
    generator = torch.Generator(device).manual_seed(seed)
    if start.kind == "normal":
        whole.normal_(std=start.scale, generator=generator)
    else:
        whole.uniform_(-start.scale, start.scale, generator=generator)
    parameter.copy_(_divided_like(parameter, whole))


def _divided_like(parameter: Any, whole: torch.Tensor) -> torch.Tensor:
    """A whole tensor, or the part of it that this rank holds of the parameter."""
    if not hasattr(parameter, "device_mesh"):
        return whole
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(whole, parameter.device_mesh, parameter.placements, src_data_rank=None)


def _seed_of(name: str, seed: int) -> int:
    return zlib.crc32(f"{seed}:{name}".encode())
