"""Which servers keep to the goals, how many of them answer so many requests, and what do they cost?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np

from hwprof.deploy.space import Offer, Offers
from hwprof.plan.answer.cost import HOUR_S, JOULE_PER_KWH, RunningRates
from hwprof.plan.answer.pareto import front

MILLION = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Goals:
    """What users want; None = does not matter.

    Attributes:
        ttft_s, tpot_s: longest times to the first token, and of each further one, in the mean.
        qps: requests a second over all servers.
        devices: that there are.
    """

    ttft_s: float | None = None
    tpot_s: float | None = None
    qps: float | None = None
    devices: int | None = None

    def kept_by(self, offer: Offer) -> bool:
        """Whether a server keeps to the times."""
        first = self.ttft_s is None or offer.ttft_s <= self.ttft_s
        return first and (self.tpot_s is None or offer.tpot_s <= self.tpot_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """So many servers of one kind.

    Attributes:
        offer: the kind, at its number of users.
        replicas: how many.
        rates: of an hour of one device.
        confident: whether the far ends of the intervals keep to the goals, too.
    """

    offer: Offer
    replicas: int
    rates: RunningRates
    confident: bool

    @property
    def devices(self) -> int:
        """All devices."""
        return self.replicas * self.offer.devices

    @property
    def token_per_s(self) -> float:
        """New tokens of all servers."""
        return self.replicas * self.offer.token_per_s

    @property
    def usd_per_hour(self) -> tuple[float, float] | None:
        """At the lowest and the highest price; None = no price is known."""
        price = self.rates.usd_per_hour
        return (price[0] * self.devices, price[1] * self.devices) if price else None

    @property
    def usd_per_million_tokens(self) -> tuple[float, float] | None:
        """Of new tokens, all servers busy."""
        price = self.rates.usd_per_hour
        hours = MILLION / self.offer.token_per_s_per_device / HOUR_S
        return (price[0] * hours, price[1] * hours) if price else None

    @property
    def power_w(self) -> float | None:
        """Of devices and building; None = no power is known."""
        return None if self.rates.watt is None else self.rates.watt * self.rates.pue * self.devices

    @property
    def kwh_per_million_tokens(self) -> float | None:
        """Of new tokens, all servers busy; None = no power is known."""
        power = self.power_w
        return None if power is None else power * MILLION / self.token_per_s / JOULE_PER_KWH


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What is best.

    Attributes:
        offers: all that fit, of all devices.
        goals: what they should keep to.
        services: of each device the one with the fewest devices (the most tokens from each without a number of
            requests), those first that need fewest; empty where none keeps to the goals.
        cheapest: the service with the lowest price (of all servers; of a token without a number of requests); None
            where no price is known or none keeps to them.
        front: offers that no other beats in tokens a second of a user and of a device.
        refused: device -> reason -> how many.
        evaluated: configurations that were looked at.
    """

    offers: tuple[Offer, ...]
    goals: Goals
    services: tuple[Service, ...]
    cheapest: Service | None
    front: tuple[Offer, ...]
    refused: dict[str, dict[str, int]]
    evaluated: int


def decided(found: Sequence[tuple[str, Offers, RunningRates]], goals: Goals) -> Decision:
    """The best services of several devices.

    Args:
        found: name of a device, its servers, what it costs.
        goals: what users want.
    """
    offers = tuple(offer for _, some, _ in found for offer in some.offers)
    refused = {name: dict(some.refused) for name, some, _ in found}
    best, priced = [], []
    for name, some, rates in found:
        kept = [offer for offer in some.offers if goals.kept_by(offer)]
        services = [service for offer in kept if (service := _service(offer, goals, rates)) is not None]
        missed = len(some.offers) - len(kept)
        if missed:
            refused[name]["slower than the goals"] = missed
        if len(services) < len(kept):
            refused[name]["more devices than there are"] = len(kept) - len(services)
        if services:
            best.append(min(services, key=lambda one: _order(one, goals)))
            priced += [service for service in services if service.usd_per_million_tokens]
    return Decision(
        offers=offers,
        goals=goals,
        services=tuple(sorted(best, key=lambda one: _order(one, goals))),
        cheapest=min(priced, key=lambda one: _price(one, goals)) if priced else None,
        front=_front(offers),
        refused=refused,
        evaluated=sum(some.evaluated for _, some, _ in found),
    )


def _service(offer: Offer, goals: Goals, rates: RunningRates) -> Service | None:
    """As many servers as answer the requests; without their number as many as there are devices for, at least one."""
    if goals.qps is not None:
        replicas = max(1, ceil(goals.qps / offer.request_per_s))
    else:
        replicas = (goals.devices or offer.devices) // offer.devices
    if replicas < 1 or (goals.devices is not None and replicas * offer.devices > goals.devices):
        return None
    first = goals.ttft_s is None or offer.ttft_interval_s[1] <= goals.ttft_s
    each = goals.tpot_s is None or offer.tpot_interval_s[1] <= goals.tpot_s
    return Service(offer=offer, replicas=replicas, rates=rates, confident=first and each)


def _order(service: Service, goals: Goals) -> tuple[float, float]:
    """Fewest devices for the requests, then the fastest; without a number of requests most tokens of a device."""
    if goals.qps is not None:
        return service.devices, service.offer.tpot_s
    return -service.offer.token_per_s_per_device, service.offer.tpot_s


def _price(service: Service, goals: Goals) -> float:
    """Of all servers where they answer a number of requests, else of their tokens; middle of the prices."""
    price = service.usd_per_million_tokens if goals.qps is None else service.usd_per_hour
    assert price is not None
    return sum(price) / 2


def _front(offers: Sequence[Offer]) -> tuple[Offer, ...]:
    if not offers:
        return ()
    points = np.array([[-offer.token_per_s_per_user, -offer.token_per_s_per_device] for offer in offers])
    kept = [offers[place] for place in front(points)]
    return tuple(sorted(kept, key=lambda offer: offer.token_per_s_per_user))
