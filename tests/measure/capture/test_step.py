"""Claims about recording one real step: it sees what torch counts, and changes nothing."""

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from hwprof.measure.capture.step import StepCapture
from hwprof.measure.their_loop.model import see
from hwprof.measure.their_loop.phase_finder import PhaseFinder
from hwprof.predict.captured_work import captured_work, matmul_dtype, recomputes
from hwprof.specs.job.labels import PHASE_LABELS


class Block(nn.Module):
    def __init__(self, *, again):
        super().__init__()
        self.up, self.down, self.again = nn.Linear(16, 32), nn.Linear(32, 16), again

    def mixed(self, value):
        return self.down(torch.relu(self.up(value)))

    def forward(self, value):
        return value + (checkpoint(self.mixed, value, use_reentrant=False) if self.again else self.mixed(value))


class Loop:
    """Two blocks, mean-square loss, clipping, AdamW."""

    def __init__(self, *, again=False):
        torch.manual_seed(0)
        self.model = nn.Sequential(Block(again=again), Block(again=again))
        self.optimizer = torch.optim.AdamW(self.model.parameters())
        self.called = self.model

    def step(self, *, batches=1):
        losses = []
        for _ in range(batches):
            value = torch.randn(4, 16) @ torch.randn(16, 16)
            loss = self.called(value).square().mean()
            loss.backward()
            losses.append(loss.detach())
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return losses


def _captured(loop, *, batches=1):
    capture, finder = StepCapture(see(loop.called)), PhaseFinder(loop.called, [loop.optimizer])
    with capture.open():
        finder.begin(capture)
        losses = loop.step(batches=batches)
        finder.stop()
    return capture.captured(), losses


def _flop(work, *directions):
    return sum(item.total.matmul_flop for item in work if item.direction in directions)


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("batches", [1, 2])
def test_matmul_flop_are_those_that_torch_counts(again, batches):
    step, _ = _captured(Loop(again=again), batches=batches)
    with FlopCounterMode(display=False) as counter:
        Loop(again=again).step(batches=batches)
    work = captured_work(step.calls)
    data_flop = 2 * 4 * 16 * 16 * batches
    assert _flop(work, "forward", "backward", "recompute") == counter.get_total_flops() - data_flop
    assert _flop(captured_work(step.beside), "forward", "update") == data_flop
    assert recomputes(step.calls) is again
    assert step.backward_passes == batches


def test_work_is_booked_to_modules_loss_clip_and_optimizer():
    step, _ = _captured(Loop())
    booked = {(work.label, work.direction, work.phase) for work in captured_work(step.calls)}
    assert ("0.up", "forward", "forward") in booked
    assert ("1.down", "backward", "backward") in booked
    assert ("loss", "forward", "loss") in booked
    assert ("loss", "backward", "backward") in booked
    assert ("clip", "update", "clip") in booked
    assert ("optimizer", "update", "optimizer") in booked
    assert {label for label, _, phase in booked if phase == "optimizer"} == {PHASE_LABELS["optimizer"]}


def test_recorded_step_has_the_results_of_an_unrecorded_one():
    recorded, plain = Loop(again=True), Loop(again=True)
    torch.manual_seed(1)
    _, losses = _captured(recorded, batches=2)
    torch.manual_seed(1)
    expected = plain.step(batches=2)
    assert losses == expected
    for mine, other in zip(recorded.model.parameters(), plain.model.parameters(), strict=True):
        assert torch.equal(mine, other)


def test_compiled_model_is_counted_as_if_it_ran_eagerly_and_goes_on_compiled():
    loop, graphs = Loop(), []

    def backend(graph, _inputs):
        graphs.append(graph)
        return graph.forward

    loop.called = torch.compile(loop.model, backend=backend)
    loop.step()
    compiled = len(graphs)
    step, _ = _captured(loop)
    loop.step()
    assert len(graphs) == compiled > 0
    eager = Loop()
    eager.step()
    assert captured_work(step.calls) == captured_work(_captured(eager)[0].calls)


def test_what_autocast_multiplies_in_is_the_dtype():
    loop = Loop()
    inner = loop.model.forward
    loop.model.forward = torch.autocast("cpu", dtype=torch.bfloat16)(inner)
    step, _ = _captured(loop)
    assert matmul_dtype(step.calls) == "bf16"
    assert matmul_dtype(()) == "unknown"


def test_mistake_in_recording_ends_the_recording_and_not_the_step(monkeypatch):
    def broken(_self, _tensor):
        raise ValueError("no memory")

    monkeypatch.setattr("hwprof.measure.capture.mode.CallRecorder._view", broken)
    loop = Loop()
    before = [parameter.clone() for parameter in loop.model.parameters()]
    step, _ = _captured(loop)
    assert "ValueError: no memory" in step.failure
    assert not any(torch.equal(*pair) for pair in zip(before, loop.model.parameters(), strict=True))


def test_sparse_gradients_are_no_reason_to_stop_training():
    class Sparse(Loop):
        def __init__(self):
            super().__init__()
            self.model = self.called = nn.Embedding(8, 16, sparse=True)
            self.optimizer = torch.optim.SparseAdam(self.model.parameters())

        def step(self, *, batches=1):  # noqa: ARG002
            self.called(torch.tensor([1, 2])).square().mean().backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
            return []

    step, _ = _captured(Sparse())
    assert "sparse" in step.failure.lower()
