"""Which activations are kept for the backward pass, and which are computed again?"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from hwprof.specs.job.settings import Recompute

LayerRunner = Callable[[nn.Module, torch.Tensor], torch.Tensor]

_KEPT_OPERATORS = (
    "mm",
    "addmm",
    "bmm",
    "baddbmm",
    "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_cudnn_attention",
    "_scaled_dot_product_fused_attention_overrideable",
    "_scaled_dot_product_flash_attention_for_cpu",
)
"""Matrix multiplications and fused attention, as ATen names them below autograd."""

_KEPT = frozenset(getattr(torch.ops.aten, name).default for name in _KEPT_OPERATORS if hasattr(torch.ops.aten, name))


def layer_runner(recompute: Recompute, *, draws_random: bool) -> LayerRunner:
    """A function that runs one layer and arranges what its backward pass will find.

    ``none`` keeps everything; ``selective`` keeps the outputs of matrix multiplications and of attention and computes
    the rest again (Korthikanti et al. 2022 draw the line elsewhere: they recompute attention, which has no fused
    kernel there); ``full`` keeps only the layer's input (Chen et al. 2016).

    Args:
        recompute: one of the three.
        draws_random: whether the layer draws random numbers (dropout), which must come out the same again.
    """
    return partial(_RUNNERS[recompute], draws_random)


def _run_plain(_draws_random: bool, layer: nn.Module, vectors: torch.Tensor) -> torch.Tensor:
    result: torch.Tensor = layer(vectors)
    return result


def _run_full(draws_random: bool, layer: nn.Module, vectors: torch.Tensor) -> torch.Tensor:
    result: torch.Tensor = checkpoint(layer, vectors, use_reentrant=False, preserve_rng_state=draws_random)
    return result


def _run_selective(draws_random: bool, layer: nn.Module, vectors: torch.Tensor) -> torch.Tensor:
    result: torch.Tensor = checkpoint(
        layer,
        vectors,
        use_reentrant=False,
        preserve_rng_state=draws_random,
        context_fn=_contexts,
    )
    return result


def _contexts() -> Any:
    """What torch asks of each operator: keep its output, or compute it again."""
    from torch.utils.checkpoint import CheckpointPolicy, create_selective_checkpoint_contexts  # since torch 2.5

    def policy(_context: object, operator: object, *_args: Any, **_kwargs: Any) -> CheckpointPolicy:
        return CheckpointPolicy.MUST_SAVE if operator in _KEPT else CheckpointPolicy.PREFER_RECOMPUTE

    return create_selective_checkpoint_contexts(policy)  # type: ignore[no-untyped-call]  # torch leaves it untyped


_RUNNERS: dict[Recompute, Callable[[bool, nn.Module, torch.Tensor], torch.Tensor]] = {
    "none": _run_plain,
    "selective": _run_selective,
    "full": _run_full,
}
