"""Which reader knows a ``config.json``? One for each ``model_type``, and what to say of the others."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from hwprof.errors import InputError, SpecError
from hwprof.specs.huggingface import (
    decoders,
    encoder_decoders,
    encoders,
    mixtures,
    older_decoders,
    own_code,
    recent_decoders,
)
from hwprof.specs.huggingface.config import Config, Tables
from hwprof.specs.huggingface.mixtures import TEXT_ALONE
from hwprof.specs.model.spec import ModelSpec
from hwprof.specs.parsing import build
from hwprof.specs.reading import json_of, model_name

Reader = Callable[[Config], Tables]

READERS: dict[str, Reader] = {
    "arcee": recent_decoders.arcee,
    "bart": encoder_decoders.bart,
    "bert": encoders.bert,
    "blenderbot": encoder_decoders.blenderbot,
    "bloom": older_decoders.bloom,
    "camembert": encoders.roberta,
    "codegen": older_decoders.gptj,
    "cohere": recent_decoders.cohere,
    "cohere2": recent_decoders.cohere2,
    "dbrx": mixtures.dbrx,
    "deepseek_v2": mixtures.deepseek_v2,
    "deepseek_v3": mixtures.deepseek_v3,
    "distilbert": encoders.distilbert,
    "dots1": mixtures.dots1,
    "ernie4_5": recent_decoders.ernie4_5,
    "ernie4_5_moe": mixtures.ernie4_5_moe,
    "exaone4": recent_decoders.exaone4,
    "falcon": older_decoders.falcon,
    "gemma": decoders.gemma,
    "gemma2": decoders.gemma2,
    "gemma3_text": decoders.gemma3_text,
    "glm": recent_decoders.glm,
    "glm4": recent_decoders.glm4,
    "glm4_moe": mixtures.glm4_moe,
    "gpt2": older_decoders.gpt2,
    "gpt_bigcode": older_decoders.gpt_bigcode,
    "gpt_neox": older_decoders.gpt_neox,
    "gpt_oss": mixtures.gpt_oss,
    "gptj": older_decoders.gptj,
    "granite": decoders.granite,
    "granitemoe": mixtures.granitemoe,
    "hunyuan_v1_dense": recent_decoders.hunyuan_dense,
    "hunyuan_v1_moe": mixtures.hunyuan_moe,
    "kimi_k2": mixtures.deepseek_v3,
    "llama": decoders.llama,
    "llama4_text": mixtures.llama4_text,
    "m2m_100": encoder_decoders.m2m_100,
    "marian": encoder_decoders.marian,
    "mbart": encoder_decoders.mbart,
    "minimax_m2": mixtures.minimax_m2,
    "ministral": recent_decoders.ministral,
    "mistral": decoders.mistral,
    "mixtral": mixtures.mixtral,
    "mpt": older_decoders.mpt,
    "mt5": encoder_decoders.t5,
    "nemotron": recent_decoders.nemotron,
    "olmo": decoders.olmo,
    "olmo2": decoders.olmo2,
    "olmo3": decoders.olmo3,
    "olmoe": mixtures.olmoe,
    "opt": older_decoders.opt,
    "pegasus": encoder_decoders.pegasus,
    "phi": older_decoders.phi,
    "phi3": decoders.phi3,
    "phimoe": mixtures.phimoe,
    "qwen2": decoders.qwen2,
    "qwen2_moe": mixtures.qwen2_moe,
    "qwen3": decoders.qwen3,
    "qwen3_moe": mixtures.qwen3_moe,
    "roberta": encoders.roberta,
    "seed_oss": recent_decoders.seed_oss,
    "smollm3": decoders.smollm3,
    "stablelm": recent_decoders.stablelm,
    "starcoder2": recent_decoders.starcoder2,
    "t5": encoder_decoders.t5,
    "vit": encoders.vit,
    "whisper": encoder_decoders.whisper,
    "xlm-roberta": encoders.roberta,
} | own_code.READERS_OF_OWN_CODE
"""``model_type`` -> what reads its configuration."""

WITH_IMAGES: dict[str, tuple[str, dict[str, Any]]] = {
    "gemma3": (
        "gemma3_text",
        {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "vocab_size": 262208}
        | {"max_position_embeddings": 131072},
    ),
    "llama4": ("llama4_text", {}),
}
"""``model_type`` of a model that also reads images -> that of its text model, and the defaults that files lean on."""

TEXT_WITHIN: dict[str, tuple[str, str]] = {
    "dots_vlm": ("", "deepseek_v3"),
    "internvl_chat": ("llm_config", ""),
    "kimi_vl": ("text_config", "deepseek_v3"),
    "ovis": ("llm_config", ""),
    "ovis2_5": ("llm_config", ""),
}
"""``model_type`` of a model that also reads images, whose code comes with it -> where its text model stands, and of
which type that is; empty: at the top, and as the text model itself says."""

READ_WHOLE = frozenset(READERS)
"""Every ``model_type`` of which nothing is left out."""

KNOWN_TYPES = tuple(sorted((*READERS, *WITH_IMAGES, *TEXT_WITHIN)))
"""Every ``model_type`` that can be read."""


def model_from_config(path: Path, ignored: Collection[str] = ()) -> ModelSpec:
    """The model that ``config.json`` at ``path`` describes; no network, no code but hwprof's own.

    The count is that of transformers' own modules: of the class that ``architectures`` names, else of the language
    model (of an encoder: of the base model).

    Args:
        path: the file.
        ignored: keys that are known to change nothing.

    Raises:
        SpecError: the file cannot be read, is of an unknown ``model_type``, or holds a value or a key that is not
            understood.
    """
    return model_from_values(_values(path), path=path, ignored=ignored)


def model_from_values(values: Tables, *, path: Path, ignored: Collection[str] = ()) -> ModelSpec:
    """The model of a configuration that was read, or made of another file at ``path``; raises as above."""
    config = Config({key: value for key, value in values.items() if key not in ignored}, path=path)
    kind = config.text("model_type", default="")
    if kind in WITH_IMAGES:
        tables = _text_model(config, *WITH_IMAGES[kind])
    elif kind in TEXT_WITHIN:
        tables = _text_within(config, *TEXT_WITHIN[kind])
    elif kind in READERS:
        tables = READERS[kind](config)
    else:
        raise _unknown(path, kind)
    notes = _notes(config)
    own = {"name": model_name(path), "family": kind, "notes": " ".join(notes)}
    return build(ModelSpec, tables | own | {"source": {"config": str(path)}}, path=path, example="tiny")


def model_type_of(path: Path) -> str:
    """The ``model_type`` of a file; empty where it holds none."""
    try:
        values = json_of(path, remedy="")
    except InputError:
        return ""
    kind = values.get("model_type") if isinstance(values, dict) else None
    return kind if isinstance(kind, str) else ""


def _text_model(config: Config, kind: str, defaults: dict[str, Any]) -> Tables:
    held = config.value("text_config")
    if not isinstance(held, dict):
        config.fail("key 'text_config' is missing", expectation="expected the text model's configuration in a table")
    text = Config(defaults | held, path=config.path, table="text_config.")
    if config.value("tie_word_embeddings") is not None:
        text = Config(
            defaults | held | {"tie_word_embeddings": config.value("tie_word_embeddings")},
            path=config.path,
            table="text_config.",
        )
    text.harmless(_OF_GENERATION)
    tables = READERS[kind](text)
    text.finish()
    config.notes.extend(text.notes)
    return mixtures.multimodal(config, tables)


def _text_within(config: Config, table: str, kind: str) -> Tables:
    """The text model of one whose code comes with it; what else the file says is of images."""
    text = config.table(table) if table else config
    text.harmless(_OF_GENERATION)
    kind = kind or text.text("model_type", default="")
    if kind not in READERS:
        where = f"the table {table!r}"
        config.fail(
            f"its text model, {where}, is of model_type {kind!r}, which no reader of hwprof knows",
            expectation="the text model is counted alone: the code of its other parts comes with the model",
            remedy=f"save {where} as a config.json of its own, and give that: transformers' class of it is captured",
        )
    config.harmless(*config.keys) if table else config.harmless("vision_config")
    tables = READERS[kind](text)
    if table:
        text.finish()
        config.notes.extend(text.notes)
    config.notes.append(TEXT_ALONE)
    return tables


_OF_GENERATION = "top_k"
"""Beside a model's own keys a table within a file holds those of generation, too; of experts none of these reads it."""


def _notes(config: Config) -> list[str]:
    """What the reader said of the file, and of keys that nobody asked for."""
    if config.value("quantization_config", "compression_config") is not None:
        config.notes.append("Stored quantized; counted as trained, with whole weights.")
    config.finish()
    return config.notes


def _values(path: Path) -> dict[str, Any]:
    values = json_of(path, error=SpecError, remedy=_TOML)
    if not isinstance(values, dict):
        raise SpecError(f"{path} holds no table", expectation='expected {"model_type": ...}', remedy=_TOML)
    return values


_TOML = (
    "correct it, or write a TOML file with the keys "
    + ", ".join(name for name, field in ModelSpec.model_fields.items() if field.is_required())
    + "; start with `hwprof specs show tiny > mine.toml`"
)


def _unknown(path: Path, kind: str) -> SpecError:
    if not kind:
        return SpecError(
            f"{path}: key 'model_type' is missing, so it is no config.json of transformers",
            expectation="a config.json, or a file of one of the tools that docs/architectures.md lists",
            remedy=_TOML,
        )
    near = difflib.get_close_matches(kind, KNOWN_TYPES, n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return SpecError(
        f"{path}: model_type {kind!r} is unknown{hint}", expectation=f"known: {', '.join(KNOWN_TYPES)}", remedy=_TOML
    )
