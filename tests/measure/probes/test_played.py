"""Do calls of a step find what the calls before them made, and is what nobody uses any more given back?"""

import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from hwprof.measure.probes import played as probe
from hwprof.measure.probes.device import bench_for, probe_device
from hwprof.measure.probes.played import played
from hwprof.specs.record.captured import AtenCall, TensorView
from hwprof.specs.record.saved_calls import call_name

BENCH = bench_for(torch.device("cpu"), quick=True)


def _view(*shape, dtype="float32"):
    return TensorView(shape, dtype, getattr(torch, dtype).itemsize, torch.Size(shape).numel(), 0)


MM = AtenCall("aten::mm", {"self": _view(4, 8), "mat2": _view(8, 2)}, (_view(4, 2),))
RELU = AtenCall("aten::relu", {"self": _view(4, 2)}, (_view(4, 2),))
ADD_ = AtenCall("aten::add_", {"self": _view(4, 2), "other": _view(4, 2), "alpha": 1}, (_view(4, 2),), ("self",))
STEP = (
    (MM, ((0, 3, (8, 1)), (1, 0, (1, 8)), (2, 0, (2, 1)))),
    (RELU, ((2, 0, (2, 1)), (3, 0, (2, 1)))),
    (ADD_, ((3, 0, (2, 1)), (4, 0, (2, 1)), (3, 0, (2, 1)))),
)
"""relu of a product of storages 0, from its element 3 on, and 1, by columns; a gradient, 4, is added to it."""


class Spy(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.calls, self.results = [], []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if func in {torch.ops.aten.mm.default, torch.ops.aten.relu.default, torch.ops.aten.add_.Tensor}:
            tensors = [each for each in (*args, out) if isinstance(each, torch.Tensor)]
            lies = [(each.data_ptr(), each.storage_offset(), each.stride()) for each in tensors]
            self.calls.append((func.overloadpacket.__name__, lies))
            self.results.append(weakref.ref(out.untyped_storage()))
        return out


@pytest.fixture(scope="module")
def seen():
    with Spy() as spy:
        found = played(BENCH, [STEP])
    return found, spy


def test_a_call_uses_what_the_one_before_it_made(seen):
    (_, product), (_, relu), (_, added) = seen[1].calls[:3]
    assert product[2][0] == relu[0][0]
    assert relu[1][0] == added[0][0]
    assert added[0] == added[2]


def test_tensors_lie_in_their_storage_as_they_did(seen):
    lies = seen[1].calls[0][1]
    assert [place[1:] for place in lies] == [(3, (8, 1)), (0, (1, 8)), (0, (2, 1))]


def test_what_a_step_was_given_stays_and_what_it_made_goes(seen):
    products = [lies for name, lies in seen[1].calls if name == "mm"]
    assert len({lies[0][0] for lies in products}) == len({lies[1][0] for lies in products}) == 1
    assert len(products) >= 1 + probe.LEAST_PLAYS
    assert not any(result() for result in seen[1].results)


def test_each_kind_of_call_has_a_time_in_its_place(seen):
    assert seen[0].keys() == {call_name(call) for call, _ in STEP}
    assert all(each.value > 0 for each in seen[0].values())


def test_indices_lie_within_what_they_choose_from_and_blank_memory_is_zero():
    pick = AtenCall(
        "aten::embedding",
        {"weight": _view(3, 16), "indices": _view(5, dtype="int64"), "padding_idx": -1, "scale_grad_by_freq": False,
         "sparse": False},
        (_view(5, 16),),
    )  # fmt: skip
    where = {"dtype": "torch.int64", "layout": "torch.strided", "device": "cpu", "pin_memory": False}
    blank = AtenCall("aten::empty", {"size": (5,), "memory_format": None, **where}, (_view(5, dtype="int64"),))
    step = (
        (pick, ((0, 0, (16, 1)), (1, 0, (1,)), (2, 0, (16, 1)))),
        (blank, ((3, 0, (1,)),)),
        (pick, ((0, 0, (16, 1)), (3, 0, (1,)), (4, 0, (16, 1)))),
    )
    assert played(BENCH, [step]).keys() == {call_name(pick), call_name(blank)}


def test_what_can_t_be_made_in_its_place_is_timed_alone(monkeypatch):
    """A product of a result that was recorded wrong: the step goes on without it."""
    odd = AtenCall("aten::mm", {"self": _view(4, 2), "mat2": _view(3, 5)}, (_view(4, 5),))
    step = (*STEP, (odd, ((3, 0, (2, 1)), (5, 0, (5, 1)), (6, 0, (5, 1)))))
    assert played(BENCH, [step]).keys() == {call_name(call) for call, _ in STEP}
    monkeypatch.setattr(probe, "available_memory_bytes", lambda _device: (100.0, "told"))
    assert played(BENCH, [STEP]) == {}


def test_the_probe_of_a_processor_plays_its_steps(monkeypatch):
    monkeypatch.setattr("hwprof.measure.probes.device._first_probes", lambda *_: ())
    monkeypatch.setattr("hwprof.measure.probes.device._last_probes", lambda *_, **__: ())
    found = []
    alone = AtenCall("aten::neg", {"self": _view(4)}, (_view(4),))
    calls = (*(call for call, _ in STEP), alone)
    probe_device(torch.device("cpu"), dtypes=(), calls=calls, steps=[STEP], quick=True, on_result=found.append)
    played_in = {each.name: each.conditions.get("played") for each in found[-1].ceilings}
    assert played_in == {call_name(call): "in place" for call, _ in STEP} | {call_name(alone): "alone"}
