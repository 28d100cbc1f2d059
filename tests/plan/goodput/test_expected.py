"""Goodput against an event simulation, the best interval against a search, defaults against what was published."""

from __future__ import annotations

import numpy as np
import pytest

from hwprof.errors import InputError
from hwprof.plan.goodput.checkpoint import checkpoint_bytes
from hwprof.plan.goodput.expected import best_interval_s, expected_fraction, goodput_of, spares_for, waiting_share
from hwprof.plan.goodput.reliability import reliability_of
from hwprof.predict.machine import machine_of
from hwprof.specs.catalogue.lookup import load_cluster, load_model
from hwprof.specs.job.step import LoraSpec, TrainingJob


def simulated(*, interval_s, stall_s, lag_s, restart_s, mtbf_s, work_s, seed=0):
    """Event by event: train, save, write on; at a failure go back to the last checkpoint that was written whole."""
    random = np.random.default_rng(seed)
    now_s, next_failure_s, done_s, safe_s, pending = 0.0, random.exponential(mtbf_s), 0.0, 0.0, None
    while done_s < work_s:
        end_s = now_s + interval_s + stall_s
        if next_failure_s >= end_s:
            if pending is not None:
                safe_s = pending[1]
            now_s, done_s = end_s, done_s + interval_s
            pending = (end_s + lag_s, done_s)
            if not lag_s:
                safe_s, pending = done_s, None
            continue
        if pending is not None and next_failure_s >= pending[0]:
            safe_s = pending[1]
        now_s, pending, done_s = next_failure_s, None, safe_s
        while True:  # a restart may fail, too
            next_failure_s = now_s + random.exponential(mtbf_s)
            if next_failure_s - now_s >= restart_s:
                now_s += restart_s
                break
            now_s = next_failure_s
    return done_s / now_s


@pytest.mark.parametrize(
    "case",
    [
        {"interval_s": 1800, "stall_s": 60, "lag_s": 0, "restart_s": 900, "mtbf_s": 11000},
        {"interval_s": 600, "stall_s": 120, "lag_s": 0, "restart_s": 300, "mtbf_s": 3000},
        {"interval_s": 900, "stall_s": 2, "lag_s": 120, "restart_s": 900, "mtbf_s": 11000},
        {"interval_s": 3600, "stall_s": 10, "lag_s": 600, "restart_s": 600, "mtbf_s": 40000},
    ],
)
def test_the_formula_is_what_events_make(case):
    """Within 1 %: 40,000 failures and more, so that chance alone makes some 0.1 %."""
    found = simulated(**case, work_s=40000 * case["mtbf_s"])
    assert expected_fraction(**case) == pytest.approx(found, rel=0.01)


@pytest.mark.parametrize(("stall_s", "mtbf_s"), [(60, 86400), (5, 11000), (300, 6000)])
def test_no_interval_wastes_less_than_dalys(stall_s, mtbf_s):
    def fraction(interval_s):
        return expected_fraction(interval_s=interval_s, stall_s=stall_s, lag_s=0, restart_s=600, mtbf_s=mtbf_s)

    best = max(fraction(interval_s) for interval_s in np.geomspace(1, 10 * mtbf_s, 4000))
    assert fraction(best_interval_s(stall_s, mtbf_s)) == pytest.approx(best, rel=1e-3)


def test_youngs_formula_is_the_first_term():
    """sqrt(2 x 60 x 86400) = 3220 s."""
    assert best_interval_s(60, 86400) + 60 == pytest.approx(3220, rel=0.02)


def asked(model="llama-3.1-405b", devices=16384, hardware="h100-sxm", **said):
    job = TrainingJob(model=load_model(model), seq_len=8192, global_batch=2048)
    return goodput_of(job, machine_of(load_cluster(f"{devices}x{hardware}")), reliability_of(**said))


def test_llama_3_trains_more_than_nine_tenths_of_its_time():
    """The published figure: "higher than 90% effective training time" on 16,384 H100, one failure in 3.1 hours."""
    found = asked()
    assert found.mtbf_s / 3600 == pytest.approx(3.093, rel=1e-3)
    assert 0.88 < found.fraction < 0.95
    assert found.range_fraction[0] < found.fraction < found.range_fraction[1]
    parts = found.checkpoint_fraction + found.restart_fraction + found.lost_fraction
    assert parts + found.fraction == pytest.approx(1)


def test_the_lower_end_holds_what_fleets_lost_beside_failures():
    """Eight devices lose almost nothing to failures; BLOOM's 384 had 90.5 % of their time in steps, C4's 2,400 69 %."""
    few = asked(model="llama-3.1-8b", devices=8)
    assert few.fraction > 0.998
    assert few.range_fraction[0] == pytest.approx(0.66, abs=0.01)
    bloom = asked(model="bloom-176b", devices=384, hardware="a100-80gb-sxm")
    assert bloom.range_fraction[0] < 0.905 < bloom.range_fraction[1]
    alibaba = asked(model="gpt3-175b", devices=2400, hardware="h800-sxm5-80gb")
    assert alibaba.range_fraction[0] < 0.6881 < alibaba.fraction


def test_a_checkpoint_has_14_bytes_a_parameter_and_of_adapters_only_these():
    job = TrainingJob(model=load_model("llama-3.1-8b"), seq_len=8192, global_batch=16)
    assert checkpoint_bytes(job) == pytest.approx(14 * 8.03e9, rel=1e-3)
    adapted = job.model_copy(update={"lora": LoraSpec(rank=8, targets="query-value")})
    assert checkpoint_bytes(adapted) == pytest.approx(14 * 3.4e6, rel=0.02)


def test_a_checkpoint_is_never_free_however_many_devices_share_it():
    """PyTorch held a 7B model up for 6.3 s; with 54,000 s between failures: sqrt(2 x 6.3 x 54e3)."""
    found = asked(model="llama-3.1-8b", devices=3376)
    assert found.mtbf_s == pytest.approx(54e3, rel=1e-2)
    assert found.interval_s == pytest.approx(825, rel=0.02)


def test_writing_while_the_job_waits_costs_more():
    slow = {"storage_byte_per_s": 5e6, "mtbf_s": 3e7}
    assert asked(checkpoint="sync", **slow).fraction < asked(checkpoint="async", **slow).fraction


@pytest.mark.parametrize(("spares", "busy"), [(0, 0.3), (2, 1.5), (4, 6.0)])
def test_waiting_for_repairs_is_what_events_make(spares, busy):
    """Nodes fail one after another while the job runs, and each is back after a time of its own; 200,000 failures."""
    random = np.random.default_rng(spares)
    now_s, waited_s, back_s = 0.0, 0.0, []
    for _ in range(200_000):
        now_s += random.exponential(1.0)
        back_s = sorted(each for each in back_s if each > now_s)
        back_s.append(now_s + random.exponential(busy))
        if len(back_s) > spares:
            waited_s += min(back_s) - now_s
            now_s = min(back_s)
    assert waiting_share(spares, busy) == pytest.approx(waited_s / now_s, rel=0.02)


def test_as_many_spares_as_make_waiting_rare_and_not_one_more():
    assert waiting_share(spares_for(1e-3, 5.0), 5.0) < 1e-3 <= waiting_share(spares_for(1e-3, 5.0) - 1, 5.0)


def test_repairs_cost_goodput_and_spares_win_it_back():
    """16,384 H100 lose a node each 3.1 hours; repairs of a day keep some 8 of them away."""
    at_once, none, some = asked(), asked(repair_s=86400), asked(repair_s=86400, spare_nodes=16)
    assert none.waiting_fraction == pytest.approx(7.76 / 8.76, rel=1e-2)
    assert none.fraction == pytest.approx(at_once.fraction * (1 - none.waiting_fraction))
    assert some.fraction == pytest.approx(at_once.fraction, rel=5e-3)
    assert 12 < some.enough_spares < 20
    parts = none.checkpoint_fraction + none.restart_fraction + none.lost_fraction + none.waiting_fraction
    assert parts + none.fraction == pytest.approx(1)


def test_a_fleet_that_never_saves_is_refused():
    with pytest.raises(InputError, match="lose almost all their work"):
        asked(mtbf_s=3600 * 24)


def test_days_by_the_hundred_million_are_no_answer():
    """64 GPUs of which each fails once an hour fail each 56 s: a restart of 15 minutes ends once in 8 million times."""
    with pytest.raises(InputError, match=r"one fails each 56.25 s lose almost all their work: a restart takes 914"):
        asked("llama-3.1-8b", 64, mtbf_s=3600)
