"""How long does a prompt wait, and how long does it hold tokens up? In the mean, for many servers at once.

N users each send their next request as soon as the last one is answered. Answers end at the ends of passes: with n
sequences running and answers of L passes, n / L of them in each; so many prompts join for each pass of decoding,
however long the prompts' own passes take. A request is ready some time after it was sent; by then the server reads
other prompts or not, as in a process that goes from one state to the other.

Letters: S a decode pass, P a prompt, B from the request to being ready, k = n (N - 1) / N / L prompts of others for
each pass, X a pass with prompts, O what such a pass has beside them (S, where tokens are decoded in it, too).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hwprof.deploy.kernels import Floats

Flags = NDArray[np.bool_]

ROUNDS = 40
"""Of the fixed point; each halves what is left."""

MOST_LOAD = 0.95
"""Of servers for prompts alone, beyond which a queue has no mean; users who wait for answers keep it below."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """Servers and what is asked of them; arrays of one a configuration.

    Attributes:
        users: requests under way.
        passes: of decoding that an answer takes after its first token.
        step_s: of one such pass.
        prompt_s: of a prompt among others.
        before_s: from the request to being ready.
        prompt_tokens, budget_tokens: of a prompt, and of a pass at most.
        beside: whether tokens are decoded in passes that read prompts.
        pieces: whether prompts are cut to fill a pass up.
        servers: that prompts have for themselves; 0 = none.
        hand_over_s: from these to the one that decodes.
    """

    users: Floats
    passes: Floats
    step_s: Floats
    prompt_s: Floats
    before_s: Floats
    prompt_tokens: Floats
    budget_tokens: Floats
    beside: Flags
    pieces: Flags
    servers: Floats
    hand_over_s: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What users see once requests have come for long.

    Attributes:
        first_s: to the first token.
        pass_s: a pass of decoding with its share of the prompts' passes.
        running: sequences that are decoded at once.
    """

    first_s: Floats
    pass_s: Floats
    running: Floats


def settled(asked: Queue) -> Settled:
    """The fixed point of how many run and how long all takes; within 5 % of ``requests.events`` in the time of a token.

    The time to the first token is within 5 %, too, while prompts take less than half of a server's time; beyond that
    answers that end together keep together, which no mean knows.
    """
    first_s, pass_s, running = asked.before_s + asked.prompt_s, asked.step_s, asked.users
    for _ in range(ROUNDS):
        decoding = asked.passes * pass_s / (first_s + asked.passes * pass_s)
        busy = 1 - (1 - np.minimum(decoding, 1.0)) ** (asked.users - 1)  # whether somebody else is decoded
        others = running * (asked.users - 1) / asked.users / asked.passes
        apart = asked.servers > 0
        waits_s = np.where(apart, _own_servers_s(asked, first_s, pass_s), _shared_s(asked, asked.step_s * busy, others))
        first_s = (first_s + asked.before_s + waits_s) / 2
        pass_s = (pass_s + asked.step_s + np.where(apart, 0.0, others * asked.prompt_s)) / 2
        running = asked.users * asked.passes * pass_s / (first_s + asked.passes * pass_s)
    return Settled(first_s=first_s, pass_s=pass_s, running=running)


def _own_servers_s(asked: Queue, first_s: Floats, pass_s: Floats) -> Floats:
    """M/D/c by Sakasegawa (1977): half of what exponential service times would make wait."""
    servers = np.maximum(asked.servers, 1.0)
    rate_per_s = (asked.users - 1) / (first_s + asked.passes * pass_s)
    load = np.minimum(rate_per_s * asked.prompt_s / servers, MOST_LOAD)
    waits_s = asked.prompt_s / 2 * load ** (np.sqrt(2 * (servers + 1)) - 1) / (servers * (1 - load))
    seconds: Floats = waits_s + asked.prompt_s + asked.hand_over_s
    return seconds


def _shared_s(asked: Queue, step_s: Floats, others: Floats) -> Floats:
    """From being ready to the end of the pass that reads the prompt's last token, where tokens are decoded, too."""
    prompt_s, before_s = asked.prompt_s, asked.before_s
    left = np.maximum(asked.budget_tokens - asked.users, 1.0)
    cuts = np.where(asked.pieces, np.maximum(np.ceil(asked.prompt_tokens / left), 1.0), 1.0)
    alone = asked.budget_tokens < 2 * asked.prompt_tokens  # one prompt a pass
    other_s = np.where(asked.beside, step_s * cuts, 0.0)
    pass_s = other_s + prompt_s * np.where(alone, 1.0, 1 + others)
    between_s = np.maximum(step_s + before_s / (before_s + pass_s) * others * prompt_s, 1e-12)

    def meanwhile(lasts_s: Floats) -> Floats:
        """Prompts that become ready while a pass reads others: those whose answers ended so long before."""
        found: Floats = others * np.maximum(np.minimum(before_s, lasts_s) / between_s, 1.0)
        return found

    joined = meanwhile(pass_s)
    pass_s = pass_s + np.where(alone, 0.0, prompt_s**2 * (others + joined) / pass_s)  # long passes are met more often
    joined = np.where(alone, joined, meanwhile(pass_s))

    def own_s(beside: Floats) -> Floats:
        """The pass of this prompt and others; one after the other where a pass has room for one."""
        found: Floats = np.where(alone, (other_s + prompt_s) * (1 + beside / 2), other_s + prompt_s * (1 + beside))
        return found

    reading = _reading(step_s, others, other_s + prompt_s, pass_s, before_s)
    plain_s = np.where(before_s > 0, step_s / 2, 0.0) + own_s(others)
    behind_s = pass_s - np.minimum(before_s, pass_s) / 2 + own_s(joined)
    unfilled = np.where(cuts > 1, cuts * left - asked.prompt_tokens, 0.0)  # of its last pass, which others fill up
    filled_s = np.minimum(joined, 1.0) * unfilled * prompt_s / asked.prompt_tokens
    seconds: Floats = (1 - reading) * plain_s + reading * behind_s + filled_s
    return seconds


def _reading(step_s: Floats, others: Floats, one_s: Floats, pass_s: Floats, before_s: Floats) -> Floats:
    """The chance that others' prompts are read when a request is ready; none are when it is sent."""
    share = others * one_s / np.maximum(step_s + others * one_s, 1e-12)
    rate_per_s = others / np.maximum(step_s, 1e-12) + 1 / pass_s
    found: Floats = share * -np.expm1(-rate_per_s * before_s)
    return found
