"""What did a running server give its users, and what was predicted for it? Measured times beside predicted ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from hwprof.deploy.requests.traffic import Spread
from hwprof.deploy.space import Offer
from hwprof.errors import WorkError
from hwprof.measure.server.sweep import Asked, Level, sweep


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What is predicted: seconds and 90 % intervals."""

    ttft_s: float
    ttft_interval_s: tuple[float, float]
    tpot_s: float
    tpot_interval_s: tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One number of users.

    Attributes:
        users: requests under way at once.
        requests, failed: answered, and not.
        prompt_tokens, new_tokens: of a request, in the mean, as the server counts them.
        ttft_s, tpot_s: times; ``tpot_s`` None where answers have one token.
        requests_per_s, tokens_per_s: answered.
        predicted: the same of the model, where it was said what runs on what.
    """

    users: int
    requests: int
    failed: int
    prompt_tokens: float
    new_tokens: float
    ttft_s: Spread
    tpot_s: Spread | None
    requests_per_s: float
    tokens_per_s: float
    predicted: Expected | None


def bench_server(
    asked: Asked,
    users: tuple[int, ...],
    rounds: int,
    told: Callable[[str], None],
    offers: Callable[[int, int], Sequence[Offer]] | None,
) -> list[Measured]:
    """Measure a server over numbers of users.

    Args:
        asked: what each request asks for.
        users: numbers of them.
        rounds: requests of each user.
        told: hears of progress.
        offers: from the measured tokens of prompts and answers, what is predicted at each number of users.

    Raises:
        WorkError: the server answers nothing.
    """
    levels = sweep(asked, users, rounds, told)
    answered = [answer for level in levels for answer in level.answers]
    if not answered:
        raise WorkError(f"no request was answered: {levels[0].failed[0]}", expectation="a server that answers")
    prompt = float(np.mean([answer.prompt_tokens or asked.prompt_tokens for answer in answered]))
    new = float(np.mean([answer.tokens for answer in answered]))
    found = {} if offers is None else {offer.users: offer for offer in offers(round(prompt), round(new))}
    return [_measured(level, asked, found.get(level.users)) for level in levels if level.answers]


def _measured(level: Level, asked: Asked, offer: Offer | None) -> Measured:
    answers = level.answers
    later = [answer.tpot_s for answer in answers if answer.tpot_s is not None]
    return Measured(
        users=level.users,
        requests=len(answers),
        failed=len(level.failed),
        prompt_tokens=float(np.mean([answer.prompt_tokens or asked.prompt_tokens for answer in answers])),
        new_tokens=float(np.mean([answer.tokens for answer in answers])),
        ttft_s=Spread.of(np.array([answer.ttft_s for answer in answers])),
        tpot_s=Spread.of(np.array(later)) if later else None,
        requests_per_s=len(answers) / level.lasted_s,
        tokens_per_s=sum(answer.tokens for answer in answers) / level.lasted_s,
        predicted=None if offer is None else _expected(offer),
    )


def _expected(offer: Offer) -> Expected:
    return Expected(
        ttft_s=offer.ttft_s,
        ttft_interval_s=offer.ttft_interval_s,
        tpot_s=offer.tpot_s,
        tpot_interval_s=offer.tpot_interval_s,
    )
