"""Claims about looking into modules, optimizers and inputs of somebody else's loop."""

import pytest
import torch
from torch import nn

from hwprof.errors import InputError
from hwprof.measure.their_loop.inputs import SeenInputs, see_inputs
from hwprof.measure.their_loop.model import see, state_bytes
from hwprof.measure.their_loop.optimizer import implementation, plain_optimizers

CPU = torch.device("cpu")
KINDS = ("cuda", "xpu", "mps")


def _model():
    return nn.Sequential(nn.Linear(4, 8), nn.Sequential(nn.GELU(), nn.Linear(8, 4)))


class DistributedDataParallel(nn.Module):
    """Stands in for torch's: a class of that name with the module inside."""

    def __init__(self, module):
        super().__init__()
        self.module = module


def test_module_is_described_with_each_parameter_once():
    model = _model()
    model[1][1].weight = nn.Parameter(model[0].weight.data.T.clone())
    model.register_parameter("again", model[0].weight)
    model[0].bias.requires_grad_(requires_grad=False)
    spec = see(model).spec()
    assert (spec.name, spec.parameters, spec.trainable_parameters) == ("Sequential", 32 + 8 + 32 + 4, 32 + 32 + 4)
    assert spec.source == "torch.nn.modules.container.Sequential"


def test_paths_leave_wrappers_out():
    seen = see(DistributedDataParallel(torch.compile(_model(), backend="eager")))
    assert [path for path, _ in seen.named] == ["0", "1", "1.0", "1.1"]
    assert seen.wrappers == ("DistributedDataParallel", "OptimizedModule")
    assert seen.spec().wrapper == "DistributedDataParallel of OptimizedModule"


@pytest.mark.parametrize("in_place", [True, False])
def test_compiled_model_is_said_to_be_hidden(in_place):
    model = _model()
    if in_place:
        model.compile(backend="eager")
    seen = see(model if in_place else torch.compile(model, backend="eager"))
    assert seen.compiled
    assert "torch.compile fuses kernels across modules" in seen.modules.hidden


@pytest.mark.parametrize("in_place", [True, False])
def test_only_what_is_inside_a_compiled_part_is_hidden(in_place):
    """Hooks of a part compiled in place would run inside the compiled code, so it has none."""
    model = _model()
    if in_place:
        model[1].compile(backend="eager")
    else:
        model[1] = torch.compile(model[1], backend="eager")
    seen = see(model)
    assert [path for path, _ in seen.modules.named] == (["0"] if in_place else ["0", "1"])
    assert "1 compiled modules" in seen.modules.why_hidden()
    assert any("counted as if it ran eagerly" in note for note in seen.notes)


def test_copies_in_threads_are_said_to_be_hidden():
    assert "DataParallel" in see(nn.DataParallel(_model())).modules.hidden


def test_compiled_parts_of_copies_in_threads_are_hidden_too():
    model = _model()
    model[1] = torch.compile(model[1], backend="eager")
    modules = see(nn.DataParallel(model)).modules
    assert modules.graphs is None
    assert "DataParallel" in modules.why_hidden()


def test_what_is_no_module_is_refused():
    with pytest.raises(InputError, match=r"function is no torch\.nn\.Module"):
        see(lambda value: value)


def test_state_is_counted_by_storage():
    model = _model()
    optimizer = torch.optim.Adam(model.parameters())
    numbers = 32 + 8 + 32 + 4
    assert state_bytes(model, [optimizer]) == {"weights": 4 * numbers, "gradients": 0, "optimizer state": 0}
    model(torch.randn(2, 4)).sum().backward()
    optimizer.step()
    found = state_bytes(model, [optimizer])
    assert found == {"weights": 4 * numbers, "gradients": 4 * numbers, "optimizer state": 8 * numbers + 4 * 4}


@pytest.mark.parametrize(
    ("options", "expected"),
    [({}, "for-loop"), ({"foreach": True}, "foreach"), ({"fused": True}, "fused"), ({"foreach": False}, "for-loop")],
)
def test_implementation_is_what_the_optimizer_asks_for(options, expected):
    assert implementation([torch.optim.AdamW(_model().parameters(), **options)], CPU) == expected


def test_implementation_of_torch_on_cuda_is_lists_of_tensors():
    taken = {kind: implementation([torch.optim.AdamW(_model().parameters())], torch.device(kind)) for kind in KINDS}
    assert taken == {"cuda": "foreach", "xpu": "foreach", "mps": "for-loop"}
    assert implementation([torch.optim.LBFGS(_model().parameters())], CPU) == ""


def test_optimizer_is_found_inside_its_wrapper():
    class Wrapper:
        def __init__(self, optimizer):
            self.optimizer = optimizer

    inner = torch.optim.SGD(_model().parameters(), lr=1.0)
    assert plain_optimizers([Wrapper(inner), inner]) == (inner, inner)
    assert plain_optimizers(None) == ()
    with pytest.raises(InputError, match=r"int is no torch\.optim\.Optimizer"):
        plain_optimizers(3)


class _Language(nn.Module):
    def forward(self, input_ids, attention_mask=None, labels=None):
        raise NotImplementedError


def test_token_ids_are_told_from_labels_and_masks():
    ids, labels = torch.zeros(2, 5, dtype=torch.int64), torch.zeros(2, 5, dtype=torch.int64)
    seen = see_inputs(_Language(), (), {"labels": labels, "attention_mask": torch.ones(2, 5), "input_ids": ids})
    assert (seen.rows, seen.tokens) == (2, 10)
    assert seen.described == ("labels 2×5 int64", "attention_mask 2×5 float32", "input_ids 2×5 int64")


def test_positional_inputs_have_the_names_of_the_signature():
    assert see_inputs(_Language(), (torch.zeros(2, 5, dtype=torch.int32),), {}).described == ("input_ids 2×5 int32",)


def test_images_have_rows_and_no_tokens():
    seen = see_inputs(nn.Conv2d(3, 4, 1), (torch.zeros(2, 3, 8, 8),), {})
    assert (seen.rows, seen.tokens) == (2, None)


def test_forward_passes_of_a_step_add_up():
    one = SeenInputs(described=("x 2×5",), rows=2, tokens=10)
    assert one.plus(one) == SeenInputs(described=("x 2×5",), rows=4, tokens=20)
    assert SeenInputs().plus(one) == one
