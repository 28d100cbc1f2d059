"""Recorded calls priced by hand."""

import pytest

from hwprof.count.ops.cost import Cost
from hwprof.predict.captured_work import captured_work, matmul_dtype, recomputes, unpriced_operators
from hwprof.specs.record.captured import AtenCall, Place, PlacedCall, TensorView


def _view(*shape, storage, dtype="float32", width=4):
    elements = 1
    for size in shape:
        elements *= size
    return TensorView(shape=shape, dtype=dtype, element_bytes=width, elements=elements, storage=storage)


def _mm(path, direction="forward", rows=2, dtype="float32"):
    call = AtenCall(
        name="aten::mm",
        arguments={"self": _view(rows, 3, storage=1, dtype=dtype), "mat2": _view(3, 4, storage=2, dtype=dtype)},
        results=(_view(rows, 4, storage=3, dtype=dtype),),
    )
    return PlacedCall(Place(path, "aten::mm"), direction, call)


def _named(name, path="model"):
    call = AtenCall(name=name, arguments={"x": _view(5, storage=1)}, results=(_view(5, storage=2),))
    return PlacedCall(Place(path, name), "forward", call)


def test_layers_are_one_entry_whose_instance_is_the_average_call():
    (work,) = captured_work([_mm("layers.0.up", rows=2), _mm("layers.1.up", rows=4)])
    assert (work.label, work.instances, work.phase) == ("layers.*.up", 2, "forward")
    assert work.total == Cost(
        matmul_flop=2 * 2 * 3 * 4 + 2 * 4 * 3 * 4,
        read_bytes=4 * (2 * 3 + 3 * 4 + 4 * 3 + 3 * 4),
        write_bytes=4 * (2 * 4 + 4 * 4),
    )
    assert work.working_set_bytes == work.total.moved_bytes / 2


def test_directions_are_apart():
    work = captured_work([_mm("up"), _mm("up", "backward"), _mm("up", "recompute"), _mm("optimizer", "update")])
    assert [(item.direction, item.phase) for item in work] == [
        ("forward", "forward"),
        ("backward", "backward"),
        ("recompute", "backward"),
        ("update", "optimizer"),
    ]
    assert recomputes([_mm("up", "recompute")])
    assert not recomputes([_mm("up", "backward")])


def test_collectives_are_neither_work_nor_unknown():
    assert captured_work([_named("c10d::allreduce_"), _named("_c10d_functional::wait_tensor")]) == ()
    assert unpriced_operators([_named("c10d::allreduce_"), _named("fsdp::chunk_cat")]) == ()
    assert unpriced_operators([_named("mylib::attention")]) == ("mylib::attention",)


@pytest.mark.parametrize(
    ("dtypes", "expected"),
    [(("float32",), "fp32"), (("bfloat16", "float32", "bfloat16"), "bf16"), (("float64",), "fp64"), ((), "unknown")],
)
def test_dtype_is_that_of_most_flop(dtypes, expected):
    assert matmul_dtype([_mm("up", dtype=dtype) for dtype in dtypes]) == expected


def test_dtype_without_a_ceiling_is_unknown():
    assert matmul_dtype([_mm("up", dtype="float8_e4m3fn")]) == "unknown"
