"""Is the rank that keeps the others waiting named, with its cause and the step without it, and no other?"""

from __future__ import annotations

import random

import pytest

from hwprof.predict.ranks.lateness import Stay, alone_late_s, cause_of, stands_out, waits_of
from hwprof.predict.ranks.watched import SeenStep, watched

OWN_S, TRANSFER_S = 0.050, 0.002


def _loop(ranks=2, steps=20, late=None, cause="host", late_s=0.03, only=None, seed=0, noise=0.01):
    """Each step is own work with noise, then one collective that ends when the last has come."""
    source = random.Random(seed)
    seen = {rank: [] for rank in range(ranks)}
    for number in range(steps):
        own = [{"compute": OWN_S * source.gauss(1, noise)} for _ in range(ranks)]
        if late is not None and (only is None or number in only):
            own[late][cause] = own[late].get(cause, 0.0) + late_s
        last = max(sum(each.values()) for each in own)
        for rank, each in enumerate(own):
            stay = Stay(last - sum(each.values()) + TRANSFER_S, each, 0.0, {"forward": sum(each.values())})
            seen[rank].append(SeenStep(last + TRANSFER_S, counts=True, stays=(("allreduce_", stay),)))
    return seen


@pytest.mark.parametrize("ranks", [2, 4])
@pytest.mark.parametrize("cause", ["input", "compute", "host", "garbage collection", "checkpoint"])
def test_the_late_rank_is_named_with_its_cause_and_the_step_without_it(ranks, cause):
    found = watched(_loop(ranks, late=1, cause=cause))
    assert found is not None
    assert found.named is not None
    assert (found.named.rank, found.named.cause) == (1, cause)
    clean = watched(_loop(ranks))
    assert clean is not None
    assert found.step_without_s == pytest.approx(clean.step_s, rel=0.02)
    assert found.step_s == pytest.approx(OWN_S + 0.03 + TRANSFER_S, rel=0.02)
    assert found.named.caused_s == pytest.approx(20 * (ranks - 1) * 0.03, rel=0.1)
    assert [rank.waited_s > 0.5 for rank in found.ranks] == [rank != 1 for rank in range(ranks)]
    assert found.lost_fraction == pytest.approx(0.03 / found.step_s, rel=0.05)
    assert "Rank 1 keeps the others waiting in 20 of 20 steps" in found.sentence


def _meetings(ranks, *, noise, late_s=0.0, seed=0, steps=25, collectives=8):
    """Each step is several stretches of own work, a collective after each; rank 1 is late to the third."""
    source, seen = random.Random(seed), {rank: [] for rank in range(ranks)}
    for _ in range(steps):
        stays, step_s = {rank: [] for rank in range(ranks)}, 0.0
        for number in range(collectives):
            own = [OWN_S / collectives * max(source.gauss(1, noise), 0.1) for _ in range(ranks)]
            own[1] += late_s if number == 2 else 0.0
            step_s += max(own) + TRANSFER_S
            for rank, own_s in enumerate(own):
                stays[rank].append((f"{number}", Stay(max(own) - own_s + TRANSFER_S, {"host": own_s})))
        for rank in range(ranks):
            seen[rank].append(SeenStep(step_s, counts=True, stays=tuple(stays[rank])))
    return seen


@pytest.mark.parametrize("ranks", [2, 4])
def test_the_step_without_a_late_rank_is_that_of_a_loop_in_which_it_never_was_late(ranks):
    """Ranks that differ wait for each other at times anyway: the others' last arrival alone is 3 to 9 % too early."""
    errors = []
    for seed in range(8):
        late = watched(_meetings(ranks, noise=0.2, late_s=0.03, seed=seed))
        clean = watched(_meetings(ranks, noise=0.2, seed=100 + seed))
        assert late is not None
        assert clean is not None
        assert late.named is not None
        errors.append(late.step_without_s / clean.step_s - 1)
    assert sum(errors) / len(errors) == pytest.approx(0, abs=0.015)
    assert max(map(abs, errors)) < 0.05


def test_no_rank_is_named_in_clean_loops():
    for seed in range(50):
        for noise in (0.01, 0.1, 0.3):
            found = watched(_loop(4, seed=seed, noise=noise))
            assert found is not None
            assert found.named is None
            assert (found.sentence, found.step_without_s) == ("", None)


def test_a_few_long_steps_name_a_rank_if_their_cause_was_watched():
    found = watched(_loop(steps=40, late=0, cause="garbage collection", late_s=0.3, only={7, 23}))
    assert found is not None
    assert found.named is not None
    assert (found.named.rank, found.named.cause, found.late_steps) == (0, "garbage collection", 2)
    stalled = watched(_loop(steps=40, late=0, cause="host", late_s=0.3, only={7, 23}))
    assert stalled is not None
    assert stalled.named is None
    often = watched(_loop(steps=40, late=0, cause="host", late_s=0.3, only={3, 7, 23, 30}))
    assert often is not None
    assert often.named is not None


def test_of_a_few_long_steps_these_are_counted_and_described():
    """Ranks that differ by 10 % wait for each other in many steps; four of forty are long, by 0.3 s."""
    found = watched(_loop(steps=40, late=0, cause="host", late_s=0.3, only={3, 7, 23, 30}, noise=0.1))
    assert found is not None
    assert found.late_steps == 4
    assert "waiting in 4 of 40 steps, 30" in found.sentence
    assert "such a step of 35" in found.sentence
    assert found.step_without_s == pytest.approx(found.step_s, rel=0.05)
    assert found.lost_fraction == pytest.approx(4 * 0.3 / (40 * 0.055 + 4 * 0.3), rel=0.1)


def test_what_a_rank_had_no_processor_for_is_not_its_own_doing():
    own = {"compute": 0.05}
    busy = Stay(0.002, own, 0.03)
    assert alone_late_s({0: Stay(0.032, own), 1: busy}) == (1, pytest.approx(0.03), pytest.approx(0.0))
    assert alone_late_s({0: Stay(0.032, own), 1: Stay(0.002, own, 0.01)}) == (
        1,
        pytest.approx(0.03),
        pytest.approx(0.02),
    )


def test_steps_that_differ_between_ranks_or_do_not_count_are_left_out():
    seen = _loop(steps=12)
    seen[0][3] = SeenStep(9.0, counts=False, stays=seen[0][3].stays)
    seen[1][4] = SeenStep(9.0, counts=True, stays=())
    found = watched(seen)
    assert found is not None
    assert (found.steps, found.collectives) == (10, 10)
    few = watched(_loop(steps=5, late=1))
    assert few is not None
    assert few.named is None
    assert "8 are needed" in few.note
    assert watched({0: seen[0]}) is None
    assert watched({0: [SeenStep(1.0, True, ())], 1: [SeenStep(1.0, True, ())]}) is None


def test_waits_by_hand():
    """Of 9, 4 and 6 s the second came last: 5 + 2 waited; it did 3 s more input than the middle of the others."""
    met = {0: Stay(9.0, {"input": 1.0}), 1: Stay(4.0, {"input": 5.0, "host": 0.5}), 2: Stay(6.0, {"input": 3.0})}
    found = waits_of([met], range(3))
    assert (found.transfer_s, found.waited_s, found.caused_s) == (
        4.0,
        {0: 5.0, 1: 0.0, 2: 2.0},
        {0: 0.0, 1: 7.0, 2: 0.0},
    )
    assert found.more_s[1] == {"input": 3.0, "host": 0.5}
    assert alone_late_s(met) == (1, 2.0, 2.0)
    assert cause_of(found.more_s[1]) == "input"
    assert cause_of({"input": 1.0, "host": 1.0, "compute": 1.0}) is None


def test_a_rank_stands_out_by_twice_the_next_and_two_percent():
    assert stands_out({0: 1.0, 1: 2.0}, 10.0) == 1
    assert stands_out({0: 1.1, 1: 2.0}, 10.0) is None
    assert stands_out({0: 0.0, 1: 0.1}, 10.0) is None
    assert stands_out({0: 1.0}, 10.0) is None
