"""Which model did a script train? A decoder's dimensions, read from what its last forward pass multiplies.

They are believed where the FLOP that follow from them are those of the pass; of anything else it is said why not.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hwprof.emulate.prices import Product, product_of
from hwprof.emulate.recording import Recording
from hwprof.emulate.tape import COLLECTIVE, KERNEL, PHASE, PHASES, Call, Collective
from hwprof.errors import InputError
from hwprof.specs.frozen import CHANGED
from hwprof.specs.job.step import LoraSpec
from hwprof.specs.job.switches import LoraTargets
from hwprof.specs.model.spec import ModelSpec
from hwprof.specs.record.captured import AtenCall

FILE = "model.toml"
CLOSE = 1e-3
"""How far the FLOP of the dimensions may be from those of the pass."""

Widths = Counter[tuple[int, int]]
"""Rows and columns of a weight -> how often it multiplies all tokens."""


@dataclass(frozen=True, slots=True)
class Trained:
    """What a script trains: a model, and the adapters beside its frozen weights; None where all are trained."""

    spec: ModelSpec
    adapters: LoraSpec | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attention:
    """Embedding, attention and head. ``tp`` ranks share a layer; ``head`` columns of the output lie on one."""

    layers: int
    width: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    head: int
    tokens: int
    batch: int
    tp: int

    @property
    def joined(self) -> int:
        """Width of all heads together."""
        return self.heads * self.head_dim

    @property
    def rows(self) -> int:
        """Tokens of a pass."""
        return self.batch * self.tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class _Experts:
    experts: int
    top_k: int
    width: int
    shared: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _FeedForward:
    """``inner`` is that of the dense network, ``kv_heads`` what the projections leave for keys and values."""

    inner: int
    gated: bool
    kv_heads: int
    experts: _Experts | None = None


@dataclass(frozen=True, slots=True)
class _Pass:
    """A forward pass: its calls, and the sums over ranks in it, each with the number of calls before it."""

    calls: list[Call]
    sums: list[tuple[int, Collective]]


def trained_of(recording: Recording) -> Trained:
    """The model and the adapters of a recording.

    Raises:
        InputError: it is no decoder that the planner has words for.
    """
    if recording.peers:
        raise _refusal("its layers are spread over the stages of a pipeline")
    whole = _last_forward(recording)
    found = _attention(whole)
    products = _products(whole, found)
    routers = _routers(whole.calls, found, products)
    rank, pairs = _pairs(found, products, routers)
    found_ffn = _of_experts(whole.calls, found, products, *routers) if routers else _dense(found, products)
    flop = sum(call.flop for call in whole.calls)
    beside = 2 * found.rows * sum(rows * columns * count for (rows, columns), count in pairs.items())
    if abs((_flop(found, found_ffn) + beside) / flop - 1) > CLOSE:
        raise _refusal("its products are not those of a decoder's layers, or a rank has a part of them")
    return Trained(_spec(whole.calls, found, found_ffn), _adapters(rank, pairs, found, found_ffn, products))


def _flop(one: _Attention, ffn: _FeedForward) -> float:
    """Of a forward pass on one rank, with attention in full."""
    matrices, experts = 3 if ffn.gated else 2, ffn.experts
    layer = one.width * (2 * one.joined + 2 * ffn.kv_heads * one.head_dim)
    if experts is None:
        layer += matrices * one.width * ffn.inner
    else:
        layer += one.width * (experts.experts + matrices * (experts.top_k * experts.width + experts.shared))
    pairs = one.layers * one.heads * one.tokens**2 * 2 * one.head_dim
    shared = (one.tokens * one.layers * layer + pairs) / one.tp
    return 2 * one.batch * (shared + one.tokens * one.width * one.head)


def _spec(calls: Sequence[Call], one: _Attention, ffn: _FeedForward) -> ModelSpec:
    names = {call.name for call in calls}
    biased = "aten::addmm" in names
    attention = next(call for call in calls if _attends(call))
    experts = ffn.experts
    dimensions: dict[str, Any] = {
        "name": "emulated",
        "kind": "decoder" if attention.call and _is_causal(attention.call) else "encoder",
        "layers": one.layers,
        "d_model": one.width,
        "d_ff": ffn.inner,
        "heads": one.heads,
        "kv_heads": ffn.kv_heads,
        "head_dim": one.head_dim,
        "vocab_size": one.vocab,
        "max_seq_len": one.tokens,
        "activation": next((word for word in ("gelu", "silu", "relu") if f"aten::{word}" in names), "silu"),
        "gated": ffn.gated,
        "norm": "layernorm" if "aten::native_layer_norm" in names else "rmsnorm",
        "norm_placement": "pre",
        "final_norm": True,
        "positions": "learned" if sum(call.name == "aten::embedding" for call in calls) > 1 else "rope",
        "tied_embeddings": False,
        "attention_bias": "all" if biased else "none",
        "mlp_bias": biased,
        "notes": "Read from an emulated script: its products and attention; tied weights are not seen, "
        "a mask is taken for a causal one.",
        "source": {"dimensions": "the last forward pass of an emulated script"},
    }
    if experts is not None:
        table = {"experts": experts.experts, "top_k": experts.top_k, "expert_ff": experts.width}
        dimensions["moe"] = table | {"shared_ff": experts.shared}
    return ModelSpec.model_validate(dimensions, context=CHANGED)


def _last_forward(recording: Recording) -> _Pass:
    """From the last look into the largest table before the first backward pass: what comes earlier may be another pass.

    Raises:
        InputError: no table is looked into.
    """
    found = _Pass([], [])
    tables: list[tuple[int, int]] = []
    for event in recording.events:
        if event[0] == PHASE and PHASES[event[1]] == "backward":
            break
        if event[0] == KERNEL and recording.calls[event[1]].device == recording.device:
            found.calls.append(recording.calls[event[1]])
            tables += [(table[0], len(found.calls) - 1) for table in _table(found.calls[-1])]
        elif event[0] == COLLECTIVE and recording.collectives[event[1]].op in {"all_reduce", "reduce_scatter"}:
            found.sums.append((len(found.calls), recording.collectives[event[1]]))
    if not tables:
        raise _refusal("it looks up no tokens")
    largest = max(rows for rows, _ in tables)
    first = max(place for rows, place in tables if rows == largest)
    return _Pass(found.calls[first:], [(place - first, one) for place, one in found.sums if place > first])


def _table(call: Call) -> Iterator[tuple[int, ...]]:
    if call.name == "aten::embedding" and call.call is not None:
        yield call.call.tensor("weight").shape


def _attends(call: Call) -> bool:
    return (
        call.name.startswith("aten::_scaled_dot_product")
        and not call.name.endswith("backward")
        and call.call is not None
    )


def _is_causal(call: AtenCall) -> bool:
    """Whether tokens attend to earlier ones: said, or by a mask, as decoders have one."""
    masks = (call.arguments.get(name) for name in ("attn_mask", "attn_bias"))
    return call.arguments.get("is_causal") is True or any(mask is not None for mask in masks)


def _attention(whole: _Pass) -> _Attention:
    """Embedding and attention, each whole: what a rank has of them, times the ranks that sum up the tokens' results.

    Raises:
        InputError: there is no fused attention, or it sees a part of each sequence.
    """
    rows, width = next(shape for call in whole.calls[:1] for shape in _table(call))
    calls = [call.call for call in whole.calls if _attends(call) and call.call is not None]
    if not calls:
        raise _refusal("it calls no fused attention")
    (batch, heads, tokens, head_dim), (_, kv_heads, keys, _) = (
        calls[0].tensor(name).shape for name in ("query", "key")
    )
    if keys != tokens:
        raise _refusal("a rank has a part of each sequence (context parallelism)")
    sizes = {batch * tokens * width * each for each in (2, 4)}
    sums = [(place, len(one.ranks)) for place, one in whole.sums if one.size_bytes in sizes and len(one.ranks) > 1]
    tp = Counter(ranks for _, ranks in sums).most_common(1)[0][0] if sums else 1
    first = next((place for place, call in enumerate(whole.calls) if call.call and product_of(call.call)), 0)
    vocab = rows * (tp if any(place <= first for place, _ in sums) else 1)
    last = [product_of(call.call) for call in whole.calls if call.call is not None and call.flop and not _attends(call)]
    head = last[-1].n if last and last[-1] is not None and last[-1].k == width else 0
    if head not in {vocab, vocab // tp, rows}:
        raise _refusal(f"its last product does not lead to its {vocab:,} words")
    return _Attention(
        layers=len(calls), width=width, heads=heads * tp, kv_heads=kv_heads * tp, head_dim=head_dim,
        vocab=vocab, head=head, tokens=tokens, batch=batch, tp=tp,
    )  # fmt: skip


def _products(whole: _Pass, one: _Attention) -> Widths:
    """Weights that multiply all tokens, but for the head, each whole.

    Tensor ranks have columns of a weight, or rows of it where its results are summed up before the next product.
    """
    found: Widths = Counter()
    summed = {place for place, _ in whole.sums}
    made = [(place, each) for place, each in _multiplied(whole.calls) if each.batch == 1 and each.m == one.rows]
    for (place, each), after in zip(made, [*(place for place, _ in made[1:]), len(whole.calls)], strict=True):
        by_rows = any(number in summed for number in range(place + 1, after + 1))
        found[(each.k * one.tp, each.n) if by_rows else (each.k, each.n * one.tp)] += 1
    found[one.width, one.head * one.tp] -= 1
    return +found


def _multiplied(calls: Sequence[Call]) -> Iterator[tuple[int, Product]]:
    """The products among calls, each with its place."""
    for place, call in enumerate(calls):
        product = product_of(call.call) if call.call is not None else None
        if product is not None:
            yield place, product


def _routers(calls: Sequence[Call], one: _Attention, products: Widths) -> tuple[int, int] | None:
    """Experts that each layer chooses among, and how many of them; None where none chooses."""
    for call in calls:
        if call.name != "aten::topk" or call.call is None:
            continue
        experts, chosen = call.call.tensor("self").shape[-1], call.call.arguments.get("k")
        if isinstance(chosen, int) and products[one.width, experts] == one.layers:
            return experts, chosen
    return None


def _pairs(one: _Attention, products: Widths, routers: tuple[int, int] | None) -> tuple[int, Widths]:
    """The narrow width of adapters and their matrices, which are taken out of the products; 0 where there are none."""
    into: Counter[int] = Counter()
    out: Counter[int] = Counter()
    for (rows, columns), count in products.items():
        into[columns] += count
        out[rows] += count
    known = {one.joined, *(routers or ())}
    narrow = [width for width, count in into.items() if count == out[width] and 2 * width <= one.width]
    ranks = [width for width in narrow if width not in known and into[width] >= one.layers]
    if len(ranks) != 1:
        return 0, Counter()
    pairs: Widths = Counter({widths: count for widths, count in products.items() if ranks[0] in widths})
    products -= pairs
    return ranks[0], pairs


def _dense(one: _Attention, products: Widths) -> _FeedForward:
    """The network of each layer, and the key heads, which some programs repeat first.

    Raises:
        InputError: its products are not those of one.
    """
    downs = {k: count for (k, n), count in products.items() if n == one.width and k not in {one.width, one.joined}}
    if list(downs.values()) != [one.layers]:
        raise _refusal("no product of each layer leads from a wider feed-forward network back")
    inner = next(iter(downs))
    fits = {ups: _key_heads(one, products, ups * inner) for ups in (2, 1)}
    good = {heads: ups == 2 for ups, heads in reversed(fits.items()) if heads}
    if not good:
        raise _refusal("the projections of a layer do not add up to attention and one feed-forward network")
    kept = one.kv_heads if one.kv_heads in good else next(iter(reversed(good)))
    return _FeedForward(inner=inner, gated=good[kept], kv_heads=kept)


def _key_heads(one: _Attention, products: Widths, beside: int) -> int:
    """Heads of keys, as the projections of a layer have columns for them beside so many others; 0: they have none."""
    out = sum(n * count for (k, n), count in products.items() if k == one.width)
    columns = out / one.layers - (one.joined if one.joined == one.width else 0) - one.joined - beside
    heads = columns / (2 * one.head_dim)
    return int(heads) if heads >= 1 and heads.is_integer() and one.heads % heads == 0 else 0


def _of_experts(calls: Sequence[Call], one: _Attention, products: Widths, experts: int, top_k: int) -> _FeedForward:
    """Experts of each layer: their tokens are as many as are sent to them, on whichever rank they lie.

    Raises:
        InputError: layers differ, or the products are not those of experts.
    """
    if one.tp > 1:
        raise _refusal("it has experts beside tensor ranks")
    tokens: Counter[tuple[int, int]] = Counter()
    for _, product in _multiplied(calls):
        tokens[product.k, product.n] += product.batch * product.m
    per_layer = one.rows * one.layers
    downs = {
        k: rows / per_layer for (k, n), rows in tokens.items() if n == one.width and k not in {one.width, one.joined}
    }
    inner = [width for width, share in downs.items() if round(share) >= top_k and abs(share - round(share)) < CLOSE]
    if not inner:
        raise _refusal(f"no layer sends each token to {top_k} of {experts} experts of one width")
    width = inner[0]
    other = next((each for each, share in downs.items() if each != width and share == 1), 0)
    shared = (round(downs[width]) - top_k) * width + other
    apart = any(tokens[one.width, each] for each in (width, other) if each)  # gate and values in two products
    own = {each if apart else 2 * each for each in (width, other) if each}
    ups = sum(n * rows for (k, n), rows in tokens.items() if k == one.width and n in own)
    gated = round(ups / per_layer) == 2 * (top_k * width + shared)
    left: Widths = Counter({(k, n): count for (k, n), count in products.items() if k != one.width or n not in own})
    kv_heads = _key_heads(one, left, experts)
    if not kv_heads:
        raise _refusal("the projections of a layer do not add up to attention and experts")
    found = _Experts(experts=experts, top_k=top_k, width=width, shared=shared)
    return _FeedForward(inner=width, gated=gated, kv_heads=kv_heads, experts=found)


def _adapters(rank: int, pairs: Widths, one: _Attention, ffn: _FeedForward, products: Widths) -> LoraSpec | None:
    """Which weights have adapters, in the planner's words.

    Raises:
        InputError: it has no word for them.
    """
    if not rank:
        return None
    inner = {ffn.inner, 2 * ffn.inner}
    of_ffn = sum(count for widths, count in pairs.items() if inner & {*widths}) / one.layers
    of_head = pairs[rank, one.vocab]
    of_attention = sum(count for (rows, _), count in pairs.items() if rows == rank) / one.layers - of_ffn
    of_attention -= of_head / one.layers
    networks = sum(count for widths, count in products.items() if inner & {*widths}) / one.layers
    projections = sum(products.values()) / one.layers - networks
    words: dict[tuple[float, float, int], LoraTargets] = {
        (2, 0, 0): "query-value",
        (projections, 0, 0): "attention",
        (0, networks, 0): "ffn",
        (projections, networks, 0): "all",
        (projections, networks, 1): "linear",
    }
    targets = words.get((of_attention, of_ffn, of_head))
    if targets is None or ffn.experts is not None:
        raise _refusal(f"its adapters of rank {rank} are on a choice of weights that it has no word for")
    return LoraSpec(rank=rank, targets=targets)


def _refusal(reason: str) -> InputError:
    return InputError(
        f"the planner has no words for the script's model: {reason}",
        expectation="expected a decoder, dense or of experts, on data or tensor ranks, trained whole or by adapters",
        remedy="give the model with --model (a name, a config.json or a TOML file)",
    )


def toml_of(spec: ModelSpec) -> str:
    """A model of plain dimensions as a file of the catalogue."""
    plain = {name: getattr(spec, name) for name in type(spec).model_fields if name in spec.model_fields_set}
    tables: dict[str, dict[str, Any]] = {"source": plain.pop("source")}
    if (experts := plain.pop("moe", None)) is not None:
        tables["moe"] = experts.model_dump(include=experts.model_fields_set)
    lines = [f"{name} = {json.dumps(value)}" for name, value in plain.items()]
    for name, table in tables.items():
        lines += ["", f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in table.items())]
    return "\n".join([*lines, ""])
