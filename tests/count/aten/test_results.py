"""Shapes of results against what torch makes of the same arguments."""

from __future__ import annotations

import math

import pytest
import torch

from hwprof.count.aten.registry import plain_name
from hwprof.count.aten.results import result_shapes
from hwprof.measure.capture.mode import CallRecorder

ATEN = torch.ops.aten
X4, W4 = torch.randn(2, 4, 9, 9), torch.randn(6, 4, 3, 3)
HEADS = torch.randn(2, 3, 8, 16)

CALLS = {
    "mm": lambda: torch.mm(torch.randn(3, 4), torch.randn(4, 5)),
    "bmm": lambda: torch.bmm(torch.randn(2, 3, 4), torch.randn(2, 4, 5)),
    "addmm": lambda: torch.addmm(torch.randn(5), torch.randn(3, 4), torch.randn(4, 5)),
    "baddbmm": lambda: torch.baddbmm(torch.randn(2, 3, 5), torch.randn(2, 3, 4), torch.randn(2, 4, 5)),
    "addbmm": lambda: torch.addbmm(torch.randn(3, 5), torch.randn(2, 3, 4), torch.randn(2, 4, 5)),
    "mv": lambda: torch.mv(torch.randn(3, 4), torch.randn(4)),
    "addmv": lambda: torch.addmv(torch.randn(3), torch.randn(3, 4), torch.randn(4)),
    "dot": lambda: torch.dot(torch.randn(4), torch.randn(4)),
    "convolution": lambda: torch.conv2d(X4, W4, torch.randn(6), stride=2, padding=1, dilation=2),
    "convolution, transposed": lambda: torch.conv_transpose2d(
        X4, torch.randn(4, 3, 3, 3), stride=2, padding=1, output_padding=1, groups=2
    ),
    "embedding": lambda: ATEN.embedding(torch.randn(50, 16), torch.randint(50, (3, 9))),
    "embedding_dense_backward": lambda: ATEN.embedding_dense_backward(
        torch.randn(3, 9, 16), torch.randint(50, (3, 9)), 50, -1, False
    ),
    "index": lambda: torch.randn(7, 5)[torch.randint(7, (4,)), torch.randint(5, (4,))],
    "index_select": lambda: torch.index_select(torch.randn(20, 6), 0, torch.randint(20, (7,))),
    "gather": lambda: torch.gather(torch.randn(5, 6), 1, torch.randint(6, (5, 3))),
    "take": lambda: torch.take(torch.randn(5, 6), torch.randint(30, (4, 2))),
    "slice_backward": lambda: ATEN.slice_backward(torch.randn(3, 5), [9, 5], 0, 0, 3, 1),
    "select_backward": lambda: ATEN.select_backward(torch.randn(5), [9, 5], 0, 2),
    "nll_loss_forward": lambda: ATEN.nll_loss_forward(torch.randn(4, 9), torch.randint(9, (4,)), None, 1, -100),
    "native_layer_norm": lambda: ATEN.native_layer_norm(
        torch.randn(4, 16), [16], torch.ones(16), torch.zeros(16), 1e-5
    ),
    "native_group_norm": lambda: ATEN.native_group_norm(X4, torch.ones(4), torch.zeros(4), 2, 4, 81, 2, 1e-5),
    "max_pool2d_with_indices": lambda: ATEN.max_pool2d_with_indices(X4, [3, 3], [2, 2], [1, 1]),
    "avg_pool2d": lambda: ATEN.avg_pool2d(X4, [2, 2]),
    "cat": lambda: torch.cat([torch.randn(3, 4), torch.randn(2, 4)]),
    "stack": lambda: torch.stack([torch.randn(3, 4), torch.randn(3, 4)]),
    "add": lambda: torch.randn(4, 1, 6).add(torch.randn(5, 1)),
    "attention": lambda: ATEN._scaled_dot_product_flash_attention_for_cpu(HEADS, HEADS, HEADS),
}


@pytest.mark.parametrize("name", sorted(CALLS))
def test_the_first_result_has_as_many_elements_as_torchs(name: str):
    """Joined tensors are one row of numbers; of the others the shape itself is the same."""
    with CallRecorder() as recorder:
        made = CALLS[name]()
    first = made[0] if isinstance(made, tuple) else made
    call = next(each.call for each in recorder.calls if plain_name(each.call.name) in name or "attention" in name)
    found = result_shapes(call.name, plain_name(call.name), call.arguments)
    if plain_name(call.name) in {"cat", "stack"}:
        assert math.prod(found[0]) == first.numel()
    else:
        assert found[0] == tuple(first.shape)


def test_gradients_of_a_convolution_have_the_shapes_of_what_they_are_of():
    x, weight, bias = X4.clone().requires_grad_(), W4.clone().requires_grad_(), torch.randn(6, requires_grad=True)
    made = torch.conv2d(x, weight, bias)
    with CallRecorder() as recorder:
        made.sum().backward()
    call = next(each.call for each in recorder.calls if "convolution_backward" in each.call.name)
    shapes = result_shapes(call.name, plain_name(call.name), call.arguments)
    assert shapes == tuple(tuple(each.grad.shape) for each in (x, weight, bias))


@pytest.mark.parametrize(
    ("name", "arguments", "error"),
    [
        ("aten::add", "broadcast", ValueError),
        ("aten::mm", {"self": 3, "mat2": 4}, TypeError),
        ("aten::index_select", {"self": 3, "dim": None, "index": None}, TypeError),
        ("aten::slice_backward", {"input_sizes": 9}, TypeError),
        ("aten::mm", {}, LookupError),
    ],
)
def test_arguments_that_do_not_fit_are_an_error(name: str, arguments: object, error: type[Exception]):
    if arguments == "broadcast":
        with CallRecorder() as recorder:
            torch.randn(3).add(1.0)
            torch.randn(4).add(1.0)
        three, four = (each.call.arguments["self"] for each in recorder.calls if each.call.name == "aten::add")
        arguments = {"self": three, "other": four}
    with pytest.raises(error):
        result_shapes(name, plain_name(name), arguments)


def test_a_reduction_has_no_result_worth_counting():
    with CallRecorder() as recorder:
        torch.randn(4, 5).sum()
    call = next(each.call for each in recorder.calls if plain_name(each.call.name) == "sum")
    assert result_shapes(call.name, "sum", call.arguments) == ()
