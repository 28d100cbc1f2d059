"""The closed form against the simulated server, over policies, lengths, numbers of users and delays."""

import numpy as np
import pytest

from hwprof.deploy.queue import Queue, settled
from hwprof.deploy.requests.events import PassCosts, closed_loop, simulated

SEQUENCES, STEPS_S = (1.0, 64.0, 256.0), (0.008, 0.012, 0.020)
POLICIES = ("mixed", "prompts first", "whole prompts")
LENGTHS = ((256, 400), (1024, 400), (1024, 128), (4096, 400), (8192, 1000))
DELAYS = ((0.06, 0.03), (0.02, 0.15))
"""Seconds of 1,024 tokens of a prompt, and before a request is ready."""


def closed_form(policy, prompt, new, users, prompt_s, before_s, servers=0):
    """At the number of sequences that it says will run."""
    running = float(users)
    for _ in range(8):
        found = settled(
            Queue(
                users=np.array([float(users)]),
                passes=np.array([new - 1.0]),
                step_s=np.array([np.interp(running, SEQUENCES, STEPS_S)]),
                prompt_s=np.array([prompt_s]),
                before_s=np.array([before_s]),
                prompt_tokens=np.array([float(prompt)]),
                budget_tokens=np.array([8192.0]),
                beside=np.array([policy != "prompts first"]),
                pieces=np.array([policy == "mixed"]),
                servers=np.array([float(servers)]),
                hand_over_s=np.array([0.005 if servers else 0.0]),
            )
        )
        running = max(float(found.running[0]), 1.0)
    return float(found.first_s[0]), float(found.pass_s[0])


def events(policy, prompt, new, users, prompt_s, before_s, servers=0):
    costs = PassCosts(
        sequences=SEQUENCES,
        step_s=STEPS_S,
        prompt_token_s=prompt_s / prompt,
        request_s=before_s,
        hand_over_s=0.005,
        room=512,
        budget=8192,
    )
    requests = closed_loop(users, max(300, 30 * users), prompt, new, seed=users)
    found = simulated(requests, costs, policy, prompt_servers=servers).steady()
    return found.ttft_s.mean(), found.tpot_s.mean()


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(("prompt", "new"), LENGTHS)
@pytest.mark.parametrize(("each_s", "before_s"), DELAYS)
def test_both_say_the_same_of_servers_that_do_prompts_and_tokens(policy, prompt, new, each_s, before_s):
    for users in (1, 4, 16, 64):
        asked = (policy, prompt, new, users, each_s * prompt / 1024, before_s)
        first_s, token_s = closed_form(*asked)
        simulated_first_s, simulated_token_s = events(*asked)
        share = users / (simulated_first_s + (new - 1) * simulated_token_s) * each_s * prompt / 1024
        assert token_s == pytest.approx(simulated_token_s, rel=0.05), users
        assert first_s == pytest.approx(simulated_first_s, rel=0.055 if share < 0.4 else 0.1), (users, share)


@pytest.mark.parametrize("servers", [1, 4])
@pytest.mark.parametrize("users", [1, 8, 32])
def test_both_say_the_same_where_prompts_have_servers_of_their_own(servers, users):
    asked = ("mixed", 1024, 400, users, 0.06, 0.03, servers)
    assert closed_form(*asked) == pytest.approx(events(*asked), rel=0.05)


def test_one_user_waits_for_nobody():
    first_s, token_s = closed_form("prompts first", 1024, 400, 1, 0.06, 0.03)
    assert (first_s, token_s) == pytest.approx((0.09, 0.008))


def test_users_who_wait_for_answers_never_overrun_a_server():
    first_s, token_s = closed_form("mixed", 8192, 10, 256, 0.5, 0.0)
    assert 256 / (first_s + 9 * token_s) * 0.5 < 1.01
