"""Which model did a published run train? The catalogue's, with the dimensions that the run states."""

from __future__ import annotations

import functools
import re

from hwprof.specs.catalogue.lookup import list_models
from hwprof.specs.catalogue.published import PublishedRun
from hwprof.specs.model.parts import MoeSpec
from hwprof.specs.model.spec import ModelSpec

_ASIDE = re.compile(r"\(.*?\)|\bproxy\b|\bcut to\b.*|\bhf\b|\binstruct\b")
_SUFFIXES = ("text", "instruct", "base", "v01")
SHORTEST_PREFIX = 7
"""Names that agree in fewer characters are different models."""


def published_model(run: PublishedRun) -> tuple[ModelSpec, tuple[str, ...]]:
    """The model of a run, and what was assumed about it.

    The catalogue's model of that name gives the architecture (experts, latent attention, norms), the run's columns
    override its dimensions; without such a model the columns describe a dense decoder or plain experts.

    Raises:
        ValueError: neither the catalogue nor the columns describe it, or the dimensions contradict each other.
    """
    known = _catalogued(run.model_name)
    if known is None:
        return _from_columns(run), (f"{run.model_name} is not in the catalogue: architecture from the columns",)
    changes = _changes(known, run)
    if not changes:
        return known, ()
    model = _cut(known, changes)
    return model, (f"{known.name} with " + ", ".join(f"{key} = {value}" for key, value in changes.items()),)


@functools.lru_cache(maxsize=1)
def _names() -> dict[str, ModelSpec]:
    return {_squashed(name): model for model in list_models() for name in (*model.aliases, model.name)}


def _squashed(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", _ASIDE.sub("", name.lower()))


@functools.lru_cache(maxsize=4096)
def _catalogued(name: str) -> ModelSpec | None:
    names, wanted = _names(), _squashed(name)
    if wanted in names:
        return names[wanted]
    near = [
        known
        for known in names
        if len(known) >= SHORTEST_PREFIX
        and (wanted.startswith(known) or any(known == wanted + suffix for suffix in _SUFFIXES))
    ]
    return names[max(near, key=len)] if near else None


_COLUMNS = {
    "n_layers": "layers",
    "hidden": "d_model",
    "ffn_hidden": "d_ff",
    "n_heads": "heads",
    "n_kv_heads": "kv_heads",
    "head_dim": "head_dim",
    "vocab": "vocab_size",
}


def _changes(model: ModelSpec, run: PublishedRun) -> dict[str, int]:
    """Dimensions that the run states otherwise; those of experts and latent attention are not in the columns."""
    held = {"kv_heads", "head_dim"} if model.mla else set()
    if model.moe:
        held.add("d_ff")
    stated = {field: getattr(run, column) for column, field in _COLUMNS.items()}
    return {
        field: value
        for field, value in stated.items()
        if value and field not in held and value != getattr(model, field)
    }


def _cut(model: ModelSpec, changes: dict[str, int]) -> ModelSpec:
    """The model with other dimensions; where it has fewer layers, each sort of layer keeps its share, at least one."""
    update: dict[str, object] = dict(changes)
    layers = changes.get("layers", model.layers)
    share = layers / model.layers
    if model.moe and model.moe.dense_layers and layers != model.layers:
        kept = min(max(round(model.moe.dense_layers * share), 1), layers - 1)
        update["moe"] = model.moe.changed(dense_layers=kept)
    window = model.attention.window
    if layers != model.layers and (window or model.attention.nope_layers):
        attention: dict[str, object] = {"nope_layers": round(model.attention.nope_layers * share)}
        if window:
            attention["window"] = window.changed(layers=max(round(window.layers * share), 1))
        update["attention"] = model.attention.changed(**attention)
    update["max_seq_len"] = model.max_seq_len
    return model.changed(**update)


def _from_columns(run: PublishedRun) -> ModelSpec:
    missing = [column for column in ("n_layers", "hidden", "n_heads", "vocab") if getattr(run, column) is None]
    if missing or run.n_layers is None or run.hidden is None or run.n_heads is None or run.vocab is None:
        raise ValueError(f"the model is not in the catalogue and {', '.join(missing)} are blank")
    gated = bool(run.gated_mlp)
    moe = None
    if run.moe_experts and run.moe_topk and run.ffn_hidden:
        moe = MoeSpec(experts=run.moe_experts, top_k=run.moe_topk, expert_ff=run.ffn_hidden)
    return ModelSpec(
        name=run.model_name,
        kind="decoder",
        layers=run.n_layers,
        d_model=run.hidden,
        d_ff=run.ffn_hidden or 4 * run.hidden,
        heads=run.n_heads,
        kv_heads=run.n_kv_heads or run.n_heads,
        head_dim=run.head_dim or run.hidden // run.n_heads,
        vocab_size=run.vocab,
        max_seq_len=max(run.seq_len, 2048),
        activation="silu" if gated else "gelu",
        gated=gated,
        norm="rmsnorm" if gated else "layernorm",
        norm_placement="pre",
        final_norm=True,
        positions="rope" if gated else "learned",
        tied_embeddings=not gated,
        attention_bias="none" if gated else "all",
        mlp_bias=not gated,
        moe=moe,
        source={"all": run.source_ref or run.id},
    )
