"""Collectives between neighbours against measurements that nothing here was fitted to, and against their own table."""

from __future__ import annotations

import numpy as np
import pytest

from hwprof.predict.collectives.form import OPERATIONS, least_s
from hwprof.predict.collectives.measured import across_time, curve_of, inside_time, usual_node
from hwprof.predict.collectives.ways import ways_of
from hwprof.predict.machine import machine_of
from hwprof.specs.catalogue.kernel_points import kernel_table
from hwprof.specs.catalogue.lookup import load_cluster

MIB = 2**20


def timed(op, hardware, ranks, *mebibytes):
    sizes = np.array(mebibytes, dtype=float) * MIB
    return inside_time(op, machine_of(load_cluster(hardware)), sizes, np.full_like(sizes, ranks))


@pytest.mark.parametrize(
    ("mebibytes", "bus_byte_per_s"),
    [(1, 72.45e9), (4, 139.97e9), (16, 242.45e9), (64, 369.82e9), (256, 442.27e9), (1024, 464.0e9), (16384, 480.7e9)],
)
def test_sums_over_eight_h200_are_those_of_another_cluster(mebibytes, bus_byte_per_s):
    """nccl-tests on one node (stas00/ml-engineering, network/benchmarks/README.md); the sum is in the switch."""
    measured_s = 1.75 * mebibytes * MIB / bus_byte_per_s
    times = timed("all_reduce", "8xh200-sxm", 8, mebibytes)
    assert times.seconds[0] == pytest.approx(measured_s, rel=0.06)
    assert times.lo_s[0] < measured_s < times.hi_s[0]
    assert times.basis.word == "measured"


@pytest.mark.parametrize(("mebibytes", "microseconds"), [(1024, 8203.9), (4096, 32136), (16384, 127997)])
def test_large_sums_over_eight_a100_are_those_of_another_node(mebibytes, microseconds):
    """nccl-tests (stas00/ml-engineering, network/README.md); 235 GB/s of bus bandwidth at most."""
    assert timed("all_reduce", "8xa100-80gb-sxm", 8, mebibytes).seconds[0] == pytest.approx(
        microseconds * 1e-6, rel=0.03
    )


@pytest.mark.parametrize(
    ("op", "hardware", "ranks", "mebibytes", "seconds"),
    [
        ("all_gather", "8xh100-sxm", 8, 64, 208.1e-6),
        ("all_reduce", "8xh100-sxm", 8, 256, 1092e-6),
        ("reduce_scatter", "8xb200", 4, 512, 728.8e-6),
        ("alltoall", "8xrtx-pro-6000-blackwell-server", 8, 128, 6618e-6),
        ("all_gather", "8xh100-sxm", 2, 0.015625, 6.2e-6),
    ],
)
def test_measured_sizes_are_met(op, hardware, ranks, mebibytes, seconds):
    times = timed(op, hardware, ranks, mebibytes)
    assert times.seconds[0] == pytest.approx(seconds, rel=0.15)
    assert times.lo_s[0] < seconds < times.hi_s[0]


def test_a_device_without_rows_takes_those_of_one_with_the_same_link_and_says_so():
    """GB300 and B300 have the same NVLink."""
    borrowed, own = timed("all_gather", "4xgb300", 4, 1, 256), timed("all_gather", "8xb300", 4, 1, 256)
    assert borrowed.basis.word == "sibling"
    assert "nvlink5" in borrowed.basis.text
    assert borrowed.seconds == pytest.approx(own.seconds, rel=0.15)
    assert (borrowed.hi_s / borrowed.lo_s > own.hi_s / own.lo_s).all()


def test_a_link_that_nobody_measured_is_timed_by_its_form_with_a_wide_interval():
    """MI300X: 448 GB/s over 7 links, of which an all-reduce of 4 GB had 312.9 (stas00/ml-engineering)."""
    times = timed("all_reduce", "8xmi300x", 8, 4096)
    assert times.basis.word == "assumed"
    assert 1.75 * 4096 * MIB / times.seconds[0] == pytest.approx(312.9e9, rel=0.05)
    assert times.hi_s[0] / times.lo_s[0] == pytest.approx(np.exp(1.0))


def test_cards_over_pcie_are_far_below_its_line_rate():
    """20 to 24 GB/s of 63 were measured over eight cards, all of them through the host."""
    for hardware in ("8xrtx-pro-6000-blackwell-server", "8xrtx-5090", "8xl40s"):
        seconds = float(timed("all_gather", hardware, 8, 512).seconds[0])
        assert 17e9 < 0.875 * 512 * MIB / seconds < 26e9, hardware


@pytest.mark.parametrize("hardware", ["8xh100-sxm", "8xa100-80gb-sxm", "72xgb200", "8xmi300x", "8xl40s", "8xa100-pcie"])
@pytest.mark.parametrize("op", OPERATIONS)
def test_more_bytes_take_no_less_time_and_none_beats_the_line_rate(op, hardware):
    machine = machine_of(load_cluster(hardware))
    sizes = 2.0 ** np.arange(6, 38, 0.37)
    for ranks in (2.0, 3.0, 4.0, 8.0):
        group = np.full_like(sizes, ranks)
        seconds = inside_time(op, machine, sizes, group).seconds
        assert (np.diff(seconds) >= -1e-12).all()
        ways = ways_of([machine]).at(np.zeros(len(sizes), dtype=np.int64))
        assert (seconds >= least_s(op, sizes, group, ways)).all()


@pytest.mark.parametrize("op", ["all_gather", "reduce_scatter", "all_reduce", "alltoall"])
def test_more_neighbours_take_no_less_time(op):
    sizes = np.full(71, 64.0 * MIB)
    seconds = inside_time(op, usual_node("gb200-nvl72"), sizes, np.arange(2.0, 73.0)).seconds
    assert (np.diff(seconds) >= -1e-12).all()


def test_rows_faster_than_the_line_rate_are_not_believed():
    """Two bridged A100: rows of 318 GB/s and more over links of 300."""
    machine = machine_of(load_cluster("8xa100-80gb-sxm"))
    assert curve_of("send_recv", machine, kernel_table("collectives")) is None  # all rows are of other machines
    assert 2**30 / inside_time("send_recv", machine, np.array([2.0**30]), np.array([2.0])).seconds[0] < 300e9


P5_BYTES, P5_SUM, P5_EXCHANGE = 8192 * MIB, {32: 184.25e9, 64: 180.5e9, 256: 161.18e9}, {32: 55.82e9, 256: 40.94e9}
"""aws p5, 8 H100 a node at 50 GB/s of EFA each: size over time (crazyguitar/aws-gpu-communication-benchmark)."""


@pytest.mark.parametrize("ranks", sorted(P5_SUM))
def test_large_sums_over_many_nodes(ranks):
    machine = machine_of(load_cluster(f"{ranks}xh100-sxm"))
    times = across_time("all_reduce", machine, np.array([float(P5_BYTES)]), np.array([float(ranks)]))
    assert P5_BYTES / times.seconds[0] == pytest.approx(P5_SUM[ranks], rel=0.1)


@pytest.mark.parametrize("ranks", sorted(P5_EXCHANGE))
def test_large_exchanges_over_many_nodes(ranks):
    machine = machine_of(load_cluster(f"{ranks}xh100-sxm"))
    times = across_time("alltoall", machine, np.array([2048.0 * MIB]), np.array([float(ranks)]))
    assert 2048 * MIB / times.seconds[0] == pytest.approx(P5_EXCHANGE[ranks], rel=0.1)
    assert times.basis.word == "assumed"
