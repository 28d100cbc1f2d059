"""What do requests see that come one by one at a chosen server: at random, or as a file says?"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hwprof.deploy.engine import POLICIES, EngineFile, Policy
from hwprof.deploy.kernels import Floats, Share
from hwprof.deploy.requests.events import Answers, PassCosts, Requests, closed_loop, poisson, simulated
from hwprof.deploy.server import Fleet, Load, numbers_of, passes_of, queue_of
from hwprof.deploy.space import Demand, Offer
from hwprof.errors import InputError

COLUMNS = ("arrival_s", "prompt_tokens", "new_tokens")

RANDOM_REQUESTS = 2000
"""So many requests come where they come at random: their mean wait is then known to a few per cent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Times of requests: mean, median, and what nine and 99 of 100 stay below."""

    mean: float
    median: float
    p90: float
    p99: float

    @classmethod
    def of(cls, values: Floats) -> Spread:
        """Of measured or simulated times."""
        median, p90, p99 = (float(np.quantile(values, share)) for share in (0.5, 0.9, 0.99))
        return cls(mean=float(values.mean()), median=median, p90=p90, p99=p99)


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What came of requests at one server.

    Attributes:
        policy: how prompts joined.
        requests: how many came.
        ttft_s, tpot_s: of them all.
        request_per_s: answered.
    """

    policy: Policy
    requests: int
    ttft_s: Spread
    tpot_s: Spread
    request_per_s: float


def read_arrivals(path: Path) -> Requests:
    """Requests of a CSV file with ``arrival_s, prompt_tokens, new_tokens``, in order of arrival.

    Raises:
        InputError: it can't be read, or has not these columns, or no numbers in them.
    """
    try:
        rows = list(csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines()))
        columns = {name: np.array([float(row[name]) for row in rows]) for name in COLUMNS}
    except (OSError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"cannot read arrivals of {path}: {error}", expectation=f"a CSV file with numbers in {', '.join(COLUMNS)}"
        ) from error
    if not rows or not all((columns[name] > 0).all() for name in COLUMNS[1:]):
        raise InputError(f"{path} has no request, or one without tokens", expectation="at least one, with tokens")
    return Requests(arrival_s=columns["arrival_s"], prompt=columns["prompt_tokens"], new=columns["new_tokens"])


def arrivals_of(word: str, offer: Offer, demand: Demand, *, rate_per_s: float | None, seed: int) -> Requests:
    """The requests of a word: ``poisson``, so many a second at random; ``closed``, the offer's users; or a file.

    Raises:
        InputError: ``poisson`` without a rate; as ``read_arrivals``.
    """
    if word == "closed":
        return closed_loop(offer.users, ROUNDS * offer.users, demand.prompt, demand.new, seed)
    if word != "poisson":
        return read_arrivals(Path(word))
    if rate_per_s is None:
        raise InputError("arrivals at random without a rate", remedy="say how many requests come in a second: --qps")
    return poisson(rate_per_s, RANDOM_REQUESTS, demand.prompt, demand.new, seed)


ROUNDS = 20
"""Requests of each user of a closed loop."""


def traffic_at(offer: Offer, demand: Demand, file: EngineFile, requests: Requests) -> Traffic:
    """Requests at one server.

    Raises:
        InputError: as ``simulated``.
    """
    policy = POLICIES[offer.engine]
    groups = offer.prefillers * offer.dp if offer.apart else 0
    found: Answers = simulated(requests, costs_of(offer, demand, file), policy, prompt_servers=groups)
    return Traffic(
        policy=policy,
        requests=len(requests.arrival_s),
        ttft_s=Spread.of(found.ttft_s),
        tpot_s=Spread.of(found.tpot_s),
        request_per_s=found.request_per_s if len(found.end_s) > 1 else 0.0,
    )


def costs_of(offer: Offer, demand: Demand, file: EngineFile) -> PassCosts:
    """What passes of a server take, at doubling numbers of sequences up to its room."""
    most = max(1, min(offer.room, MOST_SEQUENCES))
    counts = np.unique(np.append(2.0 ** np.arange(np.floor(np.log2(most)) + 1), float(most)))
    one = np.ones(len(counts))
    share = Share(tp=offer.tp * one, dp=offer.dp * one, ep=offer.ep * one, moe_tp=offer.moe_tp * one, pp=offer.pp * one)
    yes = np.ones(len(counts), dtype=bool)
    apart = yes & offer.apart
    fleet = Fleet(decode=share, decoders=one, prefill=share, prefillers=one, apart=apart, stated=yes)
    load = Load(
        prompt=demand.prompt * one,
        new=demand.new * one,
        users=counts,
        reused=demand.reused * one,
        drafts=yes & (demand.accepted is not None),
        perhaps=~yes,
        accepted=np.full(len(counts), demand.accepted or np.nan),
    )
    passes = passes_of(offer.deployment, fleet, load)
    engines = [offer.engine] * len(counts)
    queue = queue_of(passes, fleet, load, numbers_of(file, engines, passes.step.expert_kind), engines)
    usual = int(np.argmin(np.abs(counts - offer.users)))
    return PassCosts(
        sequences=tuple(counts.tolist()),
        step_s=tuple(queue.step_s.tolist()),
        prompt_token_s=float(queue.prompt_s[0]) / demand.prompt,
        request_s=float(queue.before_s[usual]),
        hand_over_s=float(queue.hand_over_s[0]),
        room=most,
        budget=int(queue.budget_tokens[0]),
        accepted=demand.accepted or 1.0,
    )


MOST_SEQUENCES = 4096
"""More sequences at once than any published server runs."""
