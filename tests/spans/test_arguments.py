"""How many bytes do recorded arguments have? Sizes by hand."""

import pytest

from hwprof.spans.arguments import Recorded, collective_bytes, element_of, recorded, tensor_bytes
from hwprof.spans.columns import Collective, Shapes


@pytest.mark.parametrize(
    ("kind", "element"),
    [
        ("float", ("float32", 4)),
        ("Float", ("float32", 4)),
        ("c10::BFloat16", ("bfloat16", 2)),
        ("BFloat16", ("bfloat16", 2)),
        ("c10::Half", ("float16", 2)),
        ("Half", ("float16", 2)),
        ("c10::Float8_e4m3fn", ("float8_e4m3fn", 1)),
        ("double", ("float64", 8)),
        ("long int", ("int64", 8)),
        ("Long", ("int64", 8)),
        ("unsigned char", ("uint8", 1)),
        ("Byte", ("uint8", 1)),
        ("c10::complex<float>", ("complex64", 8)),
        ("Scalar", None),
        ("", None),
    ],
)
def test_element_types_are_known_as_operators_and_as_collectives_name_them(kind, element):
    assert element_of(kind) == element


def test_tensors_have_bytes_and_other_arguments_have_none():
    call = Recorded(dims=[[2, 3], [], [[4], [5, 2]]], types=["c10::BFloat16", "Scalar", "TensorList"])
    assert tensor_bytes(call) == (12.0, 56.0)


@pytest.mark.parametrize(("dtype", "sizes"), [("BFloat16", (2000.0, 16000.0)), ("Bits8", (0.0, 0.0))])
def test_collective_says_how_much_goes_in_and_comes_out(dtype, sizes):
    said = Collective(
        name="_allgather_base", group="0", description="mesh_data", group_size=8, dtype=dtype, elements=1000,
        out_elements=8000,
    )  # fmt: skip
    assert collective_bytes(said) == sizes


@pytest.mark.parametrize("dims", [b"[[1", b"3"])
def test_damaged_arguments_are_none(dims):
    assert recorded(Shapes(dims=dims, types=b"", strides=b"", concrete=b"")) is None
