"""What does the page on serving show? A decision as a verdict, rows and points; nothing after this computes."""

from __future__ import annotations

from dataclasses import dataclass

from hwprof.deploy.decision import Decision, Service
from hwprof.deploy.settings import settings_of
from hwprof.deploy.space import Demand
from hwprof.report import palette
from hwprof.report.cells import build_table
from hwprof.report.deploy.tables import (
    SETTINGS,
    energy_words,
    front_table,
    layout_words,
    note_table,
    reason_table,
    service_table,
    usd_words,
)
from hwprof.report.head import AnswerPage, card
from hwprof.report.pictures import Card, Line, Picture
from hwprof.units import format_quantity, format_seconds, format_span
from hwprof.version import __version__

_COLOURS = (palette.BLUE, palette.ORANGE, palette.GREEN, palette.PURPLE, palette.VERMILLION, palette.YELLOW)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployView(AnswerPage):
    """The page: ``pareto`` and the tables services, front, settings, rejected, assumptions."""

    pareto: Picture


def build_deploy_view(decision: Decision, demand: Demand, model: str) -> DeployView:
    """Everything that the page shows, scaled, rounded and in words."""
    best = decision.services[0] if decision.services else None
    settings = settings_of(best.offer, demand, model) if best else ()
    tables = (
        service_table(decision),
        front_table(decision),
        build_table("settings", "Settings of the first", SETTINGS, settings, empty="No server."),
        reason_table(decision),
        note_table(decision),
    )
    return DeployView(
        title=f"Serving {model}",
        subtitle=f"prompts of {demand.prompt:,} tokens, answers of {demand.new:,} · "
        f"{decision.evaluated:,} configurations",
        version=__version__,
        sentence=_sentence(best),
        caution="" if best is None or best.confident else _CAUTION,
        cards=() if best is None else _cards(best),
        pareto=pareto_picture(decision),
        tables={table.name: table for table in tables},
    )


_CAUTION = "The prediction keeps to the goals, the far end of its interval does not: measure one server before many."


def _sentence(best: Service | None) -> str:
    if best is None:
        return "No server keeps to the goals."
    offer = best.offer
    return (
        f"Take {best.devices:,} {offer.deployment.device.id}: {best.replicas:,} server{'s' * (best.replicas != 1)} "
        f"of {layout_words(offer)}, "
        f"{offer.users:,} users each."
    )


def _cards(best: Service) -> tuple[Card, ...]:
    offer = best.offer

    tokens, mine = (format_quantity(rate, "count") for rate in (best.token_per_s, offer.token_per_s_per_device))
    return (
        card("First token", format_seconds(offer.ttft_s), f"90 % interval {format_span(offer.ttft_interval_s, 's')}"),
        card("A token", format_seconds(offer.tpot_s), f"90 % interval {format_span(offer.tpot_interval_s, 's')}"),
        card("Tokens/s", tokens, f"{mine} of each device"),
        card("A million tokens", usd_words(best), f"{energy_words(best)}, all servers busy"),
    )


def pareto_picture(decision: Decision) -> Picture:
    """Tokens a second of a user against those of a device: every server, and those that no other beats."""
    title = "Fast for one user, or many tokens from each device"
    if not decision.offers:
        return Picture(name="pareto", title=title, empty="No server fits.")
    lines = []
    names = list(dict.fromkeys(offer.deployment.device.id for offer in decision.offers))
    for number, name in enumerate(names):
        own = [offer for offer in decision.offers if offer.deployment.device.id == name]
        lines.append(
            Line(
                name=name,
                xs=tuple(offer.token_per_s_per_user for offer in own),
                ys=tuple(offer.token_per_s_per_device for offer in own),
                colour=_COLOURS[number % len(_COLOURS)],
                style="dots",
                texts=tuple(f"{layout_words(offer)}, {offer.users} users" for offer in own),
            )
        )
    front = Line(
        name="beaten by none",
        xs=tuple(offer.token_per_s_per_user for offer in decision.front),
        ys=tuple(offer.token_per_s_per_device for offer in decision.front),
        colour=palette.BLACK,
        style="rings",
    )
    return Picture(
        name="pareto",
        title=title,
        x_title="tokens/s of a user",
        y_title="tokens/s of a device",
        lines=(*lines, front),
        log_x=True,
        log_y=True,
        legend=True,
        note="Ringed: no other server is faster for a user and gives more tokens from each device.",
    )
