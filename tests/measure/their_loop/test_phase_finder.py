"""Claims about phases that are found in loops that know nothing of hwprof."""

import functools
from contextlib import contextmanager

import pytest
import torch
from torch import nn
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

from hwprof.measure.their_loop.phase_finder import PhaseFinder
from hwprof.train.loop import no_phase


class Log:
    """A phase context that writes down what it is told."""

    def __init__(self):
        self.names = []
        self.open = 0

    def __call__(self, name):
        return self._phase(name)

    @contextmanager
    def _phase(self, name):
        assert self.open == 0, "phases don't overlap"
        self.open += 1
        self.names.append(name)
        yield
        self.open -= 1


class Loop:
    def __init__(self, optimizer=torch.optim.SGD):
        self.model = nn.Linear(4, 4)
        self.optimizer = optimizer(self.model.parameters(), lr=0.1)

    def step(self, *, batches=1):
        for _ in range(batches):
            self.model(torch.randn(2, 4)).square().mean().backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()


def _watched(loop, take, *, optimizers=None, prepare=lambda _finder: None):
    finder = PhaseFinder(loop.model, [loop.optimizer] if optimizers is None else optimizers)
    prepare(finder)
    log = Log()
    finder.begin(log)
    take()
    finder.end()
    finder.stop()
    return finder, log


def test_phases_are_found_in_their_order():
    loop = Loop()
    _, log = _watched(loop, loop.step)
    assert log.names == ["data", "forward", "loss", "backward", "clip", "optimizer", "data"]


def test_each_micro_batch_has_its_own_forward_and_backward():
    loop = Loop()
    _, log = _watched(loop, lambda: loop.step(batches=2))
    assert log.names[:5] == ["data", "forward", "loss", "backward", "clip"]
    assert log.names[5:9] == ["forward", "loss", "backward", "clip"]


def test_what_lies_between_micro_batches_is_data_once_their_number_is_known():
    loop = Loop()
    _, log = _watched(loop, lambda: loop.step(batches=2), prepare=lambda finder: setattr(finder, "backward_passes", 2))
    assert log.names[:8] == ["data", "forward", "loss", "backward", "data", "forward", "loss", "backward"]
    assert log.names[8:] == ["clip", "optimizer", "data"]


def test_every_optimizer_of_the_program_is_watched_where_none_is_named():
    loop = Loop()
    finder, log = _watched(loop, loop.step, optimizers=[])
    assert "optimizer" in log.names
    assert finder.stepped == [loop.optimizer]


def test_gap_in_which_nothing_runs_is_no_phase():
    loop = Loop()
    _, log = _watched(loop, loop.step, prepare=lambda finder: setattr(finder, "empty_gaps", frozenset({"clip"})))
    assert log.names == ["data", "forward", "loss", "backward", "optimizer", "data"]


def test_closure_that_runs_inside_the_step_of_the_optimizer_is_not_the_update():
    loop = Loop()

    def closure():
        loop.optimizer.zero_grad()
        loss = loop.model(torch.randn(2, 4)).square().mean()
        loss.backward()
        return loss

    _, log = _watched(loop, lambda: loop.optimizer.step(closure))
    assert log.names == ["data", "optimizer", "forward", "loss", "backward", "optimizer", "data"]


def test_optimizer_that_steps_inside_the_backward_pass_leaves_it_to_go_on():
    loop = Loop()
    for parameter in loop.model.parameters():
        parameter.register_post_accumulate_grad_hook(lambda _parameter: loop.optimizer.step())
    _, log = _watched(loop, lambda: loop.model(torch.randn(2, 4)).square().mean().backward())
    assert log.names == ["data", "forward", "loss", *["backward", "optimizer"] * 2, "backward", "clip"]


def test_phase_named_by_hand_hides_what_is_found_inside_it():
    loop = Loop()

    def take(finder):
        with finder.by_hand("forward"):
            loss = loop.model(loop.model(torch.randn(2, 4))).square().mean()
        loss.backward()
        with finder.by_hand("optimizer"):
            loop.optimizer.step()

    finder = PhaseFinder(loop.model, [loop.optimizer])
    log = Log()
    finder.begin(log)
    take(finder)
    finder.stop()
    assert log.names == ["data", "forward", "loss", "backward", "clip", "optimizer", "data"]


def test_forward_without_gradients_is_an_evaluation_and_disturbs_the_step():
    loop = Loop()

    def take():
        loop.step()
        with torch.no_grad():
            loop.model(torch.randn(2, 4))

    finder, log = _watched(loop, take)
    assert log.names[-3:] == ["data", "evaluation", "data"]
    assert finder.disturbed()


def test_evaluation_in_every_step_is_a_part_of_the_step():
    loop = Loop()
    finder = PhaseFinder(loop.model, [loop.optimizer])
    disturbed = []
    for _ in range(5):
        finder.begin(Log())
        finder.leave_out()
        finder.end()
        disturbed.append(finder.disturbed())
    finder.stop()
    assert disturbed == [True, True, True, False, False]
    assert finder.evaluates_always


@pytest.mark.parametrize("wrap", [False, True])
def test_nothing_is_left_behind(wrap):
    loop = Loop()
    before = torch.autograd.backward
    finder = PhaseFinder(loop.model, [])
    finder.begin(Log())
    if wrap:  # somebody else wraps it too, and keeps what was there
        ours = torch.autograd.backward
        torch.autograd.backward = functools.partial(ours)
    loop.step()
    finder.begin(no_phase)
    assert not loop.model._forward_hooks
    assert not loop.model._forward_pre_hooks
    assert not _global_optimizer_pre_hooks
    assert not _global_optimizer_post_hooks
    if wrap:
        loop.step()
        torch.autograd.backward = before
    assert torch.autograd.backward is before


def test_error_in_the_forward_pass_does_not_confuse_the_next_step():
    loop = Loop()
    finder = PhaseFinder(loop.model, [loop.optimizer])
    finder.begin(Log())
    with pytest.raises(RuntimeError):
        loop.model(torch.randn(2, 3))
    finder.end()
    log = Log()
    finder.begin(log)
    loop.step()
    finder.stop()
    assert log.names == ["data", "forward", "loss", "backward", "clip", "optimizer", "data"]


def test_inputs_of_a_forward_pass_are_shown_to_who_asks():
    loop = Loop()
    seen = []
    finder = PhaseFinder(loop.model, [loop.optimizer])
    finder.on_forward = lambda args, kwargs: seen.append((args[0].shape, kwargs))
    finder.begin(Log())
    loop.step(batches=2)
    with finder.by_hand("forward", torch.zeros(3, 4)):
        pass
    finder.stop()
    assert seen == [((2, 4), {}), ((2, 4), {}), ((3, 4), {})]
