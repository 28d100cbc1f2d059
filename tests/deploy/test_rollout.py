"""Sharing a fleet between answers and training, by hand and against brute force."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner

from hwprof.cli import cli
from hwprof.deploy.requests.events import PassCosts
from hwprof.deploy.rollout import Batch, best_of_each, generated, long_tailed, splits
from hwprof.errors import InputError

COSTS = PassCosts(
    sequences=(1.0, 64.0),
    step_s=(0.01, 0.01),
    prompt_token_s=0.0,
    request_s=0.0,
    hand_over_s=0.0,
    room=64,
    budget=8192,
)
EQUAL = Batch(prompt=1.0, answers=np.full(8, 101.0))  # a second of 100 passes, with room for all at once


def test_equal_answers_keep_all_servers_busy():
    found = generated(EQUAL, 2, COSTS, "mixed")
    assert found.time_s == pytest.approx(1.0)
    assert found.busy == pytest.approx(1.0)


def test_the_longest_answer_holds_the_others_up():
    uneven = Batch(prompt=1.0, answers=np.array([101.0, 401.0]))
    found = generated(uneven, 2, COSTS, "mixed")
    assert found.time_s == pytest.approx(4.0)
    assert found.busy == pytest.approx((1.0 + 4.0) / 8.0)


def test_the_ways_by_hand():
    found = {(one.way, one.generating): one for one in splits(EQUAL, 4, 1, COSTS, "mixed", train_device_s=4.0)}
    together = found["synchronous", 4]
    assert (together.iteration_s, together.idle_generating) == (pytest.approx(2.0), pytest.approx(0.0))
    apart = found["apart", 2]
    assert apart.iteration_s == pytest.approx(1.0 + 2.0)
    assert apart.idle_generating == pytest.approx(2 / 3)
    assert apart.idle_training == pytest.approx(1 / 3)
    ahead = found["asynchronous", 2]
    assert ahead.iteration_s == pytest.approx(2.0)
    assert (ahead.idle_generating, ahead.idle_training) == (pytest.approx(0.5), pytest.approx(0.0))


def test_the_first_is_what_brute_force_finds():
    batch = Batch(prompt=100.0, answers=long_tailed(96, 200, 0.9, 1600, seed=1))
    found = splits(batch, 8, 2, COSTS, "mixed", train_device_s=20.0)
    assert len(found) == 1 + 2 * 3
    assert found[0].token_per_s == max(one.token_per_s for one in found)
    assert {one.way for one in best_of_each(found)} == {"synchronous", "apart", "asynchronous"}
    for one in found:
        assert 0 <= one.idle_generating < 1
        assert 0 <= one.idle_training < 1


def test_lengths_have_the_mean_that_was_asked_for():
    lengths = long_tailed(20000, 500, 0.8, 10**6, seed=0)
    assert lengths.mean() == pytest.approx(500, rel=0.02)
    assert np.log(lengths).std() == pytest.approx(0.8, rel=0.03)


def test_a_fleet_without_a_server_is_refused():
    with pytest.raises(InputError, match="no server"):
        splits(EQUAL, 1, 2, COSTS, "mixed", train_device_s=1.0)


def test_the_command_shares_a_fleet():
    words = (
        "deploy --model 8b --hardware h100-sxm --devices 8 --prompt-len 256 --new-tokens 256 --together --tp 1 --pp 1"
    )
    asked = [*words.split(), "--users", "32", "--rollouts", "64", "--format", "json"]
    result = CliRunner().invoke(cli, [*asked, "--train-tokens", "5000"])
    assert result.exit_code == 0
    found = json.loads(result.output)["splits"]
    assert {one["way"] for one in found} == {"synchronous", "apart", "asynchronous"}
    assert all(one["generating"] + one["training"] == 8 for one in found if one["way"] != "synchronous")
    assert "--train-tokens" in str(CliRunner().invoke(cli, asked).exception)
