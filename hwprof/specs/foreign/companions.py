"""What stands beside a model, and is none? Tokenizers, processors, settings, logs, weights: one row for each kind."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from hwprof.specs.foreign.kinds import BESIDE, Kind, Tables


def _any(*keys: str) -> Callable[[Tables], bool]:
    return lambda values: not values.keys().isdisjoint(keys)


def _beside(what: str, holds: Callable[[Tables], bool]) -> Kind:
    return Kind(holds=holds, what=lambda _: what, remedy=lambda _: BESIDE)


def _of_path(what: str, path: Callable[[Tables], object]) -> Kind:
    return Kind(
        holds=lambda v: isinstance(path(v), str),
        what=lambda _: what,
        remedy=lambda v: f"give the model that it trains: --model {path(v)}",
    )


def _within(*keys: str) -> Callable[[Tables], object]:
    def value(values: Tables) -> object:
        found: object = values
        for key in keys:
            found = found.get(key) if isinstance(found, dict) else None
        return found

    return value


def _special_tokens(values: Tables) -> bool:
    texts = all(isinstance(value, str | dict | list) for value in values.values())
    return bool(values) and texts and all(key.endswith(("_token", "_tokens")) for key in values)


def _numbered(values: Tables) -> bool:
    """Whether every key has a number of its own, as in a vocabulary."""
    return len(values) > 2 and sorted(map(str, values.values())) == sorted(map(str, range(len(values))))


def _settings(values: Tables) -> bool:
    """DeepSpeed's tables where no batch and no ZeRO is set."""
    known = {"bf16", "fp16", "optimizer", "scheduler", "gradient_clipping", "zero_allow_untested_optimizer", "amp"}
    return bool(values) and known >= values.keys()


def _only_ids(values: Tables) -> bool:
    """A generation_config.json that says no more than where a text begins and ends."""
    rest = values.keys() - {"transformers_version", "_from_model_config"}
    return bool(rest) and all(key.endswith("token_id") for key in rest)


def _torchtune(values: Tables) -> bool:
    return str(_within("model", "_component_")(values)).startswith("torchtune")


COMPANIONS: tuple[Kind, ...] = (
    Kind(
        holds=_settings,
        what=lambda _: "a configuration of DeepSpeed: how a model is trained",
        remedy=lambda _: "give the model, and what the file sets as options: --zero, --offload, --micro-batch, --dtype",
    ),
    Kind(
        holds=lambda v: {"num_processes", "mixed_precision"} <= v.keys(),
        what=lambda _: "a configuration of accelerate: on what a model is trained",
        remedy=lambda _: "give the model, and what the file sets as options: --devices, --zero, --dtype, --recompute",
    ),
    Kind(
        holds=_torchtune,
        what=lambda v: f"a recipe of torchtune, which builds {_within('model', '_component_')(v)}",
        remedy=lambda _: (
            "give that model by its name in the catalogue (`hwprof specs list models`), or its config.json"
        ),
    ),
    _of_path("a recipe of verl", _within("actor_rollout_ref", "model", "path")),
    _of_path("a recipe of litgpt", _within("checkpoint_dir")),
    _of_path("a file of settings of an adapter of MLX", lambda v: v.get("model") if "fine_tune_type" in v else None),
    _beside("a configuration of text generation", _only_ids),
    _beside("a list of special tokens", _special_tokens),
    _beside("the vocabulary of a tokenizer", _numbered),
    _beside("a template of chats", lambda v: v.keys() == {"chat_template"}),
    _beside(
        "a configuration of a processor: how images and sound are prepared",
        _any("image_processor_type", "feature_extractor_type", "processor_class", "image_mean"),
    ),
    _beside("the state of a Trainer", _any("log_history", "best_model_checkpoint", "best_metric")),
    _beside("a file of arguments of a training", _any("per_device_train_batch_size", "output_dir")),
    _beside("a file of settings of a quantization", lambda v: "bits" in v or "quant_method" in v or "producer" in v),
    _beside("a file of settings of optimum: how a model was exported", _any("optimum_version")),
    _beside(
        "a part of sentence-transformers",
        lambda v: "pooling_mode_mean_tokens" in v or "sentence_transformers" in str(v.get("__version__")),
    ),
    _beside("a scheduler of diffusers", lambda v: "num_train_timesteps" in v or "_class_name" in v),
    Kind(
        holds=lambda v: "model_cfg" in v,
        what=lambda _: "a configuration of open_clip",
        remedy=lambda _: (
            "take a CLIP of the catalogue (clip-vit-l-14), the config.json that transformers has of it, or count "
            "the module: --module package.module:factory, whose factory returns (open_clip.create_model(...), inputs)"
        ),
    ),
    Kind(
        holds=lambda v: str(v.get("module", "")).startswith("keras"),
        what=lambda v: f"a configuration of Keras, {v.get('class_name', 'of a model that it does not name')}",
        remedy=lambda _: (
            "give the config.json that transformers has of the model, or describe it in TOML "
            "(`hwprof specs show tiny > mine.toml`)"
        ),
    ),
    Kind(
        holds=lambda v: "architecture" in v and "mapping" in v,
        what=lambda v: f"a configuration of TensorRT-LLM, {v['architecture']}",
        remedy=lambda _: "give the config.json of the checkpoint that it was converted from",
    ),
    Kind(
        holds=lambda v: isinstance(v.get("model"), dict) and "train_module" in v,
        what=lambda _: "a configuration of OLMo-core",
        remedy=lambda _: "give the model of the catalogue (olmo-2-7b, olmo-3-7b), or the config.json of its conversion",
    ),
)
"""Kinds in the order in which they are asked, after those of :mod:`hwprof.specs.foreign.kinds`."""

WEIGHTS: dict[str, str] = {
    ".safetensors": "a file of weights",
    ".bin": "a file of weights",
    ".pt": "a file of weights",
    ".pth": "a file of weights",
    ".ckpt": "a file of weights",
    ".onnx": "a graph of ONNX",
    ".h5": "a file of weights of Keras",
    ".npz": "a file of weights",
}
"""Ending of a file -> what it holds."""


def refusal_of_text(path: Path) -> tuple[str, str] | None:
    """What a file that no reader takes is, and what to give instead; None where its name says nothing."""
    suffix = path.suffix.lower()
    if suffix in WEIGHTS:
        return f"{WEIGHTS[suffix]}, without the model's dimensions by name", BESIDE
    if suffix == ".py" and "torchtitan" in path.read_text(encoding="utf-8", errors="replace"):
        return (
            "a program of torchtitan in Python",
            "give the flavor that it trains, torchtitan:llama3:8B, or what makes its job, torchtitan:llama3_8b",
        )
    if suffix == ".py":
        return (
            "a program in Python",
            "give a name of the catalogue, a config.json, or --module package.module:factory for the module it makes",
        )
    if path.name == "Modelfile":
        return "a Modelfile of Ollama", "give the GGUF file that its line FROM names, or a name of the catalogue"
    return None


def listed(values: Iterable[object]) -> str:
    """What a file is that holds a list."""
    parts = [value for value in values if isinstance(value, dict)]
    known = bool(parts) and all("type" in value and "path" in value for value in parts)
    return "a list of modules of sentence-transformers" if known else "a list"
