"""What does a serving engine add to its kernels? A few named numbers an engine, fitted to measured servers.

Kernels come from the kernel model; what an engine's scheduler, graphs and communication make of them is said by these
numbers, each within bounds that physics gives. ``benchmarks/fit_serving.py`` fits them, with whole models held out.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Literal, get_args

from pydantic import Field

from hwprof.errors import InputError
from hwprof.specs.files import data_roots
from hwprof.specs.frozen import Record
from hwprof.specs.parsing import build, read_toml

EngineName = Literal["vllm", "sglang", "trtllm"]
ENGINES: tuple[EngineName, ...] = get_args(EngineName)

Policy = Literal["mixed", "prompts first", "whole prompts"]

POLICIES: dict[EngineName, Policy] = {"vllm": "mixed", "sglang": "prompts first", "trtllm": "whole prompts"}
"""How prompts join: in pieces that fill a pass up beside the decoding sequences (vLLM's chunked prefill); in passes of
their own while tokens wait (SGLang's default); beside decoding sequences, each prompt whole (TensorRT-LLM's in-flight
batching without chunked context)."""

FILE = Path("hardware_specs") / "serving" / "engines.toml"


class EngineNumbers(Record):
    """The numbers of one engine.

    Attributes:
        product_factor, prefill_product_factor: time of products in a decode step, in a prompt's pass, over the kernel
            model's.
        floor_share: how much of a small product's fixed time stays when graphs launch it behind others.
        attention_factor, prefill_attention_factor: the same of attention.
        moved_factor: time of traffic over that at the usual share of the bandwidth.
        small_s: each kernel without a product.
        reduce_s: each sum over ranks, beside its bytes, by the engine's own kernel.
        latent_layer_s: what a layer with a latent cache takes beside its products.
        expert_layer_s: what a layer of routed experts takes beside its traffic and arithmetic.
        expert_compute_share: share of the peak that routed experts reach.
        prefill_expert_factor: time of routed experts in a prompt's pass over that.
        step_s: each pass, on the host.
        sequence_s: each sequence of a pass: sampling, stop conditions, text.
        interleave: how much of the prompts' time decoding sequences wait for.
        accepted_tokens: tokens that a pass with three drafted ones gives, in the mean.
        unstated_factor: time of a token over that of a plain step, where nobody knows whether tokens are drafted.
        request_s: each request before its first pass and after it: network, tokenizer, scheduling.
        prefill_factor: time of a prompt alone over its pass.
        step_wait: passes of others that a request waits for before it is ready.
        group_wait: further passes that it waits for where groups have sequences of their own, so that all of them have
            a prompt (TensorRT-LLM's ``attention_dp_config`` waits for up to 60).
        start_share: share of the requests that find all others before them, as those do that start a benchmark.
        apart_request_s, apart_prefill_factor, apart_start_share: the same of deployments whose prompts have servers of
            their own; the time to hand the cache over is in them.
        apart_wait_factor: there, waiting for other prompts over that of Poisson arrivals.
    """

    product_factor: float = Field(ge=0.5, le=2)
    prefill_product_factor: float = Field(ge=0.5, le=2)
    floor_share: float = Field(ge=0, le=1)
    attention_factor: float = Field(ge=0.5, le=2)
    prefill_attention_factor: float = Field(ge=0.5, le=2)
    moved_factor: float = Field(ge=0.5, le=4)
    small_s: float = Field(ge=2e-7, le=1e-5)
    reduce_s: float = Field(ge=1e-6, le=3e-5)
    latent_layer_s: float = Field(ge=0, le=1e-4)
    expert_layer_s: float = Field(ge=2e-6, le=2e-4)
    expert_compute_share: float = Field(ge=0.05, le=1)
    prefill_expert_factor: float = Field(ge=0.3, le=3)
    step_s: float = Field(ge=0, le=5e-3)
    sequence_s: float = Field(ge=0, le=1e-4)
    interleave: float = Field(ge=0.3, le=1.2)
    accepted_tokens: float = Field(ge=1, le=4)
    unstated_factor: float = Field(ge=0.4, le=1.2)
    request_s: float = Field(ge=0, le=2)
    prefill_factor: float = Field(ge=0.3, le=3)
    step_wait: float = Field(ge=0, le=10)
    group_wait: float = Field(ge=0, le=100)
    start_share: float = Field(ge=0, le=0.5)
    apart_request_s: float = Field(ge=0, le=5)
    apart_prefill_factor: float = Field(ge=0.1, le=3)
    apart_wait_factor: float = Field(ge=0, le=4)
    apart_start_share: float = Field(ge=0, le=0.5)


class ExpertNumbers(Record):
    """What the kernels of routed experts of one kind reach, whatever the engine.

    Attributes:
        traffic_factor: time over that of reading all experts at the full bandwidth that tokens would meet if they
            chose evenly; below 1 where they choose alike and meet fewer.
        layer_factor: fixed time of a layer over ``expert_layer_s``.
    """

    traffic_factor: float = Field(ge=0.6, le=5)
    layer_factor: float = Field(ge=0.3, le=4)


class HalfWidths(Record):
    """Half widths of 90 % intervals in natural logarithms, as held-out models show them.

    Attributes:
        tpot, ttft: of servers that do both.
        apart_tpot, apart_ttft: where prompts have servers of their own.
        unstated_tpot, unstated_ttft: where a deployment does not say how it is laid out.
    """

    tpot: float = Field(gt=0)
    ttft: float = Field(gt=0)
    apart_tpot: float = Field(gt=0)
    apart_ttft: float = Field(gt=0)
    unstated_tpot: float = Field(gt=0)
    unstated_ttft: float = Field(gt=0)


class EngineFile(Record):
    """All that is fitted to measured servers.

    Attributes:
        basis: what it was fitted to.
        engines: by name.
        experts: by kind, in the order of ``EXPERT_KINDS``.
        half_widths: of predictions.
    """

    basis: str
    engines: dict[EngineName, EngineNumbers]
    experts: dict[str, ExpertNumbers]
    half_widths: HalfWidths


@functools.lru_cache(maxsize=1)
def engine_file() -> EngineFile:
    """The file of fitted numbers.

    Raises:
        SpecError: it is not there, or wrong.
    """
    path = next((root / FILE for root in data_roots() if (root / FILE).is_file()), data_roots()[0] / FILE)
    return build(EngineFile, read_toml(path), path=path, example="h100-sxm")


def engine_named(text: str) -> EngineName:
    """The engine of a word.

    Raises:
        InputError: none is called so.
    """
    for name in ENGINES:
        if text.strip().lower() in {name, ALIASES.get(name, name)}:
            return name
    raise InputError(f"engine {text!r} is unknown", expectation=f"known: {', '.join(ENGINES)}")


ALIASES = {"trtllm": "tensorrt-llm"}
