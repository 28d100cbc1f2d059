"""What does a server hold on each device, and how many sequences fit beside the weights? The cache is kept in pages."""

from __future__ import annotations

import numpy as np

from hwprof.deploy.kernels import Floats, Share
from hwprof.deploy.passes import Deployment
from hwprof.errors import SpecError

PAGE_TOKENS = 16
"""Tokens of a page of the cache: vLLM's block (``--block-size``); SGLang's and TensorRT-LLM's are 1 to 64."""

USABLE = 0.9
"""Share of the memory that servers take for weights and cache: vLLM's ``--gpu-memory-utilization``."""

WORKSPACE_BYTES = 3e9
"""What a server holds beside them: contexts, graphs and activations of a chunk of 8,192 tokens (vLLM and SGLang report
2 to 4 GB at start)."""


def weights_bytes(deployment: Deployment, share: Share) -> Floats:
    """Bytes of weights on one device: projections and dense networks over tensor ranks, experts over all of theirs."""
    model, formats = deployment.model, deployment.formats
    over_ranks = model.mixing_weights * formats.mixing.weight_bytes + model.dense_weights * formats.dense.weight_bytes
    tables = 2.0 * (model.table_weights + model.other_weights)
    experts = model.expert_weights * formats.experts.weight_bytes / (share.ep * share.moe_tp)
    held: Floats = ((over_ranks + tables) / share.tp + experts) / share.pp
    return held


def sequence_bytes(deployment: Deployment, share: Share, tokens: Floats) -> Floats:
    """Bytes of the cache of one sequence of so many tokens, in whole pages, on one device of its group."""
    pages = np.ceil(tokens / PAGE_TOKENS) * PAGE_TOKENS
    held = np.zeros(len(pages))
    for mixing in deployment.model.mixing:
        split = np.minimum(share.tp, mixing.kv_heads) if mixing.kind == "heads" else np.ones(len(pages))
        kept = np.minimum(pages, mixing.window or np.inf)
        cached = mixing.cached_numbers * deployment.formats.cache_bytes * kept / split
        held += mixing.layers * (cached + mixing.state_bytes / share.tp)
    bytes_held: Floats = held / share.pp
    return bytes_held


def room_bytes(deployment: Deployment, share: Share, usable: float = USABLE) -> Floats:
    """What is left of one device's memory for the cache; negative where the weights alone do not fit.

    Raises:
        SpecError: the memory's size is not known.
    """
    capacity = deployment.capacity_bytes or deployment.device.memory.capacity_bytes
    if capacity is None:
        raise SpecError(
            f"the memory capacity of {deployment.device.id} is not known",
            expectation="a server fills it with weights and cache",
            remedy="give it (--device-memory), or name another device",
        )
    left: Floats = usable * capacity - WORKSPACE_BYTES - weights_bytes(deployment, share)
    return left


def most_sequences(deployment: Deployment, share: Share, tokens: Floats, usable: float = USABLE) -> Floats:
    """How many sequences of so many tokens one server holds at once, in all its groups; 0 where none fits."""
    one = sequence_bytes(deployment, share, tokens)
    many: Floats = np.floor(np.maximum(room_bytes(deployment, share, usable), 0.0) / one) * share.dp
    return many
