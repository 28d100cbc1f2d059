"""Is the late one of two ranks named in a loop of their own, with its cause, and is nothing left behind?"""

from __future__ import annotations

import pytest

STEPS, LATE_S = 10, 0.25


def train(_world, fault, bad):  # noqa: C901 (one program, with every fault that it may have)
    """A loop with DistributedDataParallel, or with collectives by hand; one rank is late in every step."""
    import gc
    import io
    import time
    import warnings

    import torch
    import torch.distributed as dist
    from torch import nn

    from hwprof.loop.together import Together

    rank, late = dist.get_rank(), dist.get_rank() == bad

    class Slow(torch.autograd.Function):
        @staticmethod
        def forward(_ctx, x):
            if late and fault == "forward":
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

    class SlowToSave:
        def __reduce__(self):
            time.sleep(LATE_S)
            return int, ()

    class SlowToDie:
        def __del__(self):
            time.sleep(LATE_S)

    def die():
        one = SlowToDie()
        one.itself = one

    torch.manual_seed(0)
    model = Model() if fault == "by hand" else nn.parallel.DistributedDataParallel(Model())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    waits, hooks, writers = dist.Work.wait, len(gc.callbacks), (torch.save, torch.autograd.backward)
    together = Together(model, (optimizer,), torch.device("cpu"))
    together.start()
    gc.disable()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for x in (
            torch.utils.data.DataLoader(Late(), batch_size=4) if fault == "loader" else (torch.ones(4, 16),) * STEPS
        ):
            if late and fault == "data":
                time.sleep(LATE_S)
            if late and fault == "gc":
                die()
                gc.collect()
            if late and fault == "save":
                torch.save(SlowToSave(), io.BytesIO())
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
    left = (dist.Work.wait is waits, len(gc.callbacks) == hooks, (torch.save, torch.autograd.backward) == writers)
    assert all(left), left
    total = torch.ones(2)
    dist.all_reduce(total)
    assert total.tolist() == [2.0, 2.0]
    return found and found.model_dump_json(), together.notes, rank


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
    ],
)
def test_the_late_rank_of_a_loop_is_named_with_its_cause(ranks, fault, cause, where):
    from hwprof.specs.record.stragglers import Stragglers

    bad = len(fault) % 2
    (text, notes, _), (nothing, _, _) = ranks(2).run(train, fault, bad)
    assert (notes, nothing) == ([], None)
    found = Stragglers.model_validate_json(text)
    assert found.named is not None
    assert (found.named.rank, found.named.cause, found.where) == (bad, cause, where)
    assert found.steps == STEPS
    assert found.step_s - found.step_without_s > LATE_S / 2


def test_a_loop_of_one_rank_is_not_watched():
    import torch

    from hwprof.loop.together import Together

    together = Together(torch.nn.Linear(2, 2), (), torch.device("cpu"))
    together.start()
    together.step(counts=True)
    assert (together.stop(), together.notes) == (None, [])
