"""What does each token compute on its own? Plain and gated feed-forward networks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812 (the name that torch's own documentation uses)
from torch import nn

from hwprof.specs.model.spec import ModelSpec

_ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "gelu": partial(F.gelu, approximate="tanh"),  # the form of GPT-2, GPT-3 and GeGLU models (Gemma)
    "relu": F.relu,
    "silu": F.silu,
}


class PlainActivation(nn.Module):
    """act(x)."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.function = _ACTIVATIONS[name]

    def forward(self, up: torch.Tensor) -> torch.Tensor:
        """Any shape -> same shape."""
        return self.function(up)


class GatedActivation(nn.Module):
    """act(gate) * up; with silu this is SwiGLU (Shazeer 2020, equation 6)."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.function = _ACTIVATIONS[name]

    def forward(self, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        """Two of any one shape -> same shape."""
        return self.function(gate) * up


class PlainFeedForward(nn.Module):
    """down(act(up(x)))."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.up = nn.Linear(spec.d_model, spec.d_ff, bias=spec.mlp_bias)
        self.activation = PlainActivation(spec.activation)
        self.down = nn.Linear(spec.d_ff, spec.d_model, bias=spec.mlp_bias)

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """Vectors [..., d_model] -> same shape."""
        result: torch.Tensor = self.down(self.activation(self.up(vectors)))
        return result


class GatedFeedForward(nn.Module):
    """down(act(gate(x)) * up(x))."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.gate = nn.Linear(spec.d_model, spec.d_ff, bias=spec.mlp_bias)
        self.up = nn.Linear(spec.d_model, spec.d_ff, bias=spec.mlp_bias)
        self.activation = GatedActivation(spec.activation)
        self.down = nn.Linear(spec.d_ff, spec.d_model, bias=spec.mlp_bias)

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """Vectors [..., d_model] -> same shape."""
        result: torch.Tensor = self.down(self.activation(self.gate(vectors), self.up(vectors)))
        return result


def feed_forward(spec: ModelSpec) -> PlainFeedForward | GatedFeedForward:
    """The feed-forward network that the spec asks for."""
    return GatedFeedForward(spec) if spec.gated else PlainFeedForward(spec)
