"""How long does each sort of a pass's kernels take on a device? The one kernel model, asked by serving shapes."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field, fields

import numpy as np
from numpy.typing import NDArray

from hwprof.deploy.formats import Kept
from hwprof.predict.curves.kernel_time import KernelTime
from hwprof.predict.kernels.attention.base import AttentionKind
from hwprof.predict.kernels.attention.decode import DecodeKind, DecodeSizes, decode_s
from hwprof.predict.kernels.attention.sequences import AttentionSizes, attention_s
from hwprof.predict.kernels.formats import FORMATS
from hwprof.predict.kernels.grouped import Experts
from hwprof.predict.kernels.products import Products, product_s, roof_of
from hwprof.specs.catalogue.kernel_points import kernel_table
from hwprof.specs.hardware.spec import DeviceSpec

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """How a model is spread over the devices of one server; arrays of one a configuration.

    Attributes:
        tp: ranks that share a layer's heads.
        dp: groups of such ranks, each with sequences of its own.
        ep, moe_tp: ranks over which experts are spread, and that share one expert.
        pp: stages of layers.
    """

    tp: Floats
    dp: Floats
    ep: Floats
    moe_tp: Floats
    pp: Floats

    @property
    def devices(self) -> Floats:
        """Devices of the server."""
        return self.tp * self.dp * self.pp


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """What one forward pass reads; arrays of one a configuration, of one attention group each.

    Attributes:
        rows: tokens that pass, of all its sequences.
        sequences: that they belong to.
        past: tokens of a sequence in the cache before the pass; of a prompt those of earlier chunks.
    """

    rows: Floats
    sequences: Floats
    past: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class PassTimes:
    """Kernels of one pass on one device, of all layers; arrays of one a configuration.

    Attributes:
        products_s: products beside attention, beyond the time of their smallest.
        floors_s: the time of the smallest product, for each of them.
        expert_layers: how many layers have routed experts.
        expert_traffic_s, expert_flop_s: what those move at the memory's bandwidth, and compute at their format's peak.
        expert_kind: place of their format in ``EXPERT_KINDS``.
        latent_layers: how many layers cache a latent vector.
        attention_s: attention, and states of linear layers.
        moved_s: traffic of kernels that multiply nothing.
        small: how many of those there are.
        reduces: how many sums or exchanges between ranks.
        wire_s: their bytes on the links.
        library_s: the same by the measured collectives library.
        halves: 1 where all this is of one half of the tokens, and two halves take turns; else 0.
        width: half width of the measured kernels' intervals, in natural logarithms.
    """

    products_s: Floats
    floors_s: Floats
    expert_layers: Floats
    expert_traffic_s: Floats
    expert_flop_s: Floats
    expert_kind: Floats
    latent_layers: Floats
    attention_s: Floats
    moved_s: Floats
    small: Floats
    reduces: Floats
    wire_s: Floats
    library_s: Floats
    halves: Floats
    width: Floats

    def at(self, index: NDArray[np.int64]) -> PassTimes:
        """Those of some configurations."""
        return PassTimes(**{one.name: getattr(self, one.name)[index] for one in fields(self)})


EXPERT_KINDS = ("16 bits", "8 bits", "blocks of 8 bits", "4 bits", "widened")
"""How routed experts are kept: the kernels of each kind reach shares of the roofs of their own."""


def joined(parts: Sequence[PassTimes]) -> PassTimes:
    """Several, one behind the other."""
    columns = {one.name: np.concatenate([getattr(part, one.name) for part in parts]) for one in fields(PassTimes)}
    return PassTimes(**columns)


@dataclass(slots=True, kw_only=True)
class Sums:
    """What is added up while a pass is walked through, on one device; arrays of one a configuration."""

    device: DeviceSpec
    count: int
    seconds: dict[str, Floats] = field(default_factory=dict)
    variance: Floats | float = 0.0

    def add(self, name: str, values: Floats | float) -> None:
        """Add to a field of ``PassTimes``."""
        self.seconds[name] = self.seconds.get(name, np.zeros(self.count)) + values

    def measured(self, name: str, times: float, found: KernelTime) -> None:
        """Add a kernel that runs so many times, and its doubt."""
        self.add(name, times * found.seconds)
        self.variance = self.variance + (times * found.seconds * np.log(found.hi_s / found.seconds)) ** 2

    def product(self, kept: Kept, m: Floats, n: Floats | float, k: Floats | float, times: float) -> None:
        """A product [m, k]·[k, n] that runs so many times."""
        self.products(kept, Products(m=m, n=self.column(n), k=self.column(k), batch=np.ones(self.count)), times)

    def products(self, kept: Kept, asked: Products, times: float) -> None:
        """Products of which each runs so many times."""
        asked = Products(
            m=np.maximum(asked.m, 1.0), n=np.maximum(asked.n, 8.0), k=np.maximum(asked.k, 8.0), batch=asked.batch
        )
        found = product_s(asked, self.device, kept.product, table=kernel_table("gemm"))
        seconds = found.seconds * _narrower(kept, self.device, asked.flop, *_traffic(asked, kept))
        floor_s = np.minimum(smallest_s(self.device, kept), seconds)
        self.add("products_s", times * (seconds - floor_s))
        self.add("floors_s", times * floor_s)
        self.variance = self.variance + (times * seconds * np.log(found.hi_s / found.seconds)) ** 2

    def routed(self, kept: Kept, asked: Experts, times: float) -> None:
        """Routed experts of a rank, so many layers of them: what they move and compute, under the roofs."""
        roof = roof_of(self.device, kept.product)
        rows_bytes = asked.rows * (2 * asked.hidden + 3 * asked.width) * roof.kept.result_bytes
        weights_bytes = 3 * asked.active * asked.hidden * asked.width * kept.weight_bytes
        self.add("expert_layers", times)
        self.add("expert_traffic_s", times * (weights_bytes + rows_bytes) / roof.memory_byte_per_s)
        self.add("expert_flop_s", times * asked.flop / roof.flop_per_s)
        self.seconds["expert_kind"] = np.full(self.count, float(_kind_of(kept)))

    def decode(self, asked: DecodeSizes, kind: DecodeKind, times: float) -> None:
        """Attention of new tokens against their caches, so many layers of it."""
        self.measured("attention_s", times, decode_s(asked, self.device, kind, table=kernel_table("decode")))

    def attention(self, asked: AttentionSizes, kind: AttentionKind, times: float) -> None:
        """Attention of whole prompts, so many layers of it."""
        self.measured("attention_s", times, attention_s(asked, self.device, kind, table=kernel_table("attention")))

    def moved(self, size_bytes: Floats | float, kernels: float, times: float) -> None:
        """Kernels that multiply nothing."""
        self.add("moved_s", times * size_bytes / (MOVED_SHARE * self.device.memory.bandwidth_byte_per_s))
        self.add("small", times * kernels)

    def column(self, value: Floats | float) -> Floats:
        """A value of each configuration."""
        return np.broadcast_to(np.asarray(value, dtype=np.float64), self.count)

    def times(self) -> PassTimes:
        """What was added up."""
        names = [one.name for one in fields(PassTimes) if one.name != "width"]
        found = {name: self.seconds.get(name, np.zeros(self.count)) for name in names}
        kernels_s = found["products_s"] + found["floors_s"] + found["attention_s"]
        return PassTimes(**found, width=np.sqrt(self.variance) / np.maximum(kernels_s, 1e-12))


def _kind_of(kept: Kept) -> int:
    if kept.widened:
        return EXPERT_KINDS.index("widened")
    kinds = {"fp8": "8 bits", "fp8-block": "blocks of 8 bits", "nvfp4": "4 bits"}
    return EXPERT_KINDS.index(kinds.get(kept.product, "16 bits"))


MOVED_SHARE = 0.8
"""Share of the bandwidth that kernels reach which only move (as the base time of ``predict/kernels/products``)."""


def _traffic(asked: Products, kept: Kept) -> tuple[Floats, Floats]:
    """Bytes of products, as their format has them, and with narrower weights."""
    moved = asked.moved_bytes(FORMATS[kept.product])
    return moved, moved - asked.batch * asked.k * asked.n * (FORMATS[kept.product].operand_bytes - kept.weight_bytes)


def _narrower(kept: Kept, device: DeviceSpec, flop: Floats, wide_bytes: Floats, narrow_bytes: Floats) -> Floats | float:
    """The share of a base time that is left where weights are read narrower than their products' format has them."""
    if not kept.widened:
        return 1.0
    roof = roof_of(device, kept.product)
    floor_s = smallest_s(device, kept)

    def base_s(moved_bytes: Floats) -> Floats:
        seconds: Floats = (
            floor_s + ((flop / roof.flop_per_s) ** 4 + (moved_bytes / roof.memory_byte_per_s) ** 4) ** 0.25
        )
        return seconds

    return base_s(narrow_bytes) / base_s(wide_bytes)


@functools.lru_cache(maxsize=64)
def smallest_s(device: DeviceSpec, kept: Kept) -> float:
    """The time of the smallest product of a format: what is not work of it."""
    one = np.ones(1)
    small = Products(m=one, n=128 * one, k=128 * one, batch=one)
    return float(product_s(small, device, kept.product, table=kernel_table("gemm")).seconds[0])
