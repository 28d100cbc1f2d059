"""What makes two layers do the same, what is there for the next try to show it, and what has no memory."""

from __future__ import annotations

import torch
from torch import nn

from hwprof.measure.capture.configured import narrow
from hwprof.measure.capture.fake import make_fake, weightless
from hwprof.measure.capture.layers.alike import Comparison
from hwprof.measure.capture.module import capture
from hwprof.measure.capture.subject import Subject


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


class _KeepsATable(nn.Module):
    """Makes a part of its graph once, as LeViT does with its biases."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(8))
        self.table: torch.Tensor | None = None

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        if self.table is None:
            self.table = self.scale.exp()
        return states * self.table


def test_a_graph_that_a_module_holds_is_there_for_the_next_try() -> None:
    with weightless():
        model = _KeepsATable()
    mode = make_fake(model)
    with mode:
        given = torch.ones(2, 8)
    subject = Subject(name="model", module=model, arguments=(given,), fake=mode)
    capture(subject)
    again = [each.call.name.removeprefix("aten::") for each in capture(subject).calls]
    assert again == ["mul", "mul", "sum", "mul", "add_"]  # forwards; the table's gradient, that of its scale, its sum


class Large(nn.Module):
    """Makes weights of zeros and a table of rotations, as Llama 4 does; real ones would take 68 GB."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1 << 17, 1 << 17))
        self.turns: torch.Tensor
        self.register_buffer("turns", torch.polar(torch.ones(4), torch.arange(4.0)))


def test_large_weights_of_zeros_have_no_memory_and_rotations_stay_complex() -> None:
    with weightless():
        module = Large()
    narrow(module, torch.bfloat16)
    assert module.weight.is_meta
    assert (module.weight.dtype, module.turns.dtype) == (torch.bfloat16, torch.complex64)
