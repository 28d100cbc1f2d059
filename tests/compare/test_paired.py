"""Are ranks compared each with itself, and is too little evidence called so?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hwprof.compare.diff import compare
from hwprof.compare.paired import paired_change
from hwprof.compare.sides import Side

UNEVEN = {rank: (0.010 + 0.001 * rank,) for rank in range(8)}
"""One step of each of 8 ranks, whose windows differ by up to 70 %."""


def _scaled(samples, factor, ranks=None):
    return {
        rank: tuple(time * (factor if ranks is None or rank in ranks else 1.0) for time in each)
        for rank, each in samples.items()
    }


def _side(samples, name="a") -> Side:
    pooled = tuple(time for each in samples.values() for time in each)
    return Side(
        name=name, kind="trace", step_samples_s=pooled, step_median_s=float(np.median(pooled)), items={}, settings={},
        environment={}, tokens_per_s=None, peak_memory_bytes=None, notes=(), ranks=samples,
    )  # fmt: skip


def _outcome(a, b, limit=0.03):
    return compare(_side(a), _side(b, "b"), limit_fraction=limit).outcome


def test_every_rank_20_percent_slower_fails():
    """Pooled, the ranks' own differences hid it."""
    report = compare(_side(UNEVEN), _side(_scaled(UNEVEN, 1.2)), limit_fraction=0.03)
    assert (report.step.verdict, report.outcome, report.failed) == ("slower", "failed", True)
    assert report.step.change_fraction == pytest.approx(0.2)
    assert [rank.change_fraction for rank in report.ranks] == pytest.approx([0.2] * 8)
    assert _outcome(UNEVEN, _scaled(UNEVEN, 1.02)) == "passed"


def test_one_rank_of_many_that_got_slower_fails():
    report = compare(_side(UNEVEN), _side(_scaled(UNEVEN, 1.2, {5})), limit_fraction=0.03)
    assert report.outcome == "failed"
    assert [rank.rank for rank in report.ranks if rank.slower] == [5]
    assert report.step.change_fraction == 0.0


def test_the_same_traces_pass():
    assert _outcome(UNEVEN, UNEVEN) == "passed"


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_too_few_samples_are_undecided_and_never_passed(ranks, steps):
    few = dict.fromkeys(range(ranks), (0.01,) * steps)
    for factor in (1.0, 1.2):
        assert _outcome(few, _scaled(few, factor)) == "undecided"


def test_a_change_above_the_limit_within_noise_is_undecided():
    source = np.random.default_rng(1)
    noisy = {0: tuple(source.normal(0.01, 0.003, 5)), 1: tuple(source.normal(0.01, 0.003, 5))}
    other = {rank: tuple(np.roll(each, 1) * 1.05) for rank, each in noisy.items()}
    report = compare(_side(noisy), _side(other), limit_fraction=0.03)
    assert (report.step.verdict, report.outcome) == ("within noise", "undecided")


def test_steps_of_ranks_are_drawn_together():
    """A slow step is slow on all ranks: eight ranks that wait for each other know no more than one."""
    source = np.random.default_rng(7)
    steps = tuple(source.normal(0.01, 0.001, 6))
    one = paired_change({0: steps}, {0: steps[::-1]})
    many = paired_change(dict.fromkeys(range(8), steps), dict.fromkeys(range(8), steps[::-1]))
    assert one is not None
    assert many is not None
    assert one.interval == pytest.approx(many.interval)


def test_ranks_on_one_side_alone_are_named_and_left_out():
    steady = dict.fromkeys(range(3), (0.01, 0.011, 0.012, 0.0105))
    report = compare(_side(steady), _side(dict.fromkeys((1, 2, 9), steady[0])))
    assert [rank.rank for rank in report.ranks] == [1, 2]
    assert "ranks 0, 9 are on one side only" in report.notes[0]
    assert paired_change({0: (1.0,)}, {1: (1.0,)}) is None
    assert _outcome(steady, {7: steady[0], 8: steady[0]}) == "undecided"


def test_one_rank_on_each_side_is_the_same_whatever_its_number():
    steps = (0.01, 0.0101, 0.0102, 0.0099)
    assert _outcome({0: steps}, {3: tuple(1.2 * step for step in steps)}) == "failed"


def test_false_alarms_and_power_of_the_gate():
    """Of 200 pairs of 4 ranks and 10 steps with 2 % of noise: at most 5 % false alarms; 10 % slower is found."""
    source = np.random.default_rng(3)

    def drawn():
        common = source.normal(0.01, 2e-4, 10)
        return {rank: tuple(common + source.normal(0, 2e-5, 10)) for rank in range(4)}

    alarms = sum(_outcome(drawn(), drawn()) == "failed" for _ in range(100))
    found = sum(_outcome(drawn(), _scaled(drawn(), 1.1)) == "failed" for _ in range(100))
    assert alarms <= 5
    assert found >= 95


def test_runs_keep_one_set_of_samples():
    run = replace(_side({0: (0.01,)}), ranks={}, kind="run", step_samples_s=(0.01, 0.011, 0.012), step_median_s=0.011)
    report = compare(run, run, limit_fraction=0.03)
    assert (report.ranks, report.outcome) == ((), "passed")
