"""Claims about the probes of a step's kernels: name, rate, what backward is, and that wrong results are errors."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (the name that torch's own documentation uses)
from made_up_bench import made_up_bench
from scripted_timer import ScriptedTimer
from torch import nn

from hwprof.errors import WorkError
from hwprof.measure.probes.step import rowwise, weights
from hwprof.measure.probes.step.kernels import kernel_ceiling
from hwprof.measure.timing import WallTimer
from hwprof.specs.job.step_kernels import StepKernel

CPU = torch.device("cpu")
SHAPES = ((8, 6), (2, 2))

ROWWISE = (
    ("activation", "silu_gated", (6, 8)),
    ("activation", "gelu_tanh", (6, 8)),
    ("activation", "gelu", (6, 8)),
    ("activation", "relu", (6, 8)),
    ("dropout", "mask", (64, 64)),
    ("residual", "add", (6, 8)),
    ("rope", "halves", (2, 5, 4, 2, 6)),
    ("loss", "cross_entropy", (130, 11)),
    ("embedding", "tokens", (2, 5, 4, 9)),
    ("embedding", "tokens_tied", (2, 5, 4, 9)),
    ("embedding", "tokens_positions_tied", (2, 5, 4, 9, 7)),
    ("norm", "layernorm", (6, 8)),
)


def ceiling(kernel, moved_bytes=1000.0, script=None):
    timer = ScriptedTimer(itertools.repeat(0.5) if script is None else script)
    return kernel_ceiling(made_up_bench(timer), kernel, moved_bytes=moved_bytes, deadline_s=100.0)


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize(("kind", "variant", "sizes"), ROWWISE)
def test_a_kernel_is_named_by_its_sizes_and_says_how_long_a_call_takes(kind, variant, sizes, direction, dtype):
    of = StepKernel(kind, variant, "fp32" if kind in {"embedding", "norm"} else dtype, sizes, direction)
    found = ceiling(of)
    assert (found.name, found.kind, found.unit) == (str(of), "kernel", "byte_per_s")
    assert found.conditions["call_s"] == 0.5
    assert found.conditions["counted_bytes"] == 1000.0
    assert found.conditions["operators"] >= 1


def test_the_rate_is_of_the_bytes_that_were_counted():
    assert ceiling(StepKernel("residual", "add", "fp32", (6, 8), "forward"), moved_bytes=3e9).value == 6e9


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd", "adafactor"])
@pytest.mark.parametrize("implementation", ["for-loop", "foreach"])
def test_every_optimizer_takes_a_step_that_is_right(name, implementation):
    of = StepKernel("optimizer", f"{name}_{implementation}", "fp32", (2, 52), "update", SHAPES)
    assert ceiling(of).name == f"optimizer.{name}_{implementation}.fp32.2x52.update"


def test_a_for_loop_dispatches_more_operators_than_a_list_of_tensors():
    operators = [
        ceiling(StepKernel("optimizer", f"adamw_{one}", "fp32", (2, 52), "update", SHAPES)).conditions["operators"]
        for one in ("for-loop", "foreach")
    ]
    assert operators[0] > operators[1]


def test_clipping_leaves_a_norm_of_one():
    work = weights.clip(CPU, StepKernel("clip", "norm", "fp32", (1, 48000), "update", ((8000, 6),)))
    assert float(work()) == pytest.approx(1.0, rel=1e-3)  # what is left of 0.01 x sqrt(48000) = 2.2


def test_backward_of_a_gated_activation_gives_both_gradients():
    work = rowwise.activation(CPU, StepKernel("activation", "silu_gated", "fp32", (6, 8), "backward"))
    assert [one.shape for one in work()] == [(6, 8), (6, 8)]


def test_the_gradient_of_a_tied_table_is_added_to_that_of_the_head_in_a_new_tensor():
    tied, plain = (
        ceiling(StepKernel("embedding", name, "fp32", (2, 5, 4, 9), "backward")).conditions["operators"]
        for name in ("tokens_tied", "tokens")
    )
    assert tied == plain + 1


def test_gradients_of_the_stream_add_up_in_place():
    work = rowwise.residual(CPU, StepKernel("residual", "add", "fp32", (6, 8), "backward"))
    assert work().data_ptr() == work().data_ptr()


def kernel(kind, variant, *sizes):
    tensors = SHAPES if kind in {"clip", "optimizer"} else ()
    return StepKernel(kind, variant, "fp32", sizes, "update" if tensors else "forward", tensors)


WRONG = {
    "activation": (rowwise, "PlainActivation", lambda _name: F.relu, kernel("activation", "silu", 6, 8)),
    "rope": (rowwise.Rope, "forward", lambda _self, q, k: (q * 1.0, k * 1.0), kernel("rope", "halves", 1, 5, 2, 2, 4)),
    "loss": (rowwise, "mean_loss", lambda *of: F.cross_entropy(*of) * 1.01, kernel("loss", "cross_entropy", 9, 7)),
    "dropout": (F, "dropout", lambda x, *_how, **_options: x * 1.0, kernel("dropout", "mask", 64, 64)),
    "clip": (nn.utils, "clip_grad_norm_", lambda *_of: torch.tensor(3.0), kernel("clip", "norm", 2, 52)),
    "optimizer": (torch.optim.AdamW, "step", lambda _self: None, kernel("optimizer", "adamw_for-loop", 2, 52)),
    "embedding": (F, "embedding", lambda ids, table: table[ids.flip(1)], kernel("embedding", "tokens", 1, 5, 4, 9)),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_result_is_an_error(monkeypatch, kind):
    place, name, wrong, of = WRONG[kind]
    monkeypatch.setattr(place, name, wrong)
    with pytest.raises(WorkError, match=f"{kind}.* (is wrong by|drops)"):
        ceiling(of)


def test_a_wrong_gradient_is_an_error(monkeypatch):
    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):  # noqa: ARG004
            return x.clamp(min=0)

        @staticmethod
        def backward(ctx, gradient):  # noqa: ARG004
            return gradient

    monkeypatch.setattr(rowwise, "PlainActivation", lambda _name: Wrong.apply)
    with pytest.raises(WorkError, match="is wrong by"):
        ceiling(StepKernel("activation", "relu", "fp32", (6, 8), "forward"))


def test_a_real_kernel_moves_between_a_megabyte_and_a_hundred_terabytes_a_second():
    bench = made_up_bench(WallTimer(), probe_s=0.1)
    found = kernel_ceiling(
        bench, kernel("activation", "gelu_tanh", 64, 64), moved_bytes=3 * 4 * 64 * 64, deadline_s=0.1
    )
    assert 1e6 < found.value < 1e14
    assert math.isclose(found.conditions["call_s"] * found.value, 3 * 4 * 64 * 64)
