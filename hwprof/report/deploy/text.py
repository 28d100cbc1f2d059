"""How is a decision on servers printed in a terminal?"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from hwprof.deploy.decision import Decision, Service
from hwprof.deploy.requests.traffic import Traffic
from hwprof.deploy.rollout import Split
from hwprof.deploy.space import Demand, Offer
from hwprof.report.chinese import Language, phrase
from hwprof.report.deploy.tables import energy_words, layout_words, usd_words
from hwprof.units import format_fraction, format_quantity, format_seconds, format_span, number

SHOWN = 8


def decision_text(
    decision: Decision,
    demand: Demand,
    model: str,
    traffic: Traffic | None,
    shared: Sequence[Split],
    *,
    change: str = "",
    verbose: bool = False,
    language: Language = "en",
) -> str:
    """The services, what is cheapest, what was simulated, how a trainer shares the fleet, and the front.

    Within a screen the first service is told whole and the others in a line each; with ``verbose`` all, and what was
    refused. ``change`` says, where nothing will do, with what it would.
    """
    first = _answer(decision.services[0]) if decision.services else f"No: {_none(decision)}{change}"
    lines = [first, f"  {model}, prompts of {demand.prompt:,} tokens, answers of {demand.new:,}"]
    for service in decision.services[: None if verbose else 1]:
        lines += ["", *service_lines(service)]
    rest = () if verbose else decision.services[1:_OTHERS_SHOWN]
    lines += ["", *map(_answer, rest)] if rest else []
    if decision.cheapest is not None and decision.cheapest is not decision.services[0]:
        lines += ["", "cheapest", *service_lines(decision.cheapest)[: None if verbose else 1]]
    lines += [] if traffic is None else ["", *_traffic_lines(traffic)]
    lines += ["", "with a trainer", *map(_split_line, shared)] if shared else []
    if decision.front:
        lines += ["", "beaten by none: users, tokens/s of a user, tokens/s of a device"]
        lines += _front_lines(decision.front, SHOWN if verbose else _FRONT_SHOWN)
    if verbose or not decision.services:
        for name, reasons in decision.refused.items():
            lines += [f"  not: {name}: {reason} ({count})" for reason, count in reasons.items()]
    return "\n".join(map(phrase, lines) if language == "zh" else lines)


_OTHERS_SHOWN, _FRONT_SHOWN = 6, 4


def _none(decision: Decision) -> str:
    """Why no server will do."""
    goals, kept = decision.goals, [offer for offer in decision.offers if decision.goals.kept_by(offer)]
    if kept:
        requests = goals.qps or 0.0
        need = min(max(1, ceil(requests / offer.request_per_s)) * offer.devices for offer in kept)
        return f"it takes {need:,} devices, there are {goals.devices or 0:,}"
    if decision.offers:
        first = format_seconds(min(offer.ttft_s for offer in decision.offers))
        each = format_seconds(min(offer.tpot_s for offer in decision.offers))
        return f"slower than the goals: at best the first token after {first}, or {each} a token"
    refused = {reason: count for reasons in decision.refused.values() for reason, count in reasons.items()}
    return max(refused, key=lambda reason: refused[reason], default="no server can be laid out so")


def _front_lines(front: Sequence[Offer], most: int) -> list[str]:
    """Some of them, evenly chosen, in columns as wide as they need be."""
    step = max(1, -(-len(front) // most))
    rows = [
        (
            offer.deployment.device.id,
            layout_words(offer),
            f"{offer.users:,}",
            number(offer.token_per_s_per_user),
            number(offer.token_per_s_per_device),
        )
        for offer in front[::step]
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  " + "  ".join(f"{cell:{'<' if place < 2 else '>'}{widths[place]}}" for place, cell in enumerate(row))
        for row in rows
    ]


def _answer(service: Service) -> str:
    """What serves it best, in one line."""
    offer, tokens = service.offer, format_quantity(service.token_per_s, "count")
    times = f"first token {format_seconds(offer.ttft_s)}, then {format_seconds(offer.tpot_s)} each"
    return f"{service.devices} x {offer.deployment.device.id}: {tokens} tokens/s, {times}"


def _split_line(split: Split) -> str:
    parts = f"{split.generating} generate, {split.training} train"
    idle = " and ".join(format_fraction(share) for share in (split.idle_generating, split.idle_training))
    return (
        f"  {split.way:13} {parts:26} {format_seconds(split.iteration_s)} an iteration, idle {idle}, "
        f"{format_quantity(split.token_per_s, 'count')} tokens/s"
    )


def _traffic_lines(traffic: Traffic) -> list[str]:
    lines = [f"one server of the first, {traffic.requests:,} requests one by one ({traffic.policy})"]
    for name, spread in (("first token", traffic.ttft_s), ("a token", traffic.tpot_s)):
        shown = [format_seconds(value) for value in (spread.mean, spread.median, spread.p90, spread.p99)]
        lines.append(f"  {name:12} mean {shown[0]}, median {shown[1]}, 90 % below {shown[2]}, 99 % below {shown[3]}")
    return lines


def service_lines(service: Service) -> list[str]:
    """One service in words."""
    offer = service.offer
    sure = "" if service.confident else "; the far end of an interval does not keep to the goals"
    tokens = format_quantity(service.token_per_s, "count")
    servers = f"{service.replicas} server{'s' * (service.replicas != 1)}"
    kind = f"{servers} of {layout_words(offer)}, {offer.users} user{'s' * (offer.users != 1)} each"
    first, each = (format_span(interval, "s") for interval in (offer.ttft_interval_s, offer.tpot_interval_s))
    cost = f"a million tokens: {usd_words(service)}, {energy_words(service)}"
    formats = f"{offer.engine}, {offer.deployment.formats.word}"
    return [
        f"{service.devices} x {offer.deployment.device.id}: {kind}, {formats}",
        f"  first token  {format_seconds(offer.ttft_s)}  ({first})",
        f"  a token      {format_seconds(offer.tpot_s)}  ({each}){sure}",
        f"  throughput   {tokens} tokens/s, {offer.token_per_s_per_device:,.0f} of each device; {cost}",
    ]
