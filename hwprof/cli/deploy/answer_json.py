"""How does a decision on servers become JSON? Field names are a contract."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from hwprof.deploy.decision import Decision, Service
from hwprof.deploy.requests.traffic import Traffic
from hwprof.deploy.rollout import Split
from hwprof.deploy.settings import settings_of
from hwprof.deploy.space import Demand, Offer


def decision_json(
    decision: Decision, demand: Demand, model: str, traffic: Traffic | None, shared: Sequence[Split]
) -> dict[str, Any]:
    """Rows and answer; what was simulated at one server of it, and how its fleet is shared with a trainer."""
    best = decision.services[0] if decision.services else None
    return {
        "model": model,
        "prompt_tokens": demand.prompt,
        "new_tokens": demand.new,
        "goals": dataclasses.asdict(decision.goals),
        "evaluated": decision.evaluated,
        "rows": [_row(offer) for offer in decision.offers],
        "front": [_row(offer) for offer in decision.front],
        "rejected": decision.refused,
        "by_hardware": [_service(one, demand, model) for one in decision.services],
        "answer": None if best is None else _service(best, demand, model),
        "simulation": None if traffic is None else dataclasses.asdict(traffic),
        "splits": [dataclasses.asdict(one) for one in shared],
        "cheapest": None if decision.cheapest is None else _service(decision.cheapest, demand, model),
    }


def _row(offer: Offer) -> dict[str, Any]:
    return {
        "hardware": offer.deployment.device.id,
        "engine": offer.engine,
        "weights": offer.deployment.formats.word,
        "tp": offer.tp,
        "dp": offer.dp,
        "ep": offer.ep,
        "moe_tp": offer.moe_tp,
        "pp": offer.pp,
        "mode": "disagg" if offer.apart else "agg",
        "prefill_servers": offer.prefillers,
        "devices": offer.devices,
        "users": offer.users,
        "largest_batch": offer.room,
        "weights_bytes_per_device": offer.weights_bytes,
        "cache_bytes_per_device": offer.room_bytes,
        "ttft_s": offer.ttft_s,
        "ttft_interval_s": offer.ttft_interval_s,
        "tpot_s": offer.tpot_s,
        "tpot_interval_s": offer.tpot_interval_s,
        "requests_per_s": offer.request_per_s,
        "tokens_per_s": offer.token_per_s,
        "tokens_per_s_per_user": offer.token_per_s_per_user,
        "tokens_per_s_per_device": offer.token_per_s_per_device,
    }


def _service(service: Service, demand: Demand, model: str) -> dict[str, Any]:
    offer = service.offer
    return {
        **_row(offer),
        "replicas": service.replicas,
        "devices": service.devices,
        "devices_per_replica": offer.devices,
        "confident": service.confident,
        "usd_per_hour": service.usd_per_hour,
        "usd_per_million_tokens": service.usd_per_million_tokens,
        "power_w": service.power_w,
        "kwh_per_million_tokens": service.kwh_per_million_tokens,
        "settings": [dataclasses.asdict(one) for one in settings_of(offer, demand, model)],
        "assumptions": [
            *offer.deployment.model.assumptions,
            *offer.deployment.formats.assumptions,
            *service.rates.basis,
        ],
    }
