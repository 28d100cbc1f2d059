"""How many rows does the busiest rank of an expert layer get? Routing by a power law, as benchmarks draw it."""

from __future__ import annotations

import functools
from math import log, sqrt

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

HIGHEST = 0.8
"""Largest load of an expert that is drawn, over the tokens; the smallest is one (TensorRT-LLM's and AIConfigurator's
expert benchmarks)."""


ROUNDS = 50
"""So many times what is above the bound is handed on; each round leaves a share of it."""


@functools.lru_cache(maxsize=4096)
def busiest_over_mean(experts: int, ranks: int, tokens: int, experts_per_token: int, exponent: float) -> float:
    """Rows of the busiest of ``ranks`` over the mean, when experts' loads follow a power law; 1 for exponent 0.

    The loads are the quantiles of the law. The most of so many sums of as many random loads is their mean and
    sqrt(2 ln ranks) standard deviations (the maximum of normal variables), at most the sum of the largest loads.
    """
    if exponent == 0 or ranks == 1:
        return 1.0
    loads = _loads(experts, tokens, exponent)
    for _ in range(ROUNDS):
        loads = np.minimum(loads, experts / experts_per_token)  # an expert gets a token once, others get the rest
        loads /= loads.mean()
    on_rank = max(1, experts // ranks)
    most = float(np.sort(loads)[-on_rank:].mean())
    return min(1 + float(loads.std()) / sqrt(on_rank) * sqrt(2 * log(ranks)), most)


def _loads(experts: int, tokens: int, exponent: float) -> Floats:
    """Loads of experts, of mean 1: quantiles of the density x^-exponent between 1 and a share of the tokens."""
    highest = max(HIGHEST * tokens, 2.0)
    quantiles = (np.arange(experts) + 0.5) / experts
    power = 1 - exponent
    loads = highest**quantiles if power == 0 else (1 + quantiles * (highest**power - 1)) ** (1 / power)
    mean_one: Floats = loads / loads.mean()
    return mean_one
