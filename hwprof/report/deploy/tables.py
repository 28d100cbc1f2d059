"""Which columns do servers have, in files and for people? Each kind of server at each number of users, and services."""

from __future__ import annotations

from hwprof.deploy.decision import Decision, Service
from hwprof.deploy.settings import EngineSettings
from hwprof.deploy.space import Offer
from hwprof.report.cells import Field, Table, build_sheet, build_table, chosen, yes
from hwprof.units import format_quantity, format_span


def layout_words(offer: Offer) -> str:
    """A server's layout in a line; degrees of 1 are left out: ``tp8``, ``dp8 ep8 + 2 for prompts``."""
    degrees = {"tp": offer.tp, "dp": offer.dp, "ep": offer.ep, "pp": offer.pp}
    words = " ".join(f"{name}{degree}" for name, degree in degrees.items() if degree > 1) or "one device"
    return f"{words} + {offer.prefillers} for prompts" if offer.apart else words


def usd_words(service: Service) -> str:
    """What a million new tokens cost."""
    return format_span(service.usd_per_million_tokens, "usd") if service.usd_per_million_tokens else "no price known"


def energy_words(service: Service) -> str:
    """What a million new tokens take from the grid."""
    kwh = service.kwh_per_million_tokens
    return "no power known" if kwh is None else format_quantity(1e3 * kwh, "watt_hour")


OFFERS: tuple[Field[Offer], ...] = (
    Field("hardware", "Hardware", lambda one: one.deployment.device.id),
    Field("engine", "Engine", lambda one: one.engine),
    Field("weights", "Weights", lambda one: one.deployment.formats.word),
    Field("layout", "Layout", layout_words),
    Field("tensor_parallel", "Tensor", lambda one: one.tp, "count"),
    Field("data_parallel", "Data", lambda one: one.dp, "count"),
    Field("expert_parallel", "Expert", lambda one: one.ep, "count"),
    Field("pipeline_parallel", "Pipeline", lambda one: one.pp, "count"),
    Field("prefill_servers", "Servers for prompts", lambda one: one.prefillers, "count"),
    Field("devices", "Devices", lambda one: one.devices, "count"),
    Field("users", "Users", lambda one: one.users, "count"),
    Field("largest_batch", "Largest batch", lambda one: one.room, "count"),
    Field("ttft_s", "First token", lambda one: one.ttft_s, "s"),
    Field("ttft_lo_s", "First token from", lambda one: one.ttft_interval_s[0], "s"),
    Field("ttft_hi_s", "First token to", lambda one: one.ttft_interval_s[1], "s"),
    Field("tpot_s", "A token", lambda one: one.tpot_s, "s"),
    Field("tpot_lo_s", "A token from", lambda one: one.tpot_interval_s[0], "s"),
    Field("tpot_hi_s", "A token to", lambda one: one.tpot_interval_s[1], "s"),
    Field("requests_per_s", "Requests/s", lambda one: one.request_per_s, "count"),
    Field("tokens_per_s", "Tokens/s", lambda one: one.token_per_s, "count"),
    Field("tokens_per_s_per_user", "Tokens/s/user", lambda one: one.token_per_s_per_user, "count"),
    Field("tokens_per_s_per_device", "Tokens/s/device", lambda one: one.token_per_s_per_device, "count"),
)

SERVICES: tuple[Field[Service], ...] = (
    Field("hardware", "Hardware", lambda one: one.offer.deployment.device.id),
    Field("layout", "Layout of a server", lambda one: layout_words(one.offer)),
    Field("devices", "Devices", lambda one: one.devices, "count"),
    Field("tokens_per_s", "Tokens/s", lambda one: one.token_per_s, "count"),
    Field("ttft", "First token", lambda one: one.offer.ttft_s, "s"),
    Field("tpot", "A token", lambda one: one.offer.tpot_s, "s"),
    Field("usd", "A million tokens", usd_words),
    Field("replicas", "Servers", lambda one: one.replicas, "count"),
    Field("users", "Users of a server", lambda one: one.offer.users, "count"),
    Field("ttft_interval", "90 % of the first", lambda one: format_span(one.offer.ttft_interval_s, "s")),
    Field("tpot_interval", "90 % of a token", lambda one: format_span(one.offer.tpot_interval_s, "s")),
    Field("energy", "Energy of them", energy_words),
    Field("confident", "Sure", lambda one: yes(answer=one.confident), meaning="intervals keep to the goals, too"),
)
"""What decides stands first, so that a narrow screen shows it."""

SETTINGS: tuple[Field[EngineSettings], ...] = (
    Field("engine", "Engine", lambda one: one.engine),
    Field("command", "Command", lambda one: one.command, style="code"),
    Field("lacks", "Not in it", lambda one: "; ".join(one.lacks) or None, style="long"),
)

Reason = tuple[str, str, int]

REASONS: tuple[Field[Reason], ...] = (
    Field("hardware", "Hardware", lambda one: one[0]),
    Field("reason", "Reason", lambda one: one[1], style="long"),
    Field("count", "Configurations", lambda one: one[2], "count"),
)

Note = tuple[str, str]

NOTES: tuple[Field[Note], ...] = (
    Field("hardware", "Hardware", lambda one: one[0]),
    Field("assumption", "Rests on", lambda one: one[1], style="long"),
)


def offer_sheet(decision: Decision) -> Table:
    """All rows, for a file."""
    return build_sheet("deploy", "Servers", OFFERS, decision.offers)


def service_table(decision: Decision) -> Table:
    """The best of each device."""
    return build_table("services", "Best on each", SERVICES, decision.services, empty="No server keeps to the goals.")


def front_table(decision: Decision) -> Table:
    """What no other server beats."""
    fields = chosen(OFFERS, "hardware layout devices users ttft_s tpot_s tokens_per_s_per_user tokens_per_s_per_device")
    return build_table("front", "Beaten by none", fields, decision.front, empty="No server fits.")


def reason_table(decision: Decision) -> Table:
    """Why the others are not there."""
    rows = [(name, reason, count) for name, all_of in decision.refused.items() for reason, count in all_of.items()]
    return build_table("rejected", "Ruled out", REASONS, rows, empty="Nothing was ruled out.")


def note_table(decision: Decision) -> Table:
    """What the numbers rest on."""
    rows = []
    for service in decision.services:
        deployment = service.offer.deployment
        said = (*deployment.model.assumptions, *deployment.formats.assumptions, *service.rates.basis)
        rows += [(deployment.device.id, note) for note in said]
    return build_table("assumptions", "Rests on", NOTES, rows, empty="On nothing but the kernel model.")
