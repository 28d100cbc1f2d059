"""What is a file that describes no model, and what should be given in its place? One row for each kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Tables = dict[str, Any]

EXPECTED = "expected what describes a model: a catalogue name, a TOML file or a config.json"
BESIDE = "give the config.json that stands beside it, or its folder"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of file.

    Attributes:
        holds: whether a file's keys are of this kind.
        what: the fact, after "is".
        remedy: what to give instead.
        expectation: what was expected.
    """

    holds: Callable[[Tables], bool]
    what: Callable[[Tables], str]
    remedy: Callable[[Tables], str]
    expectation: str = EXPECTED


def _is_tokenizer(values: Tables) -> bool:
    whole = {"added_tokens", "pre_tokenizer"} <= values.keys()
    return whole or ("model_type" not in values and bool({"tokenizer_class", "added_tokens_decoder"} & values.keys()))


def _is_generation(values: Tables) -> bool:
    words = {"do_sample", "temperature", "top_p", "top_k", "max_new_tokens", "max_length", "_from_model_config"}
    return "model_type" not in values and bool(words & values.keys()) and "hidden_size" not in values


def _adapter(values: Tables) -> str:
    base = values.get("base_model_name_or_path") or "a model that it does not name"
    rank = f", rank {values['r']}" if values.get("r") else ""
    return f"an adapter of PEFT ({values['peft_type']}{rank}) for {base}"


def _adapted(values: Tables) -> str:
    base = values.get("base_model_name_or_path") or "BASE"
    rank = f" --lora-rank {values['r']}" if values.get("r") else ""
    words = "the base model and the rank" if rank else "the base model"
    return f"give {words}: --model {base}{rank}"


def _recipe(values: Tables) -> str:
    base = values.get("base_model") or values.get("model_name_or_path")
    return f"give the model that it trains: --model {base}"


def _of_diffusers(values: Tables) -> str:
    return (
        "pip install 'hwprof[diffusers]', and DiT, PixArt, Stable Diffusion 3 and Flux are captured; others count as a "
        "module: hwprof count --module package.module:factory, whose factory returns "
        f"(diffusers.{values['_class_name']}.from_config(values of this file), inputs)"
    )


NO_MODELS: tuple[Kind, ...] = (
    Kind(holds=lambda v: "peft_type" in v, what=_adapter, remedy=_adapted),
    Kind(
        holds=lambda v: (
            bool({"zero_optimization", "train_micro_batch_size_per_gpu"} & v.keys())
            or ("train_batch_size" in v and "model_type" not in v)
        ),
        what=lambda _: "a configuration of DeepSpeed: how a model is trained",
        remedy=lambda _: "give the model, and what the file sets as options: --zero, --offload, --micro-batch, --dtype",
    ),
    Kind(
        holds=lambda v: (
            bool({"compute_environment", "distributed_type", "fsdp_config", "deepspeed_config"} & v.keys())
            and "model_type" not in v
        ),
        what=lambda _: "a configuration of accelerate: on what a model is trained",
        remedy=lambda _: "give the model, and what the file sets as options: --devices, --zero, --dtype, --recompute",
    ),
    Kind(
        holds=lambda v: isinstance(v.get("base_model"), str) or isinstance(v.get("model_name_or_path"), str),
        what=lambda _: "a recipe of training (axolotl, LLaMA-Factory, TRL)",
        remedy=_recipe,
    ),
    Kind(
        holds=lambda v: str(v.get("_class_name", "")).endswith("Pipeline"),
        what=lambda v: f"an index of a pipeline of diffusers, {v['_class_name']}",
        remedy=lambda _: "give the config.json of the part that is trained: transformer/config.json",
    ),
    Kind(
        holds=lambda v: "_class_name" in v and ("_diffusers_version" in v or str(v["_class_name"]).endswith("Model")),
        what=lambda v: f"a configuration of diffusers, {v['_class_name']}",
        remedy=_of_diffusers,
    ),
    Kind(
        holds=lambda v: "pretrained_cfg" in v or ({"architecture", "num_features"} <= v.keys()),
        what=lambda v: f"a configuration of timm, {v.get('architecture', 'of a model that it does not name')}",
        remedy=lambda v: (
            "count the module: --module package.module:factory, whose factory returns "
            f"(timm.create_model({v.get('architecture', 'NAME')!r}), inputs)"
        ),
    ),
    Kind(
        holds=lambda v: bool({"pos_emb", "pos-emb"} & v.keys()),
        what=lambda _: "a configuration of GPT-NeoX",
        remedy=lambda _: "give its name (pythia-410m, gpt-neox-20b), or the config.json of its conversion",
    ),
    Kind(
        holds=lambda v: "weight_map" in v,
        what=lambda _: "an index of weights: which file holds which",
        remedy=lambda _: BESIDE,
    ),
    Kind(
        holds=_is_tokenizer,
        what=lambda _: "a configuration of a tokenizer",
        remedy=lambda _: BESIDE,
    ),
    Kind(
        holds=_is_generation,
        what=lambda _: "a configuration of text generation",
        remedy=lambda _: BESIDE,
    ),
)
"""Kinds in the order in which they are asked."""
