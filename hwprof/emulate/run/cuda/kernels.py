"""Which kernels does a device have that are not here: torch's own for CUDA, and what the script has in Triton?

Where a build has no kernel for a device, torch takes an operator apart before anybody can see it whole: RMSNorm would
be eight kernels and keep a copy in 32 bits. A kernel that is only named, and never called because all tensors are fake,
keeps it whole. These are all operators of ``native_functions.yaml`` that have both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

from hwprof.emulate.run.calls import tensor_view
from hwprof.emulate.run.rank import Rank, script_line
from hwprof.emulate.tape import Call
from hwprof.specs.record.captured import AtenCall, Value

aten = torch.ops.aten
WHOLE = ("silu_backward", "_fused_rms_norm", "mish_backward")

_kept: list[Any] = []


def install(rank: Rank) -> None:
    """Name them, for the rest of this process."""
    _triton(rank)
    library = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]
    for name in WHOLE:
        if hasattr(aten, name) and not torch._C._dispatch_has_kernel_for_dispatch_key(f"aten::{name}", "CUDA"):  # noqa: SLF001
            library.impl(name, _uncalled, "CUDA")  # type: ignore[no-untyped-call]
    _kept.append(library)


def _triton(rank: Rank) -> None:
    """What the script has written in Triton, where that is installed, is written down and not run."""
    try:
        from triton.runtime import autotuner, jit
    except ImportError:
        return
    follow(rank, jit.JITFunction, (autotuner.Autotuner, autotuner.Heuristics))


def follow(rank: Rank, kernels: Any, tuners: Iterable[Any]) -> None:
    """Write down launches of a class of kernels, and of classes that choose among versions of one."""
    places: dict[Any, int] = {}

    def written(kernel: Any, *args: Any, **kwargs: Any) -> None:
        """A launch: each tensor that it is given counts once; what is in them is not known afterwards."""
        name = f"triton::{getattr(kernel.fn, '__name__', 'kernel')}"
        given: dict[str, Value] = {}
        for place, value in enumerate((*args, *kwargs.values())):
            if isinstance(value, torch.Tensor):
                rank.values.forget(value)
                given[f"tensor_{place}"] = tensor_view(value)
        key = (name, *((each.shape, each.dtype) for each in given.values()))  # type: ignore[union-attr]
        number = places.get(key)
        if number is None:
            number = places[key] = len(rank.tape.calls)
            call = AtenCall(name=name, arguments=given, results=())
            rank.tape.calls.append(Call(name=name, flop=0, device="cuda", call=call, line=script_line() or rank.phase))
            rank.note(f"kernel {name}: its tensors are counted once, its arithmetic is not")
        rank.tape.call(number, rank.stream)

    def chosen(tuned: Any, *args: Any, **kwargs: Any) -> Any:
        """A kernel of which several versions would be tried."""
        return tuned.fn.run(*args, **kwargs)

    kernels.run = written
    for tuner in tuners:
        tuner.run = chosen


def _uncalled(*_: Any, **__: Any) -> Any:
    raise AssertionError("a kernel of an emulated device was called")


def _normed(
    tensor: torch.Tensor, normalized_shape: Any, weight: Any = None, eps: Any = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """``aten::_fused_rms_norm``: the result and one number in 32 bits for each row."""
    del weight, eps
    rows = tensor.shape[: tensor.dim() - len(normalized_shape)]
    return torch.empty_like(tensor), tensor.new_empty([*rows, *(1 for _ in normalized_shape)], dtype=torch.float32)


def _normed_backward(
    gradient: torch.Tensor, _tensor: torch.Tensor, _shape: Any, _rstd: Any, weight: Any, mask: Any
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """``aten::_fused_rms_norm_backward``: the gradients that are asked for."""
    of_weight = torch.empty_like(weight) if weight is not None and mask[1] else None
    return (torch.empty_like(gradient) if mask[0] else None), of_weight


def _grouped(left: torch.Tensor, right: torch.Tensor, offsets: Any = None, *_: Any, **__: Any) -> torch.Tensor:
    groups = [offsets.shape[0]] if offsets is not None and left.dim() == right.dim() == 2 else []
    batch = [left.shape[0]] if left.dim() == right.dim() == 3 else groups
    return left.new_empty([*batch, left.shape[-2], right.shape[-1]])


def _channels(tensor: torch.Tensor, *_: Any, **__: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Two numbers in 32 bits for each channel: the statistics of a batch norm over ranks."""
    made = tensor.new_empty([tensor.shape[1]], dtype=torch.float32)
    return made, torch.empty_like(made)


def _reduced(
    _gradient: Any, _tensor: Any, mean: Any, _invstd: Any, weight: Any, *asked: bool
) -> tuple[torch.Tensor | None, ...]:
    """``aten::batch_norm_backward_reduce``: two sums by channel, and the gradients of weight and bias."""
    sums = [torch.empty_like(mean) if asked[0] else None for _ in range(2)]
    kept = mean if weight is None else weight
    return (*sums, *(torch.empty_like(kept) if each else None for each in asked[1:3]))


def _gated(gates: torch.Tensor, _hidden: Any, state: torch.Tensor, *_: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """``aten::_thnn_fused_gru_cell``: the next state, and five numbers of each element for the backward pass."""
    return torch.empty_like(state), gates.new_empty([state.shape[0], 5 * state.shape[1]])


def _gated_backward(gradient: torch.Tensor, _kept: Any, has_bias: bool) -> tuple[torch.Tensor | None, ...]:
    """``aten::_thnn_fused_gru_cell_backward``: gradients of both gates, of the state, and of the biases."""
    rows, width = gradient.shape
    gates = [gradient.new_empty([rows, 3 * width]) for _ in range(2)]
    return (
        *gates,
        torch.empty_like(gradient),
        *(gates[0].new_empty(3 * width) if has_bias else None for _ in range(2)),
    )


def _like_first(tensor: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
    return torch.empty_like(tensor)


_NAMED: dict[str, Callable[..., Any]] = {
    "batch_norm_stats": _channels,
    "batch_norm_gather_stats": _channels,
    "batch_norm_gather_stats_with_counts": _channels,
    "batch_norm_elemt": _like_first,
    "batch_norm_backward_reduce": _reduced,
    "batch_norm_backward_elemt": _like_first,
    "_thnn_fused_gru_cell": _gated,
    "_thnn_fused_gru_cell_backward": _gated_backward,
    "_grouped_mm": _grouped,
    "_fused_rms_norm": _normed,
    "_fused_rms_norm_backward": _normed_backward,
}


def _in_place(*_: Any, **__: Any) -> None:
    """What changes its arguments alone."""


RESULTS = {getattr(aten, name).default: shapes for name, shapes in _NAMED.items() if hasattr(aten, name)} | {
    getattr(aten, name).tensor_lr: _in_place for name in ("_fused_adam_", "_fused_adamw_", "_fused_sgd_")
}
"""Operator -> empty results, where torch has no rule for fake tensors or one that takes fewer types than the kernel."""
