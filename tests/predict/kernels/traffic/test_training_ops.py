"""Training's kernels without products: bytes for each element, fused and not, and what was not measured."""

from __future__ import annotations

from math import isnan

import numpy as np
import pytest

from hwprof.errors import InputError
from hwprof.predict.kernels.traffic.training_ops import TrainingOp, traffic_of, training_op_s
from hwprof.specs.catalogue.kernel_points import KernelTable, kernel_table
from hwprof.specs.catalogue.lookup import load_device

TABLE = kernel_table("training_ops")


def op(name, provider, direction="forward", dtype="bf16"):
    return TrainingOp(op=name, provider=provider, direction=direction, dtype=dtype)


@pytest.mark.parametrize(
    ("asked", "least_bytes"),
    [
        (op("rms_norm", "liger"), 4),  # 2 read, 2 written
        (op("swiglu", "liger"), 6),  # gate and up read, the product written
        (op("relu_squared", "liger"), 4),
        (op("relu_squared", "torch"), 8),  # two kernels
        (op("layer_norm", "liger", dtype="fp32"), 8),
        (op("rope", "liger"), 4),
        (op("cross_entropy", "liger", "full"), 8),  # logits read twice, gradients written and scaled
    ],
)
def test_fused_kernels_move_little_more_than_they_must(asked, least_bytes):
    assert least_bytes <= traffic_of(asked, TABLE).moved_bytes < 3.5 * least_bytes


def test_eager_norms_move_ten_times_what_fused_ones_do():
    """Hugging Face's norm in five kernels with 32-bit numbers between: Liger's paper draws 7 times its speed."""
    eager, fused = (traffic_of(op("rms_norm", name), TABLE).moved_bytes for name in ("huggingface", "liger"))
    assert 7 < eager / fused < 14


def test_backward_is_both_passes_without_the_forward_one():
    both, forward, backward = (
        traffic_of(op("swiglu", "torch", one), TABLE).moved_bytes for one in ("full", "forward", "backward")
    )
    assert backward == pytest.approx(both - forward)


def test_peaks_of_memory_are_whole_tensors():
    """Liger's gated activation keeps six tensors of 2 bytes, in place four; eager PyTorch seven."""
    found = [traffic_of(op("swiglu", name, "full"), TABLE).peak_bytes for name in ("liger", "liger_in_place", "torch")]
    assert found == pytest.approx([12, 8, 14], rel=0.01)
    assert isnan(traffic_of(op("embedding", "liger", "full", "fp32"), TABLE).peak_bytes)


def test_another_device_needs_the_same_bytes():
    """Layer norms measured on H100, predicted from A100's alone."""
    known = TABLE.of("h100-sxm5-80gb")
    mine = known.where((known.words["op"] == "layer_norm") & (known.words["direction"] == "forward"))
    mine = mine.where(mine.words["provider"] == "huggingface")
    table = KernelTable.holding("training_ops", {"a100-sxm4-80gb": TABLE.of("a100-sxm4-80gb")})
    elements = mine.numbers["rows"] * mine.numbers["width"]
    large = np.isfinite(mine.seconds) & (elements > 3e7)
    asked = op("layer_norm", "huggingface", dtype="fp32")
    found = training_op_s(elements[large], load_device("h100"), asked, table=table)
    assert found.basis.word == "sibling"
    assert found.seconds == pytest.approx(mine.seconds[large], rel=0.15)


def test_another_format_is_wider():
    same, other = (traffic_of(op("layer_norm", "liger", dtype=one), TABLE) for one in ("fp32", "bf16"))
    assert other.half_width > same.half_width


def test_what_nobody_measured_is_named():
    with pytest.raises(InputError, match="measured: huggingface cross_entropy"):
        traffic_of(op("rms_norm", "nobody"), TABLE)
