"""What a device holds beside tensors, against what others measured."""

from __future__ import annotations

import numpy as np
import pytest

from hwprof.count.memory.overhead import CONTEXT_BYTES, layout_libraries_bytes, libraries_bytes
from hwprof.specs.job.parallel import ParallelLayout

ALONE = {"tensor": 1, "context": 1, "data": 1, "stages": 1, "expert": 1}


def test_a_communicator_of_one_node_is_what_was_measured() -> None:
    """688 MB on each of four A100 for one more communicator (github.com/NVIDIA/nccl/issues/964)."""
    assert libraries_bytes(**ALONE | {"data": 4}) - libraries_bytes(**ALONE) == pytest.approx(688 * 2**20, rel=0.06)


def test_a_device_alone_has_no_communicator() -> None:
    assert layout_libraries_bytes(ParallelLayout()) == CONTEXT_BYTES


def test_groups_add_up_and_networks_double_them() -> None:
    """Tensor ranks in a node; data ranks and stages across nodes."""
    one = libraries_bytes(**ALONE | {"tensor": 2}) - CONTEXT_BYTES
    layout = ParallelLayout(tensor_parallel=8, pipeline_parallel=4, data_parallel=2)
    assert layout_libraries_bytes(layout) - CONTEXT_BYTES == pytest.approx((1 + 2 + 2) * one)


def test_a_tpu_has_neither_cuda_nor_nccl() -> None:
    assert layout_libraries_bytes(ParallelLayout(data_parallel=64, zero_stage=3), "xla") == 0


def test_many_layouts_at_once_are_those_of_each() -> None:
    degrees = {"tensor": [1, 8, 2], "context": [1, 1, 4], "data": [8, 4, 1], "stages": [1, 2, 8], "expert": [8, 1, 2]}
    together = libraries_bytes(**{name: np.array(values) for name, values in degrees.items()})
    each = [libraries_bytes(**{name: values[place] for name, values in degrees.items()}) for place in range(3)]
    assert list(together) == each
