"""How does a ``config.json`` become a model to serve, also one of a family that the catalogue's reader refuses?

Of other families serving needs widths and counts alone, and those have the same names in nearly all of them. What is
not there is assumed as the family's own code does, and said.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hwprof.deploy.model import Feed, Mixing, Norm, ServedModel, served_model
from hwprof.errors import InputError, SpecError
from hwprof.specs.huggingface import KNOWN_TYPES, READ_WHOLE, UnreadKeysError, model_from_values
from hwprof.specs.reading import content_of

Values = Mapping[str, Any]


def model_from_config(text: str, name: str) -> ServedModel:
    """The model of a ``config.json``'s text; of one that also reads images or sounds, its text model.

    Raises:
        InputError: it is no JSON, does not say how wide and deep the model is, or generates no tokens.
    """
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{name}: this is no JSON: {error}", expectation="expected a config.json") from error
    if not isinstance(values, dict):
        raise InputError(f"{name}: this is a {type(values).__name__}", expectation="expected a config.json's table")
    known = _known(values, name)
    if known is not None:
        return known
    inner = next((values[key] for key in ("text_config", "llm_config", "language_config") if key in values), None)
    notes = []
    if isinstance(inner, dict):
        values = {**{key: value for key, value in values.items() if not isinstance(value, dict)}, **inner}
        notes.append(_TEXT)
    return _model(values, name, notes)


_TEXT = "the text model alone is served: no images or sounds"


def _known(values: dict[str, Any], name: str) -> ServedModel | None:
    """The model as the catalogue's reader of its type has it; None where it has none, or the reader refuses it."""
    if values.get("model_type") not in KNOWN_TYPES:
        return None
    ignored: tuple[str, ...] = ()
    for _ in range(2):  # a key that no reader knows may change a count, but no width
        try:
            spec = model_from_values(values, path=Path(f"{name}.json"), ignored=ignored)
        except UnreadKeysError as error:
            ignored = error.keys
        except SpecError:
            return None
        else:
            said = [_TEXT] if spec.family not in READ_WHOLE else []
            said += [f"not known, and taken to change no width: {', '.join(ignored)}"] if ignored else []
            drafts = spec.mtp_layers or _drafts(values)
            return replace(served_model(spec), name=name, drafts=drafts, assumptions=tuple(said))
    return None


def read_config(path: Path) -> ServedModel:
    """The model of a file, or of the ``config.json`` in a folder.

    Raises:
        InputError: as ``model_from_config``, or it can't be read.
    """
    file = path / "config.json" if path.is_dir() else path
    try:
        text = content_of(file, remedy="give a model's config.json").decode()
    except UnicodeDecodeError as error:
        raise InputError(f"cannot read {file}: {error}", expectation="expected a model's config.json") from error
    return model_from_config(text, path.stem if path.stem != "config" else path.parent.name)


def _model(values: Values, name: str, notes: list[str]) -> ServedModel:
    layers = _needed(values, name, "num_hidden_layers", "n_layer", "n_layers", "num_layers")
    d_model = _needed(values, name, "hidden_size", "n_embd", "d_model")
    return ServedModel(
        name=name,
        d_model=d_model,
        vocab=_needed(values, name, "vocab_size"),
        mixing=_mixing(values, name, layers, d_model, notes),
        feed=_feed(values, name, layers, d_model, notes),
        tied=bool(_value(values, "tie_word_embeddings") or False),
        drafts=_drafts(values),
        assumptions=tuple(notes),
    )


def _drafts(values: Values) -> int:
    return _count(values, "num_nextn_predict_layers", "mtp_num_hidden_layers", "num_mtp_modules")


def _value(values: Values, *names: str) -> Any:
    return next((values[name] for name in names if values.get(name) is not None), None)


def _count(values: Values, *names: str, usual: int = 0) -> int:
    """A whole number, or the first of a list of them; ``usual`` where it is not there.

    Raises:
        InputError: it is something else.
    """
    found = _value(values, *names)
    if isinstance(found, list) and found:
        found = found[0]
    if found is None:
        return usual
    if isinstance(found, bool) or not isinstance(found, int | float) or found < 0 or found != int(found):
        raise InputError(f"{names[0]} is {found!r}", expectation="a whole number, or a list of them")
    return int(found)


def _needed(values: Values, name: str, *names: str) -> int:
    found = _value(values, *names)
    if isinstance(found, bool) or not isinstance(found, int | float) or found < 1 or found != int(found):
        raise InputError(
            f"{name}: {names[0]} is {found!r}",
            expectation="a model to serve says how wide and deep it is, in whole numbers",
            remedy="give the config.json of a language model",
        )
    return int(found)


def _mixing(values: Values, name: str, layers: int, d_model: int, notes: list[str]) -> tuple[Mixing, ...]:
    """Layers by how tokens meet: linear ones, those that see all, those with a window."""
    linear, local = _linear_layers(values, layers), 0
    window = _count(values, "sliding_window", "sliding_window_size")
    kinds = _value(values, "layer_types")
    if window and isinstance(kinds, list):
        local = sum(str(kind) in {"sliding_attention", "chunked_attention"} for kind in kinds[:layers])
    elif window and _value(values, "use_sliding_window") is not False:
        local = layers - linear
    whole = layers - linear - local
    found = [_linear(values, name, linear, notes)] if linear else []
    if whole + local:
        attention = _attention(values, name, d_model, notes)
        found += [
            replace(attention, layers=count, window=reach) for count, reach in ((whole, 0), (local, window)) if count
        ]
    return tuple(found)


def _linear_layers(values: Values, layers: int) -> int:
    kinds = _value(values, "layer_types", "layers_block_type")
    if isinstance(kinds, list):
        return sum(str(kind) in {"linear_attention", "linear", "mamba", "recurrent"} for kind in kinds[:layers])
    coded = _value(values, "attn_type_list")
    if isinstance(coded, list):
        return sum(kind == 0 for kind in coded[:layers])
    interval = _count(values, "full_attention_interval")
    return layers - layers // interval if interval else 0


def _linear(values: Values, name: str, layers: int, notes: list[str]) -> Mixing:
    heads = _count(values, "linear_num_value_heads", "num_attention_heads") or _needed(values, name, "num_heads")
    width = _count(values, "linear_key_head_dim", "head_dim", usual=128)
    if _value(values, "linear_num_value_heads") is None:
        notes.append(f"{layers} layers with a state: its heads are assumed as those of attention")
    return Mixing(
        layers=layers,
        kind="linear",
        heads=heads,
        kv_heads=_count(values, "linear_num_key_heads", usual=heads),
        head_dim=width,
        value_dim=_count(values, "linear_value_head_dim", usual=width),
    )


def _norm(values: Values) -> Norm:
    """Norms of queries and keys, by the key that says so or by the families that have them without one."""
    family = str(_value(values, "model_type") or "")
    if family.startswith(("minimax", "olmo2", "olmo3", "olmoe")) or _value(values, "qk_norm_type") == "per_layer":
        return "full"
    heads = family.startswith(("qwen3", "gemma3", "gemma4", "glm4_moe")) or bool(_value(values, "use_qk_norm"))
    return "head" if heads else "none"


USUAL_INDEX = {"index_topk": 2048, "index_n_heads": 32, "index_head_dim": 128}
"""The indexer of GLM-5 (transformers, ``GlmMoeDsaConfig``); DeepSeek-V3.2 has twice as many heads."""


def _attention(values: Values, name: str, d_model: int, notes: list[str]) -> Mixing:
    """One layer of attention that sees all."""
    heads = _needed(values, name, "num_attention_heads", "n_head", "num_heads")
    one_key = bool(_value(values, "multi_query")) and not _value(values, "new_decoder_architecture")
    kv_heads = 1 if one_key else _count(values, "num_key_value_heads", "num_kv_heads", usual=heads)
    head_dim = _count(values, "head_dim", usual=d_model // heads)
    rank = _count(values, "kv_lora_rank")
    chosen, index_heads, index_dim = _indexer(values, notes)
    gated = bool(_value(values, "attn_output_gate") or False)
    if not rank:
        value_dim = _count(values, "v_head_dim", usual=head_dim)
        norm = _norm(values)
        return Mixing(
            layers=1,
            heads=heads,
            kv_heads=kv_heads,
            head_dim=head_dim,
            value_dim=value_dim,
            gated=gated,
            norm=norm,
        )
    rope = _count(values, "qk_rope_head_dim", usual=64)
    return Mixing(
        layers=1,
        kind="latent",
        heads=heads,
        kv_heads=kv_heads,
        head_dim=_count(values, "qk_nope_head_dim", usual=128) + rope,
        value_dim=_count(values, "v_head_dim", usual=128),
        chosen=chosen,
        index_heads=index_heads,
        index_dim=index_dim,
        query_rank=_count(values, "q_lora_rank"),
        latent_rank=rank,
        rope_dim=rope,
        gated=gated,
    )


def _indexer(values: Values, notes: list[str]) -> tuple[int, int, int]:
    """How many tokens it chooses, and its heads and their width; zeros where there is none."""
    family = str(_value(values, "model_type") or "")
    if _value(values, "index_topk") is None:
        if not family.endswith("_dsa"):
            return 0, 0, 0
        notes.append(f"{family} chooses {USUAL_INDEX['index_topk']} tokens by an indexer, assumed as in GLM-5")
    chosen, index_heads, index_dim = (_count(values, key, usual=usual) for key, usual in USUAL_INDEX.items())
    return chosen, index_heads, index_dim


def _feed(values: Values, name: str, layers: int, d_model: int, notes: list[str]) -> tuple[Feed, ...]:
    experts = _count(values, "n_routed_experts", "num_local_experts", "num_experts", "moe_num_experts")
    dense_width = _count(values, "intermediate_size_mlp", "ffn_hidden_size", "intermediate_size", "n_inner", "ffn_dim")
    family = str(_value(values, "model_type") or "")
    act = str(_value(values, "hidden_act", "activation_function", "activation") or "silu").lower()
    gated = act not in UNGATED and not family.startswith(UNGATED_FAMILIES)
    matrices = 3 if gated else 2
    if experts <= 1:
        return (Feed(layers=layers, width=dense_width or 4 * d_model, matrices=matrices),)
    width = _count(values, "moe_intermediate_size", "expert_ffn_hidden_size", "intermediate_size")
    if not width:
        width = _needed(values, name, "moe_intermediate_size")
    top_k = _count(values, "num_experts_per_tok", "experts_per_token", "moe_top_k", "num_experts_per_token", "moe_k")
    if not top_k:
        notes.append("a token passes 8 experts: the file does not say how many")
    shared = _count(values, "shared_expert_intermediate_size", "shared_intermediate_size")
    if not shared and family.startswith("llama4"):
        shared = width
    elif not shared:
        shared = width * _count(values, "n_shared_experts", "num_shared_experts")
    dense = _dense_layers(values, layers)
    found = [Feed(layers=dense, width=dense_width or 4 * d_model, matrices=matrices)] if dense else []
    routed = Feed(
        layers=layers - dense,
        width=shared,
        experts=experts,
        top_k=top_k or 8,
        expert_width=width,
        matrices=matrices,
    )
    return (*found, routed)


UNGATED_FAMILIES = (
    "starcoder2",
    "apertus",
    "gpt_bigcode",
    "falcon",
    "mpt",
    "opt",
    "bloom",
    "gpt_neox",
    "codegen",
    "gptj",
)
"""Families with two matrices whatever their activation is called."""

UNGATED = frozenset({"gelu", "gelu_new", "gelu_fast", "relu", "relu2"})
"""Activations of networks with two matrices, as in GPT-2, OPT and Nemotron; gated ones name silu or a gelu by tanh."""


def _dense_layers(values: Values, layers: int) -> int:
    """Layers without routed experts."""
    first = _count(values, "first_k_dense_replace", "num_dense_layers")
    listed = _value(values, "mlp_only_layers")
    every = _count(values, "decoder_sparse_step", "moe_layer_freq", "interleave_moe_layer_step", usual=1) or 1
    spread = layers - first if every == 1 else (layers - first) // every
    others = len(listed) if isinstance(listed, list) else 0
    return min(max(layers - spread, others), layers - 1)
