"""In which formats do servers keep weights, multiply and cache? By the word that a deployment is named with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from hwprof.deploy.model import ServedModel
from hwprof.errors import InputError
from hwprof.predict.kernels.formats import FORMATS, ProductFormat
from hwprof.specs.hardware.spec import DeviceSpec

WeightWord = Literal["bf16", "fp8", "fp8-block", "nvfp4", "mxfp4", "int4", "int8"]
WEIGHT_WORDS: tuple[WeightWord, ...] = get_args(WeightWord)

NARROW_BYTES = {"mxfp4": 0.5 + 1 / 32, "nvfp4": 0.5 + 1 / 16, "int4": 0.5 + 2 / 128, "int8": 1.0, "fp8": 1.0}
"""A weight that is widened on chip before 16-bit products, with its share of the scales: one byte for 32 numbers in
mxfp4 (OCP Microscaling specification, section 5.2), two for 128 in int4 (GPTQ, AWQ)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """How matrices of a sort are kept and multiplied.

    Attributes:
        product: format of the products.
        weight_bytes: of one weight in memory.
        widened: whether weights are widened on chip, so that fewer bytes than the products' format has are read.
    """

    product: ProductFormat
    weight_bytes: float
    widened: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Formats:
    """Formats of a deployment.

    Attributes:
        word: how it is named.
        wide: what is never narrow: head, router, a latent cache's way to heads; bf16, or what the device has instead.
        mixing: projections around attention.
        dense: dense feed-forward networks and shared experts.
        experts: routed experts.
        cache_bytes: of one number of the cache.
        assumptions: in words.
    """

    word: WeightWord
    wide: Kept
    mixing: Kept
    dense: Kept
    experts: Kept
    cache_bytes: float
    assumptions: tuple[str, ...] = ()


WIDE: tuple[Kept, ...] = (
    Kept(product="bf16", weight_bytes=2.0),
    Kept(product="fp16", weight_bytes=2.0),
    Kept(product="fp32", weight_bytes=4.0),
)
"""Formats that a device may have products of, the first that it has."""


def formats_of(
    model: ServedModel, device: DeviceSpec, word: str, *, experts: str | None = None, cache: str | None = None
) -> Formats:
    """The formats of a deployment.

    Four-bit checkpoints of models with experts keep the projections around attention in 16 bits (NVIDIA's of
    DeepSeek-R1, OpenAI's of gpt-oss); of dense models all layers are narrow.

    Args:
        model: the model.
        device: what it runs on: a format that it has no path for is widened on chip.
        word: format of the layers' weights.
        experts: of routed experts, where another.
        cache: ``fp8`` or ``bf16``; None: fp8 with narrow weights, as servers are set where that is measured.

    Raises:
        InputError: an unknown word.
    """
    layers, routed = _word(word), _word(experts or word)
    notes: list[str] = []
    wide = _wide(device, notes)
    narrow = _kept(layers, device, wide, notes)
    four_bits = layers in {"nvfp4", "mxfp4", "int4"}
    mixing = wide if model.sparse and four_bits else narrow
    dense = wide if model.sparse and layers == "mxfp4" else narrow
    if mixing is not narrow:
        notes.append(f"{layers} weights of experts alone: projections around attention stay in {wide.product}")
    if cache not in {None, "fp8", "bf16"}:
        raise InputError(f"a cache of {cache!r} is unknown", expectation="known: bf16, fp8")
    if cache is None and layers != "bf16":
        notes.append("the cache is kept in fp8")
    cache_bytes = 2.0 if cache == "bf16" or (cache is None and layers == "bf16") else 1.0
    return Formats(
        word=layers,
        wide=wide,
        mixing=mixing,
        dense=dense,
        experts=_kept(routed, device, wide, notes) if model.sparse else narrow,
        cache_bytes=cache_bytes,
        assumptions=tuple(dict.fromkeys(notes)),
    )


def _word(text: str) -> WeightWord:
    for word in WEIGHT_WORDS:
        if text == word:
            return word
    raise InputError(
        f"weights in {text!r} are unknown",
        expectation=f"known: {', '.join(WEIGHT_WORDS)}",
        remedy="AWQ and GPTQ of 4 bits are int4; take the nearest",
    )


def _wide(device: DeviceSpec, notes: list[str]) -> Kept:
    """The widest of the usual formats that the device has products of.

    Raises:
        InputError: it has none.
    """
    for kept in WIDE:
        if device.matmul_flop_per_s(FORMATS[kept.product].peak) is not None:
            if kept is not WIDE[0]:
                notes.append(f"{device.id} has no products in bf16: {kept.product}")
            return kept
    raise InputError(f"no rate of products of {device.id} is known", remedy="give its file one")


def _kept(word: WeightWord, device: DeviceSpec, wide: Kept, notes: list[str]) -> Kept:
    if word == "bf16":
        return wide
    if word == "mxfp4" and device.matmul_flop_per_s("fp4") is not None:
        return Kept(product="nvfp4", weight_bytes=NARROW_BYTES["mxfp4"])
    native: dict[WeightWord, ProductFormat] = {"fp8": "fp8", "fp8-block": "fp8-block", "nvfp4": "nvfp4"}
    product = native.get(word)
    if product is not None and device.matmul_flop_per_s(FORMATS[product].peak) is not None:
        return Kept(product=product, weight_bytes=FORMATS[product].operand_bytes)
    notes.append(f"{word} weights are widened to {wide.product} on chip: {device.id} has no products of that format")
    return Kept(product=wide.product, weight_bytes=NARROW_BYTES[word.removesuffix("-block")], widened=True)
