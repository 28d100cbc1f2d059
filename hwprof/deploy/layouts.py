"""Which servers does a row of a published table mean? Its degrees, read as the tables write them.

Tables name degrees of tensor, data and expert parallelism in more than one way. What is read how stands beside each
rule; whatever a row leaves open is assumed as such servers usually are, and noted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import floor, isfinite, log2, nan

import numpy as np

from hwprof.deploy.kernels import Share
from hwprof.deploy.memory import room_bytes
from hwprof.deploy.passes import Deployment
from hwprof.units import format_fraction

Degrees = tuple[float, float, float, float, float]
"""Tensor, data, expert, expert-tensor and pipeline parallel degrees of one server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Servers of one row; fields as in ``Fleet``, ``users`` 0 where the row does not say."""

    decode: Degrees
    decoders: float
    prefill: Degrees
    prefillers: float
    apart: bool
    stated: bool
    users: float
    notes: tuple[str, ...]


MANY_USERS = 18.0
"""Users for each device from which servers of models with a latent cache are assumed to give each device sequences of
its own, since that cache is not split over heads (SGLang and TensorRT-LLM documentation on data parallel attention)."""

USUAL_DECODERS = 4.0
"""Servers with tensor parallel ranks that usually decode beside one for prompts, where a row does not say (recipes of
InferenceX: one for prompts and three to nine; with data parallel attention usually one)."""

DECODING_SHARE = 2 / 3
"""Share of all devices that decode, where a row says only how many devices there are: 48 of an NVL72 (SGLang's
large-scale expert parallelism on GB200, recipes of InferenceX)."""

LARGEST_SERVER = 16


def fleet_of_row(row: Mapping[str, str], deployment: Deployment) -> Layout:
    """The servers of a row."""
    apart = row["mode"] == "disagg"
    users = _number(row, "concurrency")
    if not apart:
        return _together(row, deployment, users if users > 0 else 0.0)
    decode, prefill = _degrees(row, "decode_", deployment), _degrees(row, "prefill_", deployment)
    decoders, prefillers = _number(row, "decode_num_workers"), _number(row, "prefill_num_workers")
    if not users > 0:
        batch = _number(row, "decode_batch_size")
        users = batch * (decoders if decoders > 0 else 1.0) * decode[1] if batch > 0 else 0.0
    if decoders > 0 and prefillers > 0:
        return _layout(decode, decoders, prefill, prefillers, apart=True, stated=True, users=users)
    total = _total(row, "decode_", deployment, decode, both=True)
    if total:
        return _of_total(total, users)
    notes = ["how many servers there are is not said: one for prompts"]
    each = users / _devices(decode)
    if _latent(deployment):
        if decode[1] == 1 and _devices(decode) > 1 and (each > MANY_USERS or _devices(decode) > LARGEST_SERVER):
            decode = _apart_attention(decode)
        if prefill[1] == 1 and _devices(prefill) > 1 and each > MANY_USERS:
            prefill = _apart_attention(prefill)
    many = 1.0 if decode[1] > 1 else USUAL_DECODERS
    notes.append(f"{many:.0f} for decoding" + (", with data parallel attention" if decode[1] > 1 else ""))
    return _layout(decode, many, prefill, 1.0, apart=True, stated=False, users=users, notes=tuple(notes))


def _together(row: Mapping[str, str], deployment: Deployment, users: float) -> Layout:
    if not _number(row, "tp_size") >= 1:
        fewest = _fewest(deployment)
        note = f"tensor degree not said: {fewest:.0f}, the fewest devices that the weights fit"
        degrees: Degrees = (fewest, 1.0, 1.0, fewest, 1.0)
        return _layout(degrees, 1.0, degrees, 1.0, apart=False, stated=False, users=users, notes=(note,))
    degrees = _degrees(row, "", deployment)
    total = _total(row, "", deployment, degrees, both=False)
    if total:
        return _of_total(total, users)
    return _layout(degrees, 1.0, degrees, 1.0, apart=False, stated=True, users=users)


def _layout(
    decode: Degrees,
    decoders: float,
    prefill: Degrees,
    prefillers: float,
    *,
    apart: bool,
    stated: bool,
    users: float,
    notes: tuple[str, ...] = (),
) -> Layout:
    return Layout(
        decode=decode,
        decoders=decoders,
        prefill=prefill,
        prefillers=prefillers,
        apart=apart,
        stated=stated,
        users=users,
        notes=notes,
    )


def _degrees(row: Mapping[str, str], before: str, deployment: Deployment) -> Degrees:
    """The degrees that a row's columns mean.

    - Blank data parallelism: as many groups as the experts' degrees need beyond the tensor ranks.
    - Experts' degrees 0: not stated, all ranks share every expert.
    - Both experts' degrees equal, and the tensor or data degree their product: the table multiplied a server's tensor
      by its expert degree (the same measurement stands in it in both forms), if the weights fit so few devices.
    - Equal tensor and data degrees with experts over their product: as many devices as one of them.
    """
    names = ("tp_size", "attention_dp_size", "moe_tp_size", "moe_ep_size", "pp_size")
    tp, dp, moe_tp, ep, pp = (_number(row, before + name) for name in names)
    tp, pp = (value if value >= 1 else 1.0 for value in (tp, pp))
    stated = dp >= 1
    if not (moe_tp >= 1 and ep >= 1):
        moe_tp, ep = tp * (dp if stated else 1.0), 1.0
    if not stated:
        dp = max(1.0, floor(moe_tp * ep / tp))
    if stated and moe_tp == ep > 1 and max(tp, dp) == moe_tp * ep:
        few: Degrees = (1.0, ep, ep, 1.0, pp) if dp > 1 else (ep, 1.0, ep, 1.0, pp)
        if _fits(few, deployment):
            return few
    if stated and tp == dp > 1 and ep == tp * dp:
        return 1.0, tp, tp, 1.0, pp
    return _consistent(tp, dp, ep, moe_tp, pp)


def _consistent(tp: float, dp: float, ep: float, moe_tp: float, pp: float) -> Degrees:
    """Experts over all ranks of the server, as attention has them."""
    if dp > 1 and moe_tp * ep != tp * dp:
        tp = max(1.0, floor(moe_tp * ep / dp))
    devices = tp * dp
    if moe_tp * ep != devices:
        moe_tp, ep = (devices / ep, ep) if devices % ep == 0 else (devices, 1.0)
    if dp > 1 and tp == 1 and ep == 1 and moe_tp == devices:
        ep, moe_tp = devices, 1.0
    return tp, dp, ep, moe_tp, pp


def _total(row: Mapping[str, str], before: str, deployment: Deployment, degrees: Degrees, *, both: bool) -> float:
    """All devices of a row that says nothing else of its layout; 0 where it says more.

    A tensor degree that no server has (no power of two, or all of more than 16 devices) is the number of devices. One
    device of a model that does not fit it says nothing: the fewest that hold it twice, more of them for many users.
    """
    tp = _number(row, before + "tp_size")
    if not isfinite(tp) or tp < 1:
        return 0.0
    odd = log2(tp) != round(log2(tp))
    whole = tp > LARGEST_SERVER and degrees[2] == 1 and (not both or _number(row, "prefill_tp_size") == tp)
    if odd or whole:
        return tp
    if both and _devices(degrees) == 1 and not _fits(degrees, deployment):
        return 12.0 if _number(row, "concurrency") <= 256 else 48.0
    return 0.0


def _of_total(devices: float, users: float) -> Layout:
    """Prompts on groups of four; few users on servers of four or eight tensor ranks, many on one of data groups."""
    notes = (f"only the number of devices is said, {devices:.0f}: {format_fraction(DECODING_SHARE)} of them decode",)
    if users / devices < USUAL_DECODERS:
        ranks = 8.0 if devices >= LARGEST_SERVER else 4.0
        decode: Degrees = (ranks, 1.0, 1.0, ranks, 1.0)
    else:
        ranks = 4.0 * max(1, round(DECODING_SHARE * devices / 4))
        decode = (1.0, ranks, ranks, 1.0, 1.0)
    decoders = max(1.0, floor(DECODING_SHARE * devices / ranks))
    prefillers = max(1.0, round((1 - DECODING_SHARE) * devices / 4))
    return _layout(
        decode, decoders, (1.0, 4.0, 4.0, 1.0, 1.0), prefillers, apart=True, stated=False, users=users, notes=notes
    )


def _apart_attention(degrees: Degrees) -> Degrees:
    devices = _devices(degrees)
    return 1.0, devices, devices, 1.0, degrees[4]


def _fewest(deployment: Deployment) -> float:
    """The smallest power of two of devices that the weights fit."""
    sizes = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
    return next((size for size in sizes if _fits((size, 1.0, 1.0, size, 1.0), deployment)), sizes[-1])


def _devices(degrees: Degrees) -> float:
    return degrees[0] * degrees[1] * degrees[4]


def _latent(deployment: Deployment) -> bool:
    return any(mixing.kind == "latent" for mixing in deployment.model.mixing)


def _fits(degrees: Degrees, deployment: Deployment) -> bool:
    tp, dp, ep, moe_tp, pp = (np.array([value]) for value in degrees)
    return bool(room_bytes(deployment, Share(tp=tp, dp=dp, ep=ep, moe_tp=moe_tp, pp=pp))[0] > 0)


def _number(row: Mapping[str, str], name: str) -> float:
    try:
        return float(row.get(name, ""))
    except ValueError:
        return nan
