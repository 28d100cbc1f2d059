"""Times of kernels: roofs by hand, and the laws of a roofline."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from hwprof.count.job.device_work import Part, Pass, Row, Unit
from hwprof.predict.kernels.op_time import kernel_s, micro_batch_times
from hwprof.predict.kernels.row_table import Rates, row_table
from hwprof.predict.parameters import NAMES, Parameters

PEAK, NARROW_PEAK, MEMORY = 1e15, 2e15, 3e12

IDEAL = dict.fromkeys(NAMES, 0.0) | {
    name: 1.0 for name in NAMES if name.endswith(("share", "factor")) and name != "straggler_share"
}
"""A device that reaches what its datasheet says, with software that costs nothing."""


def parameters(**changes):
    return Parameters(**IDEAL | changes)


def rates(count=1, **changes):
    values = {
        "peak_flop_per_s": PEAK,
        "narrow_flop_per_s": NARROW_PEAK,
        "fp4": False,
        "memory_byte_per_s": MEMORY,
        "units": 1.0,
        "expert_layers": 0.0,
        "new_attention": False,
    } | changes
    return Rates(**{name: np.array([value] * count) for name, value in values.items()})


def row(unit=Unit.MATMUL, flop=1e12, moved=0.0, m=8192, n=8192, k=8192, when=Pass.FORWARD, groups=1, part=Part.LAYER):
    return Row(part, when, unit, m, n, k, groups, flop, moved, 1)


def one(row_, **changes):
    seconds, by_traffic = kernel_s(row_table([[row_]]), rates(), parameters(**changes))
    return float(seconds[0]), bool(by_traffic[0])


def test_the_slower_roof_counts():
    assert one(row(flop=1e12, moved=1e9)) == (pytest.approx(1e-3), False)
    assert one(row(flop=1e12, moved=6e9)) == (pytest.approx(2e-3), True)
    assert one(row(unit=Unit.TRAFFIC, flop=0, moved=3e9)) == (pytest.approx(1e-3), True)


def test_narrow_products_run_at_their_own_peak():
    assert one(row(unit=Unit.NARROW_MATMUL))[0] == pytest.approx(0.5e-3)
    assert one(row(unit=Unit.NARROW_GROUPED), grouped_share=0.5)[0] == pytest.approx(1e-3)


def test_shares_gaps_and_half_sizes_by_hand():
    assert one(row(), matmul_share=0.5, kernel_gap_s=1e-4)[0] == pytest.approx(2e-3 + 1e-4)
    assert one(row(k=128), inner_half=128)[0] == pytest.approx(2e-3)
    assert one(row(m=128, n=64), row_half=128, column_half=64)[0] == pytest.approx(3e-3)
    assert one(row(unit=Unit.ATTENTION, m=400), sequence_half=400)[0] == pytest.approx(2e-3)
    backward = row(unit=Unit.ATTENTION_BACKWARD)
    assert one(backward, attention_backward_share=0.25)[0] == pytest.approx(4e-3)


def test_a_last_wave_of_few_tiles_costs_time():
    """133 tiles on 132 units are two waves, of which the second is nearly idle."""

    def seconds(columns):
        table = row_table([[row(m=128, n=128 * columns, flop=1e12)]])
        return float(kernel_s(table, rates(units=132.0), parameters())[0][0])

    assert seconds(132) == pytest.approx(1e-3)
    assert seconds(133) > 1.1e-3
    assert seconds(133) > seconds(264)


def test_padding_to_whole_tiles_costs_its_share():
    table = row_table([[row(m=65, n=8192, flop=1e12)]])
    plain = float(kernel_s(table, rates(units=132.0), parameters())[0][0])
    padded = float(kernel_s(table, rates(units=132.0), parameters(padding_loss=1.0))[0][0])
    assert padded / plain == pytest.approx(128 / 65)


def test_host_and_device_run_beside_each_other():
    """Where launching takes much longer than the kernels it sets the pace, and is booked to the host."""
    rows = [row(when=when) for when in (Pass.FORWARD, Pass.INPUT, Pass.WEIGHT)]
    fast = micro_batch_times(row_table([rows]), rates(), parameters(kernel_host_s=1e-9))
    assert float(fast.forward_s[0]) == pytest.approx(1e-3)
    assert float(fast.host_s[0]) == pytest.approx(0, abs=1e-9)
    slow = micro_batch_times(row_table([rows]), rates(), parameters(kernel_host_s=0.1))
    assert float(slow.forward_s[0]) == pytest.approx(0.1)
    assert float(slow.input_s[0] + slow.weight_s[0]) == pytest.approx(0.2)
    assert float(slow.host_s[0]) == pytest.approx(0.3 - 3e-3)


def test_parts_and_shares_are_kept_apart():
    shares = [[row(), row(part=Part.HEAD), row(part=Part.EMBEDDING, when=Pass.WEIGHT)], [row(flop=3e12)]]
    found = micro_batch_times(row_table(shares), rates(2), parameters())
    assert found.forward_s == pytest.approx([1e-3, 3e-3])
    assert found.head_forward_s == pytest.approx([1e-3, 0])
    assert found.embedding_backward_s == pytest.approx([1e-3, 0])
    swapped = found.of(np.array([1, 0, 0]))
    assert swapped.forward_s == pytest.approx([3e-3, 1e-3, 1e-3])


@pytest.mark.parametrize("rate", ["peak_flop_per_s", "narrow_flop_per_s", "memory_byte_per_s"])
def test_a_faster_device_is_never_slower(rate):
    rows = [row(unit=unit, moved=moved) for unit in Unit for moved in (0.0, 1e9, 1e11)]
    slow, fast = rates(), rates()
    fast = dataclasses.replace(fast, **{rate: getattr(fast, rate) * 1.5})
    before, _ = kernel_s(row_table([rows]), slow, parameters(kernel_gap_s=1e-6))
    after, _ = kernel_s(row_table([rows]), fast, parameters(kernel_gap_s=1e-6))
    assert (after <= before).all()
    assert (after < before).any()
