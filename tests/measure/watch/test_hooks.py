"""Claims about hooks in somebody's program: guarded, absent from copies, gone when closed."""

import copy
import copyreg
import functools
import io
import pickle

import pytest
import torch
from torch import nn

from hwprof.measure.watch.hooks import Hooks


def _doubled(_module, _args, output):
    return 2 * output


def _copies(module):
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    return {
        "deepcopy": copy.deepcopy(module),
        "pickle": pickle.loads(pickle.dumps(module)),
        "torch.save": torch.load(file, weights_only=False),
    }


@pytest.fixture
def hooks():
    opened = Hooks([])
    yield opened
    opened.close()


@pytest.mark.parametrize("how", ["deepcopy", "pickle", "torch.save"])
def test_copies_have_the_hooks_of_the_program_and_none_of_ours(hooks, how):
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    model[0].register_forward_hook(_doubled)
    calls = []
    for module in model.modules():
        hooks.before(module, lambda *_: calls.append(1), prepend=True)
        hooks.after(module, lambda *_: calls.append(1))
    found = _copies(model)[how]
    value = torch.randn(4, 2)
    expected = torch.relu(2 * model[0].forward(value))
    calls.clear()
    assert torch.equal(found(value), expected)
    assert calls == []
    assert [len(module._forward_pre_hooks) for module in found.modules()] == [0, 0, 0]
    assert [len(module._forward_hooks) for module in found.modules()] == [0, 1, 0]
    assert not any(module._forward_hooks_always_called for module in found.modules())
    assert b"hwprof" not in pickle.dumps(model)


def test_a_module_that_describes_itself_has_inert_hooks_in_its_copy(hooks):
    class Own(nn.Linear):
        def __deepcopy__(self, memo):
            made = Own(2, 2)
            made.__dict__ = copy.deepcopy(self.__dict__, memo)
            return made

    calls = []
    module = Own(2, 2)
    hooks.before(module, lambda *_: calls.append(1))
    copy.deepcopy(module)(torch.randn(1, 2))
    assert calls == []


def test_how_a_class_is_copied_is_as_before_once_all_hooks_are_gone():
    class Named(nn.Linear):
        pass

    def own(module):
        return (Named, (module.in_features, 7))

    copyreg.dispatch_table[Named] = own
    try:
        first, second = Hooks([]), Hooks([])
        module = Named(2, 2)
        first.before(module, lambda *_: None)
        second.before(module, lambda *_: None)
        first.close()
        assert copy.deepcopy(module).out_features == 7  # the program's own way is kept
        second.close()
        assert copyreg.dispatch_table[Named] is own
    finally:
        del copyreg.dispatch_table[Named]


def test_what_goes_wrong_in_a_hook_is_noted_once_and_the_forward_goes_on():
    notes = []
    hooks = Hooks(notes)
    module = nn.Linear(2, 2)

    def broken(*_):
        raise ZeroDivisionError("of ours")

    hooks.before(module, broken)
    hooks.after(module, broken)
    for _ in range(3):
        module(torch.randn(1, 2))
    hooks.close()
    assert len(notes) == 1
    assert "ZeroDivisionError: of ours" in notes[0]
    assert not module._forward_hooks
    assert not module._forward_pre_hooks


def test_backward_is_wrapped_once_for_all_and_restored_in_whatever_order_they_leave():
    original = torch.autograd.backward
    first, second, calls = Hooks([]), Hooks([]), []
    for _ in range(3):  # as steps come and go
        first.around_backward(lambda: calls.append("first"), lambda: calls.append("first done"))
        second.around_backward(lambda: calls.append("second"), lambda: calls.append("second done"))
        assert torch.autograd.backward.__wrapped__ is original
        torch.randn(1, requires_grad=True).sum().backward()
        assert calls == ["first", "second", "second done", "first done"]
        calls.clear()
        first.close()
        second.close()
        assert torch.autograd.backward is original


def test_somebody_who_wrapped_backward_after_us_keeps_it_and_each_pass_is_heard_once(monkeypatch):
    hooks, calls = Hooks([]), []
    hooks.around_backward(lambda: calls.append(1), lambda: None)
    ours = torch.autograd.backward

    @functools.wraps(ours)
    def theirs(*args, **kwargs):
        return ours(*args, **kwargs)

    monkeypatch.setattr(torch.autograd, "backward", theirs)
    hooks.close()
    torch.randn(1, requires_grad=True).sum().backward()
    assert (calls, torch.autograd.backward) == ([], theirs)
    hooks.around_backward(lambda: calls.append(1), lambda: None)
    torch.randn(1, requires_grad=True).sum().backward()
    assert calls == [1]
    hooks.close()
    assert torch.autograd.backward is theirs
