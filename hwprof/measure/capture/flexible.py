"""What stands for ``flex_attention`` while a module is captured? It has no backward pass on a CPU, real or fake."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (the name that torch's own documentation uses)
from torch.utils._python_dispatch import _disable_current_modes

try:
    from torch.nn.attention import flex_attention as own
except ImportError:  # torch 2.4 has none, so nobody calls it
    own = None  # type: ignore[assignment]

_FLEXIBLE = ("score_mod", "block_mask", "scale", "enable_gqa", "return_lse", "kernel_options")
"""What ``flex_attention`` takes after query, key and value."""

_STAND_IN = "_hwprof_stand_in"
_SEEN = 32
"""Places along a sequence at which a mask is looked at."""


@contextmanager
def without_flex_kernels() -> Iterator[None]:
    """All scores in its place, as torch's counter counts them; whoever holds the function calls the same."""
    if own is None:
        yield
        return
    function: Any = own.flex_attention
    before = function.__code__, function.__defaults__, function.__kwdefaults__
    setattr(own, _STAND_IN, _all_of_attention)
    function.__code__, function.__defaults__, function.__kwdefaults__ = _calling.__code__, None, None
    try:
        yield
    finally:
        function.__code__, function.__defaults__, function.__kwdefaults__ = before
        delattr(own, _STAND_IN)


def _calling(*given: Any, **named: Any) -> Any:
    """Runs with the names of torch's own module, and looks the other up there."""
    return _hwprof_stand_in(*given, **named)  # type: ignore[name-defined]  # noqa: F821 (see above)


def _all_of_attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *more: Any, **named: Any) -> Any:
    given = dict(zip(_FLEXIBLE, more, strict=False)) | named
    mixed = F.scaled_dot_product_attention(
        query,
        key,
        value,
        scale=given.get("scale"),
        enable_gqa=bool(given.get("enable_gqa")),
        is_causal=_is_causal(given.get("block_mask"), query.shape[-2], key.shape[-2]),
    )
    beside = mixed[..., 0]
    if given.get("return_aux") is not None:
        return mixed, own.AuxOutput(lse=beside, max_scores=beside)
    return (mixed, beside) if given.get("return_lse") else mixed


def _is_causal(mask: Any, queries: int, keys: int) -> bool:
    """Whether a mask hides what comes after a token and nothing else, wherever it is looked at."""
    if mask is None or queries != keys:
        return False
    with _disable_current_modes():
        places = torch.linspace(0, queries - 1, min(queries, _SEEN)).long()
        query, key, first = places[:, None], places[None, :], torch.zeros((), dtype=torch.int64)
        try:
            seen = torch.as_tensor(mask.mask_mod(first, first, query, key))
        except Exception:  # noqa: BLE001 (it asks for tensors that are fake)
            return False
        return bool((seen.broadcast_to(query.shape[0], key.shape[1]) == (query >= key)).all())
