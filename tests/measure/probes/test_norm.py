"""Does the norm probe count the bytes that a norm has to move, and notice a wrong one?"""

import itertools

import pytest
import torch
from made_up_bench import made_up_bench
from scripted_timer import ScriptedTimer
from torch.nn.functional import layer_norm, rms_norm

from hwprof.errors import WorkError
from hwprof.measure.probes.norm import NormShape, check_norm, norm_ceiling
from hwprof.measure.timing import WallTimer
from hwprof.predict.ceilings.roofs import roofs_of
from hwprof.specs.job.step_kernels import StepKernel

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("kind", "direction", "moved"),
    [
        # 3 x 5 elements of 4 B: two or three tensors of 60 B, and rows of 20 B: weights, biases, their gradients
        ("rmsnorm", "forward", 120 + 20),
        ("layernorm", "forward", 120 + 40),
        ("rmsnorm", "backward", 180 + 40),
        ("layernorm", "backward", 180 + 60),
    ],
)
def test_bytes_are_those_of_each_tensor_once(kind, direction, moved):
    shape = NormShape(kind=kind, tokens=3, width=5)
    assert shape.moved_bytes(direction) == moved
    found = norm_ceiling(made_up_bench(ScriptedTimer(itertools.repeat(0.5))), shape, direction, deadline_s=100.0)
    assert found.value == 2 * moved
    assert (found.name, found.unit) == (f"norm.{kind}.fp32.3x5.{direction}", "byte_per_s")


def test_a_norm_is_no_roof_over_other_operations():
    shape = NormShape(kind="rmsnorm", tokens=3, width=5)
    found = norm_ceiling(made_up_bench(ScriptedTimer(itertools.repeat(0.5))), shape, "forward", deadline_s=100.0)
    assert not roofs_of([found], "fp32", device="cpu").known


def test_the_norm_is_that_of_the_step():
    kernel = StepKernel("norm", "layernorm", "fp32", (7, 768), "forward")
    assert NormShape.of(kernel) == NormShape(kind="layernorm", tokens=7, width=768)
    assert NormShape.of(kernel._replace(variant="rmsnorm")) == NormShape(kind="rmsnorm", tokens=7, width=768)


@pytest.mark.parametrize("kind", ["layernorm", "rmsnorm"])
def test_a_wrong_norm_is_an_error(kind):
    x = torch.randn(8, 64, generator=torch.Generator().manual_seed(0)) + 0.5
    right = layer_norm(x, (64,)) if kind == "layernorm" else rms_norm(x, (64,), eps=1e-5)
    check_norm(right, x, kind)
    for wrong in (right * 1.01, right.roll(1, 0), layer_norm(x, (64,)) if kind == "rmsnorm" else x):
        with pytest.raises(WorkError, match=f"a {kind} is wrong"):
            check_norm(wrong, x, kind)


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_a_real_norm_moves_between_a_megabyte_and_a_hundred_terabytes_a_second(direction):
    shape = NormShape(kind="layernorm", tokens=256, width=256)
    assert 1e6 < norm_ceiling(made_up_bench(WallTimer(), probe_s=0.1), shape, direction, deadline_s=0.1).value < 1e14
