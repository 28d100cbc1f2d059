"""Which model did a script train? A dense decoder's dimensions, read from what its first forward pass multiplies.

They are believed where the FLOP that follow from them are those of the pass; of anything else it is said why not.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from hwprof.emulate.prices import product_of
from hwprof.emulate.recording import Recording
from hwprof.emulate.tape import KERNEL, PHASE, PHASES, Call
from hwprof.errors import InputError
from hwprof.specs.frozen import CHANGED
from hwprof.specs.model.spec import ModelSpec

FILE = "model.toml"
CLOSE = 1e-3
"""How far the FLOP of the dimensions may be from those of the pass."""


def decoder_of(recording: Recording) -> ModelSpec:
    """The model of a recording.

    Raises:
        InputError: it is no dense decoder, or a rank has a part of its products alone.
    """
    calls = list(_first_forward(recording))
    table, attention = _embedding(calls), [call for call in calls if _attends(call)]
    if table is None or not attention:
        raise _refusal("it looks up no tokens, or calls no fused attention")
    vocab, width = table
    shapes = [attention[0].call.tensor(name).shape for name in ("query", "key")]  # type: ignore[union-attr]
    (batch, heads, tokens, head_dim), kv_heads = shapes[0], shapes[1][1]
    found = _Dimensions(
        layers=len(attention),
        width=width,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        vocab=vocab,
        tokens=tokens,
        batch=batch,
    )
    inner, gated, kv_heads = _feed_forward(found, _products(calls, batch * tokens))
    found = replace(found, kv_heads=kv_heads)
    flop = sum(call.flop for call in calls)
    if abs(found.flop(inner, gated=gated) / flop - 1) > CLOSE:
        raise _refusal("its products are not those of a dense decoder, or a rank has a part of them")
    names = {call.name for call in calls}
    biased = {call.name for call in calls if call.call is not None and product_of(call.call)} & {"aten::addmm"}
    return ModelSpec.model_validate(
        {
            "name": "emulated",
            "kind": "decoder" if attention[0].call.arguments.get("is_causal") is True else "encoder",  # type: ignore[union-attr]
            "layers": found.layers,
            "d_model": width,
            "d_ff": inner,
            "heads": heads,
            "kv_heads": kv_heads,
            "head_dim": head_dim,
            "vocab_size": vocab,
            "max_seq_len": tokens,
            "activation": next((word for word in ("gelu", "silu", "relu") if f"aten::{word}" in names), "silu"),
            "gated": gated,
            "norm": "layernorm" if "aten::native_layer_norm" in names else "rmsnorm",
            "norm_placement": "pre",
            "final_norm": True,
            "positions": "learned" if _lookups(calls) > 1 else "rope",
            "tied_embeddings": False,
            "attention_bias": "all" if biased else "none",
            "mlp_bias": bool(biased),
            "notes": "Read from an emulated script: its products and attention; tied weights are not seen.",
            "source": {"dimensions": "the first forward pass of an emulated script"},
        },
        context=CHANGED,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Dimensions:
    layers: int
    width: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    tokens: int
    batch: int

    @property
    def attention_out(self) -> int:
        """Columns of the projections of queries, keys and values together."""
        return (self.heads + 2 * self.kv_heads) * self.head_dim

    def flop(self, inner: int, *, gated: bool) -> int:
        """Of a forward pass, with attention in full."""
        joined = self.heads * self.head_dim
        layer = self.width * (self.attention_out + joined + (3 if gated else 2) * inner)
        pairs = self.layers * self.heads * self.tokens**2 * 2 * self.head_dim
        return 2 * self.batch * (self.tokens * (self.layers * layer + self.width * self.vocab) + pairs)


def _first_forward(recording: Recording) -> Iterator[Call]:
    """Calls of the device that trains, until the first backward pass."""
    for event in recording.events:
        if event[0] == PHASE and PHASES[event[1]] == "backward":
            return
        if event[0] == KERNEL and recording.calls[event[1]].device == recording.device:
            yield recording.calls[event[1]]


def _embedding(calls: Sequence[Call]) -> tuple[int, int] | None:
    """Rows and columns of the largest table that is looked up."""
    tables = [call.call.tensor("weight").shape for call in calls if call.name == "aten::embedding" and call.call]
    return max(((rows, columns) for rows, columns in tables), default=None)


def _lookups(calls: Sequence[Call]) -> int:
    return sum(call.name == "aten::embedding" for call in calls)


def _attends(call: Call) -> bool:
    return (
        call.name.startswith("aten::_scaled_dot_product")
        and not call.name.endswith("backward")
        and call.call is not None
    )


def _products(calls: Sequence[Call], rows: int) -> Counter[tuple[int, int]]:
    """How often each weight's shape is multiplied by all tokens."""
    found: Counter[tuple[int, int]] = Counter()
    for call in calls:
        product = product_of(call.call) if call.call is not None else None
        if product is not None and product.batch == 1 and product.m == rows:
            found[product.k, product.n] += 1
    return found


def _feed_forward(found: _Dimensions, products: Counter[tuple[int, int]]) -> tuple[int, bool, int]:
    """Width of the feed-forward network, whether it is gated, and the key heads, which some programs repeat first.

    Raises:
        InputError: its products are not those of one.
    """
    products[found.width, found.vocab] -= 1
    joined = found.heads * found.head_dim
    downs = [(k, count) for (k, n), count in products.items() if n == found.width and k not in {found.width, joined}]
    if len(downs) != 1 or downs[0][1] != found.layers:
        raise _refusal("no product of each layer leads from a wider feed-forward network back")
    inner = downs[0][0]
    out = sum(n * count for (k, n), count in products.items() if k == found.width)
    columns = out / found.layers - (joined if joined == found.width else 0) - joined
    fits: dict[int, bool] = {}
    for ups in (2, 1):
        kv_heads = (columns - ups * inner) / (2 * found.head_dim)
        if kv_heads >= 1 and kv_heads.is_integer() and found.heads % kv_heads == 0:
            fits.setdefault(int(kv_heads), ups == 2)
    if not fits:
        raise _refusal("the projections of a layer do not add up to attention and one feed-forward network")
    kept = found.kv_heads if found.kv_heads in fits else next(iter(fits))
    return inner, fits[kept], kept


def _refusal(reason: str) -> InputError:
    return InputError(
        f"the planner has no words for the script's model: {reason}",
        expectation="expected a dense decoder whose weights are whole when they are multiplied (DDP, FSDP)",
        remedy="give the model with --model (a name, a config.json or a TOML file)",
    )


def toml_of(spec: ModelSpec) -> str:
    """A model of plain dimensions as a file of the catalogue."""
    plain = {name: getattr(spec, name) for name in type(spec).model_fields if name in spec.model_fields_set}
    source = plain.pop("source")
    lines = [f"{name} = {json.dumps(value)}" for name, value in plain.items()]
    return "\n".join([*lines, "", "[source]", *(f"{name} = {json.dumps(text)}" for name, text in source.items()), ""])
