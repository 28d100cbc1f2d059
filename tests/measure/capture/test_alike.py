"""What makes two layers do the same."""

from __future__ import annotations

import torch
from torch import nn

from hwprof.measure.capture.layers.alike import Comparison


class _LeadsBack(nn.Module):
    """Holds a method of its own, as SEW-D's layers do."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.scale = scale
        self.turned = self.turn

    def turn(self, states: torch.Tensor) -> torch.Tensor:
        return self.scale * self.linear(states)


def test_layers_that_hold_methods_of_their_own_are_compared() -> None:
    assert Comparison({}).modules(_LeadsBack(2.0), _LeadsBack(2.0))
    assert not Comparison({}).modules(_LeadsBack(2.0), _LeadsBack(3.0))
