"""Times of a micro-batch by hand: kernels as they run alone, as a hot chip and their software stretch them."""

from __future__ import annotations

import numpy as np
import pytest

from hwprof.count.job.rows import Part, Pass, Row, Unit
from hwprof.predict.kernels.op_time import micro_batch_times, share_times
from hwprof.predict.kernels.row_table import NO_EXPERTS, row_table
from hwprof.predict.kernels.row_times import RowTimes
from hwprof.predict.parameters import NAMES, Parameters

IDEAL = dict.fromkeys(NAMES, 0.0) | {
    name: 1.0 for name in NAMES if name.endswith(("share", "factor")) and name != "straggler_share"
}
"""A device whose clock never falls, with software that costs nothing."""


def row(unit=Unit.MATMUL, when=Pass.FORWARD, part=Part.LAYER, times=1, groups=1):
    return Row(part, when, unit, 64, 64, 64, groups, 0, 0, times)


def times_of(*shares, alone_s=1e-3, arithmetic_s=0.8e-3, launched=1.0, experts=0.0, by_expert=0.0, **changes):
    """A micro-batch of shares whose every kernel takes ``alone_s``, most of it arithmetic at the peak."""
    table = row_table(shares, [NO_EXPERTS] * len(shares))
    same = np.ones(len(table.share))
    moved = table.unit == Unit.TRAFFIC
    arithmetic = np.where(moved, 0.0, arithmetic_s)
    rows = RowTimes(alone_s=alone_s * same, arithmetic_s=arithmetic, traffic=moved, basis=())
    each = np.ones(len(shares))
    shares_s = share_times(table, rows, experts * each, launched * each, by_expert * each)
    return micro_batch_times(shares_s, Parameters(**IDEAL | changes))


def test_a_hot_chip_stretches_arithmetic_alone():
    assert times_of([row()]).forward_s == pytest.approx([1e-3])
    assert times_of([row()], sustained_share=0.8).forward_s == pytest.approx([1e-3 + 0.25 * 0.8e-3])
    assert times_of([row(Unit.NARROW_MATMUL)], sustained_share=0.8).forward_s == pytest.approx([1e-3])
    assert times_of([row(Unit.NARROW_MATMUL)], narrow_share=0.8).forward_s == pytest.approx([1e-3 + 0.25 * 0.8e-3])
    assert times_of([row(Unit.TRAFFIC)], sustained_share=0.8).forward_s == pytest.approx([1e-3])


def test_each_sort_of_kernel_has_its_factor():
    products = times_of([row(), row(Unit.ATTENTION), row(Unit.TRAFFIC)], product_factor=2.0).forward_s
    attention = times_of([row(), row(Unit.ATTENTION), row(Unit.TRAFFIC)], attention_factor=3.0).forward_s
    moved = times_of([row(), row(Unit.ATTENTION), row(Unit.TRAFFIC)], traffic_factor=4.0, memory_share=0.5).forward_s
    assert (products[0], attention[0], moved[0]) == pytest.approx((4e-3, 5e-3, 10e-3))
    loss = times_of([row(Unit.TRAFFIC, part=Part.HEAD)], loss_traffic_factor=5.0, traffic_factor=9.0)
    assert loss.head_forward_s == pytest.approx([5e-3])
    assert times_of([row()], kernel_share=0.5).forward_s == pytest.approx([2e-3])


def test_host_and_device_run_beside_each_other():
    """Where launching takes much longer than the kernels it sets the pace, and is booked to the host."""
    rows = [row(when=when) for when in (Pass.FORWARD, Pass.INPUT, Pass.WEIGHT)]
    fast = times_of(rows, kernel_host_s=1e-9)
    assert float(fast.forward_s[0]) == pytest.approx(1e-3)
    assert float(fast.host_s[0]) == pytest.approx(0, abs=1e-9)
    slow = times_of(rows, kernel_host_s=0.1)
    assert float(slow.forward_s[0]) == pytest.approx(0.1)
    assert float(slow.input_s[0] + slow.weight_s[0]) == pytest.approx(0.2)
    assert float(slow.host_s[0]) == pytest.approx(0.3 - 3e-3)


def test_captured_graphs_cost_no_host():
    rows = [row(when=when) for when in (Pass.FORWARD, Pass.INPUT, Pass.WEIGHT)]
    captured = times_of(rows, launched=0.0, experts=1.0, kernel_host_s=0.1, expert_layer_host_s=0.1)
    assert float(captured.forward_s[0]) == pytest.approx(1e-3)
    assert float(captured.host_s[0]) == pytest.approx(0)


def test_parts_and_shares_are_kept_apart():
    shares = [[row(), row(part=Part.HEAD), row(part=Part.EMBEDDING, when=Pass.WEIGHT)], [row(times=3)]]
    found = times_of(*shares)
    assert found.forward_s == pytest.approx([1e-3, 3e-3])
    assert found.head_forward_s == pytest.approx([1e-3, 0])
    assert found.embedding_backward_s == pytest.approx([1e-3, 0])
    swapped = found.of(np.array([1, 0, 0]))
    assert swapped.forward_s == pytest.approx([3e-3, 1e-3, 1e-3])


def test_the_share_of_traffic_is_of_the_layers_time():
    found = times_of([row(), row(Unit.TRAFFIC), row(Unit.TRAFFIC), row(Unit.TRAFFIC, part=Part.HEAD)])
    assert found.traffic_share == pytest.approx([2 / 3])


def test_a_host_that_launches_each_expert_by_itself_pays_for_all_of_them():
    """16 experts of a device, 0.1 s to launch a kernel: 1.6 s, or 0.1 s where one kernel has the products of all."""
    rows = [row(Unit.GROUPED, groups=16)]
    assert times_of(rows, kernel_host_s=0.1, by_expert=1.0).forward_s == pytest.approx([1.6])
    assert times_of(rows, kernel_host_s=0.1).forward_s == pytest.approx([0.1])
    batched = [row(groups=16)]
    assert times_of(batched, kernel_host_s=0.1, by_expert=1.0).forward_s == pytest.approx([0.1])
