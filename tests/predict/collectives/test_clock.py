"""The simulator's clock says what the model says, of one job and of many, near and far."""

from __future__ import annotations

import numpy as np
import pytest

from hwprof.predict.collectives.clock import clock_of
from hwprof.predict.collectives.form import OPERATIONS, form_s
from hwprof.predict.collectives.measured import inside_time
from hwprof.predict.collectives.ways import ways_of
from hwprof.predict.machine import machine_of
from hwprof.specs.catalogue.lookup import load_cluster


def machine(text):
    return machine_of(load_cluster(text))


def arrays(*values):
    return [np.array([value], dtype=float) for value in values]


@pytest.mark.parametrize("op", OPERATIONS)
@pytest.mark.parametrize("size", [100.0, 2.0**16, 3e7, 2.0**36])
def test_between_neighbours_the_clock_reads_the_curve(op, size):
    near = machine("64xh100-sxm")
    expected = inside_time(op, near, *arrays(size, 8)).seconds
    assert clock_of([near]).seconds(op, *arrays(size, 8, 1)) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize(("ranks", "stride"), [(16, 1), (8, 8), (8, 4)])
def test_beyond_a_node_it_is_the_form(ranks, stride):
    far = machine("64xh100-sxm")
    one = arrays(1e8, ranks, stride)
    assert clock_of([far]).seconds("alltoall", *one) == pytest.approx(form_s("alltoall", *one, ways_of([far])))


def test_many_jobs_are_timed_as_each_alone():
    machines = [machine(text) for text in ("64xh100-sxm", "16xa100-80gb-sxm", "64xtpu-v5p", "8xa100-pcie", "8xmi300x")]
    sizes, ranks = np.array([1e5, 1e6, 1e7, 1e8, 1e9]), np.array([8.0, 16.0, 4.0, 2.0, 8.0])
    for stride in (np.ones(5), np.array([8.0, 1.0, 4.0, 2.0, 1.0])):
        together = clock_of(machines).seconds("all_reduce", sizes, ranks, stride)
        alone = [
            clock_of([one]).seconds("all_reduce", *arrays(size, group, apart))[0]
            for one, size, group, apart in zip(machines, sizes, ranks, stride, strict=True)
        ]
        assert together == pytest.approx(alone, rel=1e-12)


def test_one_machine_times_any_number_of_groups():
    clock = clock_of([machine("64xh100-sxm")])
    sizes, ranks, stride = np.full(4, 1e8), np.array([1.0, 8.0, 16.0, 8.0]), np.array([1.0, 1.0, 1.0, 8.0])
    found = clock.seconds("all_gather", sizes, ranks, stride)
    assert found[0] == 0
    assert [clock.seconds("all_gather", *arrays(1e8, 8, 1))[0], found[1]] == pytest.approx([found[1]] * 2)
    assert (found[2:] > found[1]).all()


def test_every_second_card_has_no_bridge():
    """A pair of A100 PCIe has its bridge; the first and the third do not."""
    clock = clock_of([machine("8xa100-pcie")])
    bridged, apart = (clock.seconds("all_gather", *arrays(1e9, 2, stride))[0] for stride in (1, 2))
    assert apart / bridged > 5


def test_a_share_measured_on_the_machine_itself_holds_between_neighbours_alone():
    clock = clock_of([machine("64xh100-sxm")])
    half = clock.at_share(0.5)
    near, far = (arrays(1e8, ranks, 1) for ranks in (8, 16))
    assert half.seconds("all_gather", *near) == pytest.approx(2 * clock.seconds("all_gather", *near))
    assert half.seconds("all_gather", *far) == pytest.approx(clock.seconds("all_gather", *far))
