"""Claims about the probe of collectives, on two and four real gloo ranks; the arithmetic on a scripted clock."""

import time
from dataclasses import replace

import pytest
import torch

from hwprof.errors import WorkError
from hwprof.measure.links import collectives
from hwprof.measure.links.collective_probe import (
    QUICK,
    Thoroughness,
    point_of,
    probe_collectives,
    scoped_groups,
    sizes_for,
)
from hwprof.measure.links.link_probe import probe_links
from hwprof.measure.timing import WallTimer
from hwprof.specs.record.collective import COLLECTIVES

FEW = Thoroughness(samples=3, warmups=1, sample_s=1e-4, curve_s=600.0)
SIZES = (4, 4096, 400_000)


def curves_of(world, sizes):
    return probe_collectives(world, scoped_groups(world), WallTimer(), sizes=sizes, how=FEW)


@pytest.fixture(scope="module")
def four(ranks):
    return ranks(4).run(curves_of, SIZES)


def test_every_collective_is_measured_and_delivers_right_values_on_every_rank(four):
    assert [curve.collective for curve in four[0]] == list(COLLECTIVES)
    assert all({len(curve.points) for curve in curves} == {3} for curves in four)


def test_all_ranks_agree_on_every_sample(four):
    assert four[0] == four[1] == four[2] == four[3]


def test_bandwidths_follow_from_size_and_time_by_the_definitions_of_nccl_tests(four):
    factors = {"all_reduce": 1.5, "all_gather": 0.75, "reduce_scatter": 0.75, "all_to_all": 0.75}
    for curve in four[0]:
        for point in curve.points:
            assert point.algorithm_byte_per_s == pytest.approx(point.size_bytes / point.time_s)
            expected = point.algorithm_byte_per_s * factors.get(curve.collective, 1.0)
            assert point.bus_byte_per_s == pytest.approx(expected)


def test_sizes_are_whole_elements_for_each_rank(four):
    assert [point.size_bytes for point in four[0][0].points] == [16, 4096, 400_000]
    assert all(point.size_bytes % 16 == 0 for curve in four[0] for point in curve.points)


def test_size_too_slow_for_its_time_is_left_out_on_all_ranks_alike(ranks):
    found = ranks(2).run(impatient_curve)
    assert found[0] == found[1] == (1, 1)


def impatient_curve(world):
    impatient = Thoroughness(samples=3, warmups=1, sample_s=1e-4, curve_s=1e-6)
    curves = probe_collectives(
        world, scoped_groups(world), WallTimer(), sizes=(1024, 2048), how=impatient, collectives=("all_reduce",)
    )
    return len(curves[0].points), curves[0].conditions["sizes_left_out"]


def test_wrong_values_are_an_error(monkeypatch):
    group = collectives.RankGroup((0, 1), 0, None)
    monkeypatch.setattr(collectives.dist, "broadcast", lambda vector, **_options: vector[3].add_(1))
    with pytest.raises(WorkError, match="1 of 100 elements of a broadcast are wrong"):
        collectives.exchange("broadcast", group, 400, torch.device("cpu")).check()


def test_point_holds_median_and_spread():
    point = point_of("all_gather", 1000, (1e-3, 2e-3, 3e-3, 4e-3, 5e-3), ranks=4, calls=7)
    assert (point.time_s, point.spread, point.calls_per_sample) == (3e-3, pytest.approx(2 / 3), 7)


@pytest.mark.parametrize(("backend", "largest"), [("gloo", 64 * 2**20), ("nccl", 2**30)])
def test_full_sizes_double_from_one_kibibyte(backend, largest):
    sizes = sizes_for(backend, quick=False)
    assert (sizes[0], sizes[1], sizes[-1]) == (1024, 2048, largest)
    assert len(sizes_for(backend, quick=True)) <= 7


def links_of(world):
    said = []
    result = probe_links(
        world, WallTimer(), quick=True, sizes=(1024, 65536), collectives=("all_reduce",), report=said.append
    )
    return result, said


def test_links_have_pairs_both_ways_slowdown_and_a_reason_for_no_topology(ranks):
    results = ranks(2).run(links_of)
    result, said = results[0]
    assert [(pair.source, pair.target) for pair in result.pairs] == [(0, 1), (1, 0)]
    assert all(pair.byte_per_s > 1e6 and 0 < pair.latency_s < 1 for pair in result.pairs)
    slow = result.slowdowns[0]
    assert slow.ranks == 2
    assert slow.beside_cpu_s > 0
    assert min(slow.work_alone_s, slow.work_together_s, slow.beside_alone_s, slow.beside_together_s) > 0
    assert [skip.name for skip in result.skipped] == ["topology"]
    assert any("all_reduce" in line for line in said)
    assert results[0][0] == results[1][0]


def slow_rank(world):
    class Late(WallTimer):
        """Rank 1 sees every sample take a second longer."""

        def elapsed_s(self, start, stop):
            return super().elapsed_s(start, stop) + (1.0 if world.rank == 1 else 0.0)

    began = time.perf_counter()
    curves = probe_collectives(
        world, scoped_groups(world), Late(), sizes=(1024,), how=QUICK, collectives=("all_reduce",)
    )
    return curves[0].points[0].time_s, time.perf_counter() - began


def test_the_slowest_rank_tells_the_time(ranks):
    (first_s, _), (second_s, _) = ranks(2).run(slow_rank)
    assert first_s == second_s > 1.0


def on_two_nodes(world):
    """Pretend that ranks 2 and 3 are on another machine."""
    pretended = replace(world, nodes_of=(0, 0, 1, 1))
    groups = scoped_groups(pretended)
    curves = probe_collectives(pretended, groups, WallTimer(), sizes=(1024,), how=FEW, collectives=("all_reduce",))
    members = [scoped.group.ranks for scoped in groups]
    return members, [(curve.scope, curve.ranks, curve.nodes, curve.conditions["groups_at_once"]) for curve in curves]


def test_on_several_nodes_each_node_the_ranks_across_and_all_are_measured(ranks):
    answers = ranks(4).run(on_two_nodes)
    assert answers[0][0] == [(0, 1), (0, 2), (0, 1, 2, 3)]
    assert answers[3][0] == [(2, 3), (1, 3), (0, 1, 2, 3)]
    assert answers[0][1] == [("node", 2, 1, 1), ("network", 2, 2, 2), ("world", 4, 2, 1)]
