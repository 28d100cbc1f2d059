"""Claims about which ceiling stands over an operation."""

import math

import pytest
from made_up_record import made_up_ceiling

from hwprof.predict.ceilings.roofs import best_ceilings, roofs_of

CEILINGS = [
    made_up_ceiling("matmul.fp32", 9e13, origin="datasheet"),
    made_up_ceiling("matmul.fp32", 1e11),
    made_up_ceiling("matmul.fp32", 2e11, origin="calibrated"),
    made_up_ceiling("matmul.fp32.128x64x32", 5e10),
    made_up_ceiling("matmul.bf16.128x64x32", 7e10),
    made_up_ceiling("attention.fp32.8x4x2x256x64.forward", 4e10),
    made_up_ceiling("attention.fp32.8x4x2x256x64.backward", 3e10),
    made_up_ceiling("attention.fp32.8x4x2x512x64.forward", 6e10),
    made_up_ceiling("attention.bf16.8x4x2x256x64.forward", 9e10),
    made_up_ceiling("memory.dram", 2e10),
    made_up_ceiling("memory.l2", 1e11, level_bytes=2e6),
    made_up_ceiling("memory.l3", 5e10, level_bytes=32e6),
    made_up_ceiling("latency.dispatch", 1e-6),
]


def test_measured_ceiling_goes_before_calibrated_and_datasheet():
    assert best_ceilings(CEILINGS)["matmul.fp32"].value == 1e11
    assert best_ceilings(CEILINGS[:1])["matmul.fp32"].origin == "datasheet"


@pytest.mark.parametrize(("unsteady", "kept"), [(1, 2), (2, 3)])
def test_unsteady_shapes_are_left_out_where_at_least_half_are_steady(unsteady, kept):
    shapes = [made_up_ceiling(f"matmul.fp32.{64 + index}x64x64", 1e10, stable=index >= unsteady) for index in range(3)]
    rates = roofs_of([*CEILINGS[:1], *shapes], "fp32", device="cpu").shape_flop_per_s
    assert len(rates) == kept
    assert ((64, 64, 64) in rates) == (unsteady == 2)


def test_shapes_belong_to_their_own_dtype():
    assert roofs_of(CEILINGS, "fp32", device="cpu").shape_flop_per_s == {(128, 64, 32): 5e10}


def test_attention_has_the_rate_of_its_dtype_and_nearest_shape_and_is_computed_again_at_its_forward_rate():
    known = {
        (dtype, length): roofs_of(CEILINGS, dtype, device="cpu", attention=(8, 4, 2, length, 64)).attention_flop_per_s
        for dtype in ("fp32", "bf16")
        for length in (256, 512)
    }
    assert known == {
        ("fp32", 256): {"forward": 4e10, "recompute": 4e10, "backward": 3e10},
        ("fp32", 512): {"forward": 6e10, "recompute": 6e10, "backward": pytest.approx(3e10)},
        ("bf16", 256): {"forward": 9e10, "recompute": 9e10},
        ("bf16", 512): {"forward": pytest.approx(9e10), "recompute": pytest.approx(9e10)},
    }
    assert roofs_of(CEILINGS, "fp32", device="cpu").attention_flop_per_s == {}


def test_attention_is_no_flat_roof():
    roofs = roofs_of(CEILINGS, "fp32", device="cpu", attention=(8, 4, 2, 256, 64))
    assert (roofs.matmul_name, roofs.matmul_flop_per_s) == ("matmul.fp32", 1e11)


def test_cache_that_was_measured_slower_than_what_lies_behind_it_holds_nothing():
    disturbed = [*CEILINGS, made_up_ceiling("memory.l1", 1e8, level_bytes=64e3)]
    assert roofs_of(disturbed, "fp32", device="cpu").memory_for(1e3).name == "memory.l2"


def test_working_set_meets_the_smallest_level_that_holds_it():
    roofs = roofs_of(CEILINGS, "fp32", device="cpu")
    assert [roof.name for roof in roofs.memory] == ["memory.l2", "memory.l3", "memory.dram"]
    assert roofs.memory_for(1e6).name == "memory.l2"
    assert roofs.memory_for(2e6).name == "memory.l2"
    assert roofs.memory_for(2e6 + 1).name == "memory.l3"
    assert roofs.memory_for(math.inf).name == "memory.dram"


def test_unknown_peak_stays_unknown():
    roofs = roofs_of(CEILINGS, "fp16", device="cpu")
    assert roofs.matmul_flop_per_s is None
    assert roofs.host_to_device_byte_per_s is None
