"""How do the times of a server change with the number of users? Each sends its next request when one is answered."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from hwprof.errors import WorkError
from hwprof.measure.server.client import Address, Endpoint, RefusedError, Streamed, streamed

WORDS = ("one", "two", "red", "sun", "man", "day", "old", "new", "big", "sea", "war", "art", "law", "map", "oil", "gas")
"""Short words, each a token in the usual vocabularies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """What was measured at one number of users.

    Attributes:
        users: requests under way at once.
        answers: those that came.
        failed: why others did not.
        lasted_s: from the first request to the last token.
    """

    users: int
    answers: tuple[Streamed, ...]
    failed: tuple[str, ...]
    lasted_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What every request asks for; ``whole``: all tokens, also where the model would end before."""

    address: Address
    endpoint: Endpoint
    model: str
    prompt_tokens: int
    new_tokens: int
    timeout_s: float
    whole: bool = True


def prompt_of(tokens: int, number: int) -> str:
    """A prompt of about so many tokens that shares no beginning with that of another number."""
    words = (WORDS[(number // len(WORDS) ** (place % 3) + place) % len(WORDS)] for place in itertools.count())
    return " ".join([str(number), *itertools.islice(words, max(tokens - 1, 0))])


def level_of(asked: Asked, users: int, requests: int, first_number: int) -> Level:
    """So many requests, at most ``users`` of them at once."""
    answers: list[Streamed] = []
    failed: list[str] = []

    def ask(number: int) -> None:
        try:
            answers.append(_ask(asked, number))
        except WorkError as error:
            failed.append(error.fact)

    started_s = time.perf_counter()
    with ThreadPoolExecutor(max_workers=users) as pool:
        list(pool.map(ask, range(first_number, first_number + requests)))
    lasted_s = time.perf_counter() - started_s
    return Level(users=users, answers=tuple(answers), failed=tuple(failed), lasted_s=lasted_s)


def _ask(asked: Asked, number: int) -> Streamed:
    prompt, timeout_s = prompt_of(asked.prompt_tokens, number), asked.timeout_s
    return streamed(
        asked.address,
        asked.endpoint,
        asked.model,
        prompt,
        asked.new_tokens,
        timeout_s=timeout_s,
        whole=asked.whole,
    )


def sweep(asked: Asked, users: tuple[int, ...], rounds: int, told: Callable[[str], None]) -> list[Level]:
    """Each number of users in turn, after one request that warms the server up.

    Raises:
        WorkError: the server answers not even that.
    """
    asked = _warmed(asked)
    levels, number = [], 1
    for many in users:
        told(f"{many} users, {many * rounds} requests")
        levels.append(level_of(asked, many, many * rounds, number))
        number += many * rounds
    return levels


def _warmed(asked: Asked) -> Asked:
    """The first request; a server that does not know how to give whole answers is not asked for them again."""
    try:
        _ask(asked, 0)
    except RefusedError as error:
        if "ignore_eos" not in error.fact:
            raise
        asked = replace(asked, whole=False)
        _ask(asked, 0)
    return asked
