"""How far are predictions from figures that others published for cards of consumers? Nothing was fitted to them.

python benchmarks/consumer_cards.py
"""

from __future__ import annotations

from dataclasses import dataclass

from hwprof.deploy.engine import engine_file
from hwprof.deploy.formats import formats_of
from hwprof.deploy.links import links_of
from hwprof.deploy.names import known_model
from hwprof.deploy.passes import Deployment
from hwprof.deploy.space import Demand, offers_of
from hwprof.specs.catalogue.lookup import load_device


@dataclass(frozen=True, kw_only=True)
class Published:
    """New tokens a second of all users."""

    source: str
    software: str
    model: str
    card: str
    weights: str
    prompt: int
    new: int
    users: int
    token_per_s: float


LLAMA_CPP = "github.com/ggml-org/llama.cpp/pull/4766 (llama-bench tg 128)"
MLC = "github.com/mlc-ai/llm-perf-bench/pull/1"
TINYGRAD = "github.com/tinygrad/tinygrad/pull/3837"
MISTRAL = "mushfiqrahman.dev/?p=1668 (vLLM, 256 -> 128 tokens)"
A100 = "johnmusgrave.com/p/vllm-throughput-latency-sweep-on (vLLM 0.23.0)"
ONE = {"prompt": 1, "new": 128, "users": 1}

ROWS = (
    Published(
        source=LLAMA_CPP,
        software="llama.cpp",
        model="llama-2-7b",
        card="rtx-4090",
        weights="bf16",
        token_per_s=61.03,
        **ONE,
    ),
    Published(
        source=LLAMA_CPP,
        software="llama.cpp",
        model="llama-2-7b",
        card="rtx-4090",
        weights="int8",
        token_per_s=98.13,
        **ONE,
    ),
    Published(
        source=TINYGRAD,
        software="tinygrad",
        model="llama-1-7b",
        card="rtx-3090",
        weights="bf16",
        token_per_s=50.9,
        **ONE,
    ),
    Published(
        source=MLC, software="MLC", model="llama-2-7b", card="rtx-4090", weights="int4", token_per_s=191.0, **ONE
    ),
    Published(
        source=MLC, software="MLC", model="llama-2-13b", card="rtx-4090", weights="int4", token_per_s=108.8, **ONE
    ),
    Published(
        source=MLC, software="MLC", model="llama-2-7b", card="rtx-3090-ti", weights="int4", token_per_s=166.7, **ONE
    ),
    Published(
        source=MLC, software="MLC", model="llama-2-13b", card="rtx-3090-ti", weights="int4", token_per_s=99.2, **ONE
    ),
    *(
        Published(
            source=MISTRAL,
            software="vLLM",
            model="mistral-7b",
            card="rtx-4090",
            weights="bf16",
            prompt=256,
            new=128,
            users=users,
            token_per_s=rate,
        )
        for users, rate in ((4, 210.0), (8, 377.0), (16, 644.0), (32, 975.0))
    ),
    Published(
        source=A100,
        software="vLLM",
        model="llama-3.1-8b",
        card="a100-sxm4-40gb",
        weights="bf16",
        prompt=1024,
        new=128,
        users=1,
        token_per_s=75.0,
    ),
)


def predicted(row: Published) -> tuple[float, float, float]:
    """Tokens a second, and the ends of the interval of the time of a token."""
    model, device = known_model(row.model), load_device(row.card)
    formats = formats_of(model, device, row.weights, cache="bf16")
    deployment = Deployment(model=model, device=device, formats=formats, links=links_of(device.id))
    demand = Demand(prompt=row.prompt, new=row.new, users=(row.users,), apart=False)
    (offer,) = offers_of(deployment, "vllm", demand, engine_file(), most_devices=1, fixed={"tp": 1, "pp": 1}).offers
    rate = offer.token_per_s if row.users > 1 else offer.token_per_s_per_user
    low, high = (offer.tpot_s / end for end in reversed(offer.tpot_interval_s))
    return rate, rate * low, rate * high


def main() -> None:
    for row in ROWS:
        rate, low, high = predicted(row)
        inside = "inside" if low <= row.token_per_s <= high else "outside"
        print(
            f"{row.software:10} {row.model:12} {row.card:15} {row.weights:5} users {row.users:3}  published "
            f"{row.token_per_s:6.1f} tokens/s  predicted {rate:6.1f} ({rate / row.token_per_s - 1:+5.0%}, {inside})"
        )


if __name__ == "__main__":
    main()
