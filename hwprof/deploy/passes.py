"""Which kernels does one forward pass of a server run, and how long does each sort of them take?

A pass of decoding has one new token a sequence, a pass of prefill whole prompts or chunks of them. Both walk through
the same layers; only the way in which tokens meet differs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hwprof.deploy.formats import Formats
from hwprof.deploy.kernels import Floats, PassTimes, Share, Sums, Tokens
from hwprof.deploy.links import Links
from hwprof.deploy.model import Feed, Mixing, ServedModel
from hwprof.predict.kernels.attention.base import AttentionKind
from hwprof.predict.kernels.attention.decode import DecodeKind, DecodeSizes
from hwprof.predict.kernels.attention.sequences import AttentionSizes
from hwprof.predict.kernels.grouped import Experts
from hwprof.predict.kernels.products import Products, roof_of
from hwprof.specs.hardware.spec import DeviceSpec

ACTIVATION_BYTES = 2.0

MIXING_KERNELS = {"heads": 3.0, "latent": 6.0, "linear": 5.0}
"""Kernels without products around attention. Heads: norm with the sum before it, rotary positions with the write to the
cache, the cast of the result; latent: two norms and the casts between the projections more; linear: convolution, gates,
norm of the result."""

NORM_KERNELS = {"none": 0.0, "head": 1.0, "full": 3.0}
"""Of queries and keys: one kernel for both by heads; over all heads squares, their sum over ranks, and the product."""

INDEX_KERNELS = 8.0
"""Of an indexer: norm, two rotations, two casts, scores over heads, the choice, and its places in the cache."""

DENSE_KERNELS, EXPERT_KERNELS = 2.0, 5.0
"""Norm and activation; for experts the choice, the sorting, the activation, the weighted sum and the norm."""

LINEAR_SHARE = 0.25
"""Share of the 16-bit peak that chunked kernels of the gated delta rule are assumed to reach (Yang et al. 2024,
"Gated Delta Networks", figure 3: behind attention's); their work in each token is 6 products with the state."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """What runs on what.

    Attributes:
        model, device, formats, links: one model on devices of one sort.
        capacity_bytes: of a device, where no file has it.
        two_batches: whether each pass is done in two halves, of which one computes while the other's tokens are on
            their way to experts (DeepSeek-V3 technical report, section 3.4); only where groups have sequences of their
            own.
    """

    model: ServedModel
    device: DeviceSpec
    formats: Formats
    links: Links
    capacity_bytes: float | None = None
    two_batches: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Walk:
    """One pass on its way through the layers; arrays of one a configuration.

    Attributes:
        sums: what was added up so far.
        d_model: width of the stream.
        formats: of weights and cache.
        share: how the model is spread.
        tokens: what passes.
        decode: whether each sequence brings new tokens alone.
    """

    sums: Sums
    d_model: int
    formats: Formats
    share: Share
    tokens: Tokens
    decode: bool

    def heads(self, count: int) -> Floats:
        """Heads on one rank, of so many."""
        held: Floats = np.maximum(count / self.share.tp, 1.0)
        return held


def pass_times(deployment: Deployment, share: Share, tokens: Tokens, *, decode: bool) -> PassTimes:
    """Kernels of one pass through all layers.

    Args:
        deployment: model, device, formats.
        share: how it is spread.
        tokens: what passes; where there are stages, of one of the parts that are under way together.
        decode: whether each sequence brings new tokens alone.

    Raises:
        SpecError: the device has no known rate for a format.
    """
    sums = Sums(device=deployment.device, count=len(tokens.rows))
    model = deployment.model
    if deployment.two_batches and model.sparse:
        halved = (share.dp > 1) & ((tokens.sequences >= 2) | (not decode))
        parts = np.where(halved, 2.0, 1.0)
        tokens = Tokens(rows=tokens.rows / parts, sequences=tokens.sequences / parts, past=tokens.past)
        sums.add("halves", parts - 1)
    walk = _Walk(
        sums=sums, d_model=model.d_model, formats=deployment.formats, share=share, tokens=tokens, decode=decode
    )
    _multiply(walk, model)
    for mixing in model.mixing:
        if not model.matrices:
            _project(walk, mixing)
        _surround(walk, mixing)
        _meet(walk, mixing)
    for feed in model.feed:
        _feed(walk, feed)
    _communicate(walk, deployment)
    sums.product(deployment.formats.wide, tokens.sequences, model.vocab / share.tp, float(model.d_model), 1)
    sums.moved(3 * 4 * tokens.sequences * model.vocab / share.tp + 4 * tokens.rows * model.d_model, 4, 1)
    return sums.times()


def _project(walk: _Walk, mixing: Mixing) -> None:
    """Products around attention."""
    sums, kept, d_model = walk.sums, walk.formats.mixing, walk.d_model
    rows, layers, heads, keys = walk.tokens.rows, mixing.layers, walk.heads(mixing.heads), walk.heads(mixing.kv_heads)
    if mixing.kind == "latent":
        _project_latent(walk, mixing)
    elif mixing.kind == "linear":
        width = 2 * keys * mixing.head_dim + heads * (2 * mixing.value_dim + 2)
        sums.product(kept, rows, width, d_model, layers)
    else:
        queries = heads * mixing.head_dim * (2 if mixing.gated else 1)
        sums.product(kept, rows, queries + keys * (mixing.head_dim + mixing.value_dim), d_model, layers)
    sums.product(kept, rows, d_model, heads * mixing.value_dim, layers)


def _surround(walk: _Walk, mixing: Mixing) -> None:
    """Kernels around attention that multiply nothing."""
    width = 6 * walk.d_model + 4 * walk.heads(mixing.heads) * mixing.value_dim
    kernels = MIXING_KERNELS[mixing.kind] + NORM_KERNELS[mixing.norm]
    walk.sums.moved(ACTIVATION_BYTES * walk.tokens.rows * width, kernels, mixing.layers)


def _multiply(walk: _Walk, model: ServedModel) -> None:
    """Matrices of a captured model: by outputs over tensor ranks, by inputs where they lead back to the stream."""
    for matrix in model.matrices:
        kept = walk.formats.dense if matrix.dense else walk.formats.mixing
        back = matrix.out == model.d_model
        n = walk.sums.column(matrix.out) / (1.0 if back else walk.share.tp)
        k = walk.sums.column(matrix.inside) / (walk.share.tp if back else 1.0)
        walk.sums.product(kept, walk.tokens.rows, n, k, matrix.count)


def _project_latent(walk: _Walk, mixing: Mixing) -> None:
    """Down to the narrow vectors and up again; in decoding, queries go to the width of the cache instead."""
    sums, kept, d_model = walk.sums, walk.formats.mixing, walk.d_model
    rows, layers, heads = walk.tokens.rows, mixing.layers, walk.heads(mixing.heads)
    sums.add("latent_layers", layers)
    down = mixing.latent_rank + mixing.rope_dim
    sums.product(kept, rows, down + mixing.query_rank, d_model, layers)
    sums.product(kept, rows, heads * mixing.head_dim, mixing.query_rank or d_model, layers)
    nope, one = mixing.head_dim - mixing.rope_dim, np.ones(sums.count)
    if walk.decode:
        rank = mixing.latent_rank * one
        for n, k in ((rank, nope * one), (mixing.value_dim * one, rank)):
            sums.products(walk.formats.wide, Products(m=rows, n=n, k=k, batch=heads), layers)
    else:
        sums.product(kept, rows, heads * (nope + mixing.value_dim), mixing.latent_rank, layers)
    if mixing.index_heads:
        width = mixing.index_heads * mixing.index_dim
        sums.product(kept, rows, width, mixing.query_rank or d_model, layers)
        sums.product(kept, rows, mixing.index_dim, d_model, layers)


def _meet(walk: _Walk, mixing: Mixing) -> None:
    """Attention, or the state of linear layers."""
    sums, tokens = walk.sums, walk.tokens
    if mixing.state_bytes:
        part = walk.heads(mixing.heads) / mixing.heads
        sums.moved(2 * tokens.sequences * mixing.state_bytes * part, 0, mixing.layers)
        flop = 6 * tokens.rows * mixing.state_numbers * part
        peak = roof_of(sums.device, walk.formats.wide.product).flop_per_s
        sums.add("attention_s", mixing.layers * flop / (LINEAR_SHARE * peak))
    if mixing.kind == "linear":
        return
    if mixing.index_heads:
        _choose(walk, mixing)
    (_decode if walk.decode else _prefill)(walk, mixing)


def _choose(walk: _Walk, mixing: Mixing) -> None:
    """Scores of an indexer: its keys are read, in one byte each, and multiplied by its queries; then the best."""
    sums, tokens = walk.sums, walk.tokens
    length = tokens.rows / tokens.sequences
    pairs = tokens.rows * (tokens.past + (1 if walk.decode else length / 2))
    read = tokens.sequences * (tokens.past + length) * mixing.index_dim
    sums.moved(read + 4 * pairs, INDEX_KERNELS, mixing.layers)
    peak = sums.device.matmul_flop_per_s("fp8") or roof_of(sums.device, walk.formats.wide.product).flop_per_s
    flop = 2 * pairs * mixing.index_heads * mixing.index_dim
    sums.add("attention_s", mixing.layers * flop / (INDEX_SHARE * peak))


INDEX_SHARE = 0.5
"""Share of the 8-bit peak that an indexer's scores are assumed to reach."""


def _decode(walk: _Walk, mixing: Mixing) -> None:
    """New tokens against the cache; several of one sequence read it once, as if they were more heads."""
    tokens, latent = walk.tokens, mixing.kind == "latent"
    seen = np.minimum(tokens.past, mixing.chosen or np.inf)
    keys = np.ones(walk.sums.count) if latent else walk.heads(mixing.kv_heads)
    kind = DecodeKind(
        cache_dtype="fp8" if walk.formats.cache_bytes == 1 else "bf16",
        head_dim=mixing.latent_rank + mixing.rope_dim if latent else mixing.head_dim,
        value_dim=0 if latent else mixing.value_dim,
        window=mixing.window,
    )
    together = walk.heads(mixing.heads) / keys * tokens.rows / tokens.sequences
    asked = DecodeSizes(
        key_heads=tokens.sequences * keys, cache_len=np.maximum(seen, 1.0), group=np.clip(together, 1.0, 128.0)
    )
    walk.sums.decode(asked, kind, mixing.layers)


def _prefill(walk: _Walk, mixing: Mixing) -> None:
    """Prompts, or what of them is not in the cache: as many heads of whole prompts as do the same work."""
    tokens = walk.tokens
    length = tokens.rows / tokens.sequences
    whole = length + tokens.past
    part = (length * length / 2 + length * tokens.past) / (whole * whole / 2)
    kind = AttentionKind(
        kernel="serving",
        direction="forward",
        causal=True,
        head_dim=mixing.head_dim,
        value_dim=mixing.value_dim,
        window=mixing.window or mixing.chosen,
    )
    grouped = 1.0 if mixing.kind == "latent" else mixing.heads / mixing.kv_heads
    asked = AttentionSizes(
        batch_heads=np.maximum(tokens.sequences * walk.heads(mixing.heads) * part, 2.0**-6),
        seq_len=whole,
        group=walk.sums.column(grouped),
    )
    walk.sums.attention(asked, kind, mixing.layers)


def _feed(walk: _Walk, feed: Feed) -> None:
    """The feed-forward network: what every token passes is split like attention, routed experts over all ranks."""
    sums, share, formats, d_model = walk.sums, walk.share, walk.formats, walk.d_model
    rows, layers = walk.tokens.rows, feed.layers
    if feed.width:
        part = feed.width / share.tp
        sums.product(formats.dense, rows, (feed.matrices - 1) * part, d_model, layers)
        sums.product(formats.dense, rows, d_model, part, layers)
        sums.moved(ACTIVATION_BYTES * rows * (4 * d_model + 3 * part), DENSE_KERNELS, layers)
    if not feed.experts:
        return
    sums.product(formats.wide, rows, feed.experts, d_model, layers)
    copies = rows * share.dp * feed.top_k / share.ep
    asked = Experts(
        rows=np.maximum(copies, 0.25),
        experts=np.maximum(feed.experts / share.ep, 1.0),
        hidden=sums.column(d_model),
        width=np.maximum(feed.expert_width / share.moe_tp, 16.0),
        ranks=share.ep,
    )
    sums.routed(formats.experts, asked, layers)
    moved = ACTIVATION_BYTES * (4 * rows * d_model + copies * (2 * d_model + 3 * asked.width))
    sums.moved(moved, EXPERT_KERNELS, layers)


def _communicate(walk: _Walk, deployment: Deployment) -> None:
    """Sums after attention and after the feed-forward network; exchanges where groups have sequences of their own."""
    sums, share, links, model = walk.sums, walk.share, deployment.links, deployment.model
    row_bytes = ACTIVATION_BYTES * walk.tokens.rows * model.d_model
    links.reduce(sums, row_bytes, share.tp, model.layers)
    normed = sum(mixing.layers for mixing in model.mixing if mixing.norm == "full")
    links.reduce(sums, 8 * walk.tokens.rows, share.tp, normed)
    sent_bytes = row_bytes / ACTIVATION_BYTES * (max(deployment.formats.experts.weight_bytes, 1.0) + ACTIVATION_BYTES)
    for feed in model.feed:
        apart = (share.dp > 1) & (feed.experts > 0)
        links.reduce(sums, np.where(apart, 0.0, row_bytes), np.where(apart, 1.0, share.tp), feed.layers)
        if feed.experts:
            ranks = np.where(apart, share.ep * share.moe_tp, 1.0)
            links.exchange(sums, sent_bytes, np.minimum(feed.top_k, ranks), ranks, feed.layers)
    links.hand_on(sums, row_bytes, share.pp)
