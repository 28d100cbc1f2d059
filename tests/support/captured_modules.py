"""Modules to capture, one for each thing that is hard to count, with inputs for each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (the name that torch's own documentation uses)
from torch import nn
from torch.utils.checkpoint import checkpoint


class Residual(nn.Module):
    """A block of a ResNet: grouped and strided convolutions, batch norm, relu in place, a shortcut."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride=2, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, padding=1, groups=2)
        self.norm2 = nn.BatchNorm2d(outside)
        self.shortcut = nn.Conv2d(inside, outside, 1, stride=2)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        branch = self.norm2(self.conv2(self.relu(self.norm1(self.conv1(x)))))
        branch += self.shortcut(x)
        return self.relu(branch)


def conv_net() -> nn.Module:
    stem = (nn.Conv2d(3, 8, 7, stride=2, padding=3), nn.MaxPool2d(2))
    tail = (nn.ConvTranspose2d(16, 8, 2, stride=2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))
    return nn.Sequential(*stem, Residual(8, 16), *tail)


class CrossAttention(nn.Module):
    """Stock attention of some vectors to fewer others."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(32, 4, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mixed: torch.Tensor = self.attention(x, x[:, :5], x[:, :5], need_weights=False)[0]
        return mixed


class Tied(nn.Module):
    """A language model whose head is its table, with a feed-forward network that it runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(31, 16)
        self.twice = nn.Sequential(nn.Linear(16, 16), nn.GELU())
        self.unused = nn.Linear(16, 3)
        self.head = nn.Linear(16, 31, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.twice(self.twice(self.tokens(ids))))
        return logits


class Nested(nn.Module):
    """Two checkpointed stages, each with a checkpointed block inside."""

    def __init__(self, *, reentrant: bool = False) -> None:
        super().__init__()
        self.reentrant = reentrant
        self.stages = nn.ModuleList(nn.ModuleList(nn.Linear(16, 16) for _ in range(2)) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for stage in self.stages:
            x = checkpoint(self._stage, stage, x, use_reentrant=self.reentrant)
        return x

    def _stage(self, stage: Any, x: torch.Tensor) -> torch.Tensor:
        x = torch.tanh(stage[0](x))
        inner: torch.Tensor = checkpoint(lambda y: torch.tanh(stage[1](y)), x, use_reentrant=self.reentrant)
        return inner


class InPlace(nn.Module):
    """Views written in place, and a buffer that is kept."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(16, 16)
        self.register_buffer("scale", torch.ones(16))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.linear(x) * self.scale
        y[:, :4].mul_(2).add_(1)
        return F.silu(y, inplace=False).exp_()


class Square(torch.autograd.Function):
    """An autograd function of a user's own, with a product in both directions."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return x @ x

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (x,) = ctx.saved_tensors
        return gradients[0] @ x.T + x.T @ gradients[0]


class OwnFunction(nn.Module):
    """A module with an autograd function of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(16, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = Square.apply(self.linear(x))  # type: ignore[no-untyped-call]
        return result


Maker = Callable[[], tuple[nn.Module, torch.Tensor]]

MODULES: dict[str, Maker] = {
    "convolutions": lambda: (conv_net(), torch.randn(2, 3, 32, 32)),
    "attention": lambda: (nn.MultiheadAttention(32, 4, batch_first=True), torch.randn(2, 8, 32)),
    "cross-attention": lambda: (CrossAttention(), torch.randn(2, 8, 32)),
    "encoder layer": lambda: (nn.TransformerEncoderLayer(32, 4, 64, 0.0, batch_first=True), torch.randn(2, 8, 32)),
    "tied": lambda: (Tied(), torch.randint(31, (2, 8))),
    "nested checkpoints": lambda: (Nested(), torch.randn(4, 16)),
    "in place": lambda: (InPlace(), torch.randn(4, 16)),
    "own function": lambda: (OwnFunction(), torch.randn(16, 16)),
    "group norm": lambda: (nn.Sequential(nn.Conv1d(4, 8, 3), nn.GroupNorm(2, 8), nn.Mish()), torch.randn(2, 4, 16)),
    "recurrent": lambda: (nn.GRU(8, 16, batch_first=True), torch.randn(2, 6, 8)),
}


def made(name: str) -> tuple[nn.Module, tuple[torch.Tensor, ...], dict[str, Any]]:
    """A module of the table with its inputs, with the same numbers each time."""
    torch.manual_seed(0)
    module, x = MODULES[name]()
    if name == "attention":
        return module, (x, x, x), {"need_weights": False}
    return module, (x,), {}
