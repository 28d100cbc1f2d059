"""Is the late one of two ranks named in a loop of their own, with its cause, and is nothing left behind?"""

from __future__ import annotations

import pytest

STEPS, LATE_S = 10, 0.25
TENSOR_RANKS = "forward on tensor ranks"


def parts(fault, late):
    """A model that may sleep in its passes, and batches that may come late."""
    import time

    import torch
    from torch import nn

    class Slow(torch.autograd.Function):
        @staticmethod
        def forward(_ctx, x):
            if late and fault in {"forward", TENSOR_RANKS}:
                time.sleep(LATE_S)
            return x.view_as(x)

        @staticmethod
        def backward(_ctx, gradient):
            if late and fault == "backward":
                time.sleep(LATE_S)
            return gradient

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.up, self.down = nn.Linear(16, 16), nn.Linear(16, 16)

        def forward(self, x):
            return self.down(Slow.apply(self.up(x)))

    class Late:
        def __len__(self):
            return 4 * STEPS

        def __getitem__(self, place):
            if late and fault == "loader" and place % 4 == 0:
                time.sleep(LATE_S)
            return torch.ones(16)

    torch.manual_seed(0)
    model = shared_out(Model(), fault)
    loader = torch.utils.data.DataLoader(Late(), batch_size=4)
    return model, loader if fault == "loader" else (torch.ones(4, 16),) * STEPS


def shared_out(model, fault):
    """The model as its ranks have it."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
    from torch.nn.parallel import DistributedDataParallel

    if fault == TENSOR_RANKS:
        plan = {"up": ColwiseParallel(), "down": RowwiseParallel()}
        return parallelize_module(model, init_device_mesh("cpu", (2,)), plan)
    return model if fault == "by hand" else DistributedDataParallel(model)


def disturb(fault):
    """What a loop may do before its forward pass: sleep, collect garbage that is slow to die, save what is slow to."""
    import gc
    import io
    import time

    import torch

    class Slow:
        def __del__(self):
            time.sleep(LATE_S * (fault == "gc"))

        def __reduce__(self):
            time.sleep(LATE_S)
            return int, ()

    if fault == "data":
        time.sleep(LATE_S)
    if fault == "gc":
        one = Slow()
        one.itself = one
        del one
        gc.collect()
    if fault == "save":
        torch.save(Slow(), io.BytesIO())


def train(_world, fault, bad):
    """A loop with DistributedDataParallel, or with collectives by hand; one rank is late in every step."""
    import gc
    import time
    import warnings

    import torch
    import torch.distributed as dist

    from hwprof.loop.together import Together

    late = dist.get_rank() == bad
    model, batches = parts(fault, late)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = dist.Work.wait, len(gc.callbacks), torch.save, torch.autograd.backward
    together = Together(model, (optimizer,), torch.device("cpu"))
    together.start()
    gc.disable()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for x in batches:
            if late:
                disturb(fault)
            model(x).sum().backward()
            if fault == "by hand":
                time.sleep(LATE_S * late)
                for weight in model.parameters():
                    dist.all_reduce(weight.grad)
            optimizer.step()
            optimizer.zero_grad()
            together.step(counts=True)
    gc.enable()
    found = together.stop()
    assert (dist.Work.wait, len(gc.callbacks), torch.save, torch.autograd.backward) == before
    total = torch.ones(2)
    dist.all_reduce(total)
    assert total.tolist() == [2.0, 2.0]
    return found and found.model_dump_json(), together.notes


@pytest.mark.parametrize(
    ("fault", "cause", "where"),
    [
        ("forward", "host", "forward"),
        ("backward", "host", "backward"),
        ("data", "input", "data"),
        ("loader", "input", "loading"),
        ("gc", "garbage collection", "garbage collection"),
        ("save", "checkpoint", "checkpoint"),
        ("by hand", "host", "clip"),
        (TENSOR_RANKS, "host", "forward"),
    ],
)
def test_the_late_rank_of_a_loop_is_named_with_its_cause(ranks, fault, cause, where):
    from hwprof.specs.record.stragglers import Stragglers

    bad = len(fault) % 2
    (text, notes), (nothing, _) = ranks(2).run(train, fault, bad)
    assert (notes, nothing) == ([], None)
    found = Stragglers.model_validate_json(text)
    assert found.named is not None
    assert (found.named.rank, found.named.cause, found.where) == (bad, cause, where)
    assert found.steps == STEPS
    assert found.step_s - found.step_without_s > LATE_S / 2


def collectives_beside_others(_world):
    """Collectives of DTensor's kind under a mode that sees every operator, then one by hand; a thread runs Python."""
    import threading

    import torch
    import torch.distributed as dist
    from torch.distributed import _functional_collectives as functional
    from torch.utils.flop_counter import FlopCounterMode

    from hwprof.measure.entries.arrivals import watch
    from hwprof.measure.watch.hooks import Hooks

    seen, notes, counted = [], [], [0]
    hooks = Hooks(notes)
    assert watch(hooks, arrive=seen.append, wait=lambda: seen.append("wait"), go_on=lambda: seen.append("on")) == ""
    ended = threading.Event()

    def count():
        while not ended.wait(0.001):
            counted[0] += 1

    thread = threading.Thread(target=count)
    thread.start()
    if dist.get_rank():
        ended.wait(1.0)  # the other rank waits in its collective meanwhile, and its thread goes on
    by = torch.ones(2, requires_grad=True)
    with FlopCounterMode(display=False):
        total = functional.all_reduce(by, "sum", dist.group.WORLD) + 1
    plain = torch.ones(2)
    dist.all_reduce(plain)
    ended.set()
    thread.join()
    hooks.close()
    dist.all_reduce(torch.ones(1))
    return seen, notes, total.tolist(), plain.tolist(), counted[0] > 50


def test_collectives_are_seen_by_whatever_issues_them_and_stop_no_other_thread(ranks):
    calls = ["allreduce_", "wait", "on"] * 2
    assert ranks(2).run(collectives_beside_others) == [(calls, [], [3.0, 3.0], [2.0, 2.0], True)] * 2


def test_a_loop_of_one_rank_is_not_watched():
    import torch

    from hwprof.loop.together import Together

    together = Together(torch.nn.Linear(2, 2), (), torch.device("cpu"))
    together.start()
    together.step(counts=True)
    assert (together.stop(), together.notes) == (None, [])
