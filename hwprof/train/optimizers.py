"""How are the weights updated? Optimizers and their implementations, as torch has them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from hwprof.errors import InputError
from hwprof.specs.job.settings import OptimizerImplementation, OptimizerName

FOREACH_ON = frozenset({"cuda", "xpu", "npu"})
"""Devices on which torch updates lists of tensors by itself (torch/utils/_foreach_utils.py; ``npu`` as torch_npu's)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Choice:
    """A class of ``torch.optim`` by name (an older torch may lack it), and what it is built with."""

    class_name: str
    options: Mapping[str, Any]
    weight_decay: float


_CHOICES: dict[OptimizerName, _Choice] = {
    "adamw": _Choice(class_name="AdamW", options={"betas": (0.9, 0.95)}, weight_decay=0.1),
    "adam": _Choice(class_name="Adam", options={"betas": (0.9, 0.95)}, weight_decay=0.0),
    "sgd": _Choice(class_name="SGD", options={"momentum": 0.9}, weight_decay=1e-4),
    "adafactor": _Choice(class_name="Adafactor", options={}, weight_decay=0.0),
}

_FLAGS: dict[OptimizerImplementation, dict[str, bool]] = {
    "for-loop": {"foreach": False, "fused": False},
    "foreach": {"foreach": True, "fused": False},
    "fused": {"foreach": False, "fused": True},
}


def build_optimizer(
    model: nn.Module, name: OptimizerName, implementation: OptimizerImplementation, *, learning_rate: float
) -> torch.optim.Optimizer:
    """The optimizer over all weights of ``model``; weight decay acts on matrices only, not on biases and norms.

    Raises:
        InputError: this torch has no such optimizer, or not in this implementation; says which there are.
    """
    choice = _CHOICES[name]
    kind = _optimizer_class(name)
    accepted = inspect.signature(kind).parameters
    flags = {flag: value for flag, value in _FLAGS[implementation].items() if value or flag in accepted}
    if not flags.keys() <= accepted.keys():
        raise _missing_implementation(name, implementation)
    try:
        optimizer = kind(_groups(model, choice.weight_decay), lr=learning_rate, **choice.options, **flags)
    except RuntimeError as error:  # torch refuses "fused" on devices without such kernels
        raise _missing_implementation(name, implementation, reason=str(error)) from error
    assert isinstance(optimizer, torch.optim.Optimizer)
    return optimizer


def implementations(name: OptimizerName) -> tuple[OptimizerImplementation, ...]:
    """The implementations that this torch has of an optimizer.

    Raises:
        InputError: this torch does not have the optimizer at all.
    """
    accepted = inspect.signature(_optimizer_class(name)).parameters
    return tuple(key for key, flags in _FLAGS.items() if all(flag in accepted for flag, on in flags.items() if on))


def _optimizer_class(name: OptimizerName) -> Any:
    kind = getattr(torch.optim, _CHOICES[name].class_name, None)  # Adafactor came with torch 2.5
    if kind is None:
        have = ", ".join(key for key, choice in _CHOICES.items() if hasattr(torch.optim, choice.class_name))
        raise InputError(
            f"torch {torch.__version__} has no optimizer {name!r}",
            expectation=f"it has {have}",
            remedy="choose one of these, or install a newer torch",
        )
    return kind


def _missing_implementation(
    name: OptimizerName, implementation: OptimizerImplementation, *, reason: str = ""
) -> InputError:
    others = ", ".join(key for key in implementations(name) if key != implementation)
    return InputError(
        f"optimizer {name!r} has no {implementation!r} implementation here" + (f" ({reason})" if reason else ""),
        expectation=f"torch {torch.__version__} has {others}",
        remedy="choose one of these",
    )


def _groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices and the rest; weights that are divided over different ranks apart, as no operation takes both."""
    groups: dict[tuple[bool, object], list[nn.Parameter]] = {}
    for weight in model.parameters():
        if weight.requires_grad:
            groups.setdefault((weight.dim() >= 2, getattr(weight, "device_mesh", None)), []).append(weight)
    return [
        {"params": weights, "weight_decay": weight_decay if matrices else 0.0}
        for (matrices, _), weights in sorted(groups.items(), key=lambda item: not item[0][0])
    ]
