"""The simulated server against queueing theory, against the closed form, and by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner

from hwprof.cli import cli
from hwprof.deploy.requests.events import PassCosts, Requests, closed_loop, poisson, simulated
from hwprof.errors import InputError

COSTS = PassCosts(
    sequences=(1.0, 64.0, 256.0),
    step_s=(0.008, 0.012, 0.020),
    prompt_token_s=0.06 / 1024,
    request_s=0.0,
    hand_over_s=0.005,
    room=512,
    budget=8192,
)
POLICIES = ("mixed", "prompts first", "whole prompts")


def alone(prompt=1024.0, new=101.0, costs=COSTS, policy="mixed", **more):
    requests = Requests(arrival_s=np.zeros(1), prompt=np.array([prompt]), new=np.array([new]))
    return simulated(requests, costs, policy, **more)


@pytest.mark.parametrize("policy", POLICIES)
def test_one_request_takes_its_prompt_and_its_passes(policy):
    found = alone(policy=policy)
    assert found.ttft_s[0] == pytest.approx(0.06)
    assert found.tpot_s[0] == pytest.approx(0.008)
    assert found.end_s[0] == pytest.approx(0.06 + 100 * 0.008)


def test_a_long_prompt_comes_in_pieces_where_prompts_are_mixed():
    assert alone(prompt=20000.0).ttft_s[0] == pytest.approx(20000 * 0.06 / 1024)


def test_a_prompt_with_a_server_of_its_own_hands_its_cache_over():
    assert alone(prompt_servers=1).ttft_s[0] == pytest.approx(0.065)


def test_a_pass_may_give_more_than_one_token():
    twice = PassCosts(**{name: getattr(COSTS, name) for name in COSTS.__slots__ if name != "accepted"}, accepted=2.0)
    assert alone(costs=twice).tpot_s[0] == pytest.approx(0.004)


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_prompts_alone_wait_as_in_a_queue_with_constant_work(load):
    requests = poisson(load / 0.06, 20000, 1024, 1, seed=3)
    found = simulated(requests, COSTS, "prompts first", prompt_servers=1)
    wait_s = found.ttft_s.mean() - 0.065
    assert wait_s == pytest.approx(0.06 * load / (2 * (1 - load)), rel=0.08)  # Pollaczek and Khinchine


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("users", [4, 16, 64, 128])
def test_the_closed_form_is_within_five_per_cent(policy, users):
    count = users * 40
    found = simulated(closed_loop(users, count, 1024, 461, seed=users), COSTS, policy)
    tpot_s = COSTS.pass_s(users) + users / 461 * 0.06
    assert found.steady().tpot_s.mean() == pytest.approx(tpot_s, rel=0.05)
    answer_s = found.steady().ttft_s.mean() + 460 * tpot_s
    assert count / found.end_s.max() == pytest.approx(users / answer_s, rel=0.05)


def test_prompts_apart_leave_tokens_alone():
    apart = simulated(closed_loop(32, 32 * 12, 1024, 461, seed=1), COSTS, "mixed", prompt_servers=4).steady()
    assert apart.tpot_s.mean() == pytest.approx(COSTS.pass_s(32), rel=0.05)


def test_those_without_room_wait_until_others_are_answered():
    small = PassCosts(**{name: getattr(COSTS, name) for name in COSTS.__slots__ if name != "room"}, room=1)
    requests = Requests(arrival_s=np.zeros(2), prompt=np.full(2, 1024.0), new=np.full(2, 101.0))
    found = simulated(requests, small, "prompts first")
    assert found.ttft_s[1] == pytest.approx(found.end_s[0] + 0.06)


def test_a_request_that_no_queue_holds_is_refused():
    with pytest.raises(InputError, match="order"):
        simulated(Requests(arrival_s=np.array([1.0, 0.0]), prompt=np.ones(2), new=np.ones(2)), COSTS, "mixed")


def asked(*more):
    words = "deploy --model 8b --hardware h100-sxm --prompt-len 1024 --new-tokens 256 --users 8,32 --tp 1 --together"
    return CliRunner().invoke(cli, [*words.split(), *more, "--format", "json"])


def test_the_command_simulates_its_answer():
    result = asked("--qps", "3", "--arrivals", "poisson")
    assert result.exit_code == 0
    found = json.loads(result.output)
    simulation, answer = found["simulation"], found["answer"]
    assert simulation["request_per_s"] == pytest.approx(3 / answer["replicas"], rel=0.1)
    assert simulation["tpot_s"]["mean"] < 1.1 * answer["tpot_s"]
    assert simulation["ttft_s"]["median"] <= simulation["ttft_s"]["p90"] <= simulation["ttft_s"]["p99"]


def test_the_answer_s_own_users_see_what_the_closed_form_says():
    found = json.loads(asked("--arrivals", "closed").output)
    assert found["simulation"]["tpot_s"]["mean"] == pytest.approx(found["answer"]["tpot_s"], rel=0.05)


def test_arrivals_come_from_a_file(tmp_path):
    path = tmp_path / "arrivals.csv"
    path.write_text("arrival_s,prompt_tokens,new_tokens\n0,100,10\n0.5,2000,20\n")
    found = json.loads(asked("--arrivals", str(path)).output)
    assert found["simulation"]["requests"] == 2
    path.write_text("arrival_s,prompt_tokens\n0,100\n")
    assert "new_tokens" in str(asked("--arrivals", str(path)).exception)
