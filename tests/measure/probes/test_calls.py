"""Can a call that was recorded be made again? Each operator on tensors of its own gives what the recording says."""

import torch

from hwprof.measure.probes.calls import call_ceiling, operator_of, tensor_like
from hwprof.measure.probes.device import bench_for
from hwprof.specs.record.captured import AtenCall, TensorView
from hwprof.specs.record.saved_calls import call_json, call_name, call_of_json


def _view(*shape, dtype="float32", elements=None):
    count = torch.Size(shape).numel()
    return TensorView(shape, dtype, getattr(torch, dtype).itemsize, count if elements is None else elements, id(shape))


MM = AtenCall("aten::mm", {"self": _view(4, 8), "mat2": _view(8, 2)}, (_view(4, 2),))
ADD = AtenCall("aten::add", {"self": _view(4, 8), "other": _view(8), "alpha": 1}, (_view(4, 8),))
PLUS = AtenCall("aten::add", {"self": _view(4, 8), "other": 2.0, "alpha": 1}, (_view(4, 8),))


def test_the_overload_is_the_one_of_the_arguments():
    assert operator_of(MM) is torch.ops.aten.mm.default
    assert operator_of(ADD) is torch.ops.aten.add.Tensor
    assert operator_of(PLUS) is torch.ops.aten.add.Scalar


def test_a_call_is_timed_under_its_own_name():
    found = call_ceiling(bench_for(torch.device("cpu"), quick=True), MM)
    assert found.name == call_name(MM)
    assert found.unit == "s"
    assert found.value > 0


def test_indices_lie_within_what_they_choose_from():
    table = AtenCall(
        "aten::embedding",
        {"weight": _view(3, 16), "indices": _view(5, dtype="int64"), "padding_idx": -1, "scale_grad_by_freq": False,
         "sparse": False},
        (_view(5, 16),),
    )  # fmt: skip
    assert call_ceiling(bench_for(torch.device("cpu"), quick=True), table).value > 0
    assert tensor_like(_view(1000, dtype="int64"), torch.device("cpu"), 3).unique().tolist() == [0, 1, 2]


def test_what_is_repeated_stays_one_number():
    made = tensor_like(_view(64, 64, elements=1), torch.device("cpu"), 1)
    assert (made.shape, made.untyped_storage().nbytes()) == ((64, 64), 4)


def test_a_call_is_the_same_after_it_was_kept():
    odd = AtenCall(
        "aten::clamp", {"self": _view(4), "min": float("-inf"), "max": (1, 2.5, None, True, "x")}, (_view(4),)
    )
    for call in (MM, ADD, odd):
        kept = call_of_json(call_json(call))
        assert call_json(kept) == call_json(call)
        assert call_name(kept) == call_name(call)
    assert len({call_name(call) for call in (MM, ADD, PLUS, odd)}) == 4


def test_an_operator_that_only_writes_where_it_is_told_gets_a_place():
    cat = AtenCall("fsdp::chunk_cat", {"tensors": (_view(4, 2),), "dim": 0, "num_chunks": 2}, (_view(2, 4),))
    split = AtenCall(
        "fsdp::split_with_sizes_copy",
        {"all_gather_output": _view(2, 3), "all_gather_input_split_sizes": (1, 2), "dim": 1},
        (_view(2, 1), _view(2, 2)),
    )
    for call in (cat, split):
        assert call_ceiling(bench_for(torch.device("cpu"), quick=True), call).name == call_name(call)
