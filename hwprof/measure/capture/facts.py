"""What does a configuration of transformers say of its model beside its module? Widths for estimates, and its class."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from hwprof.measure.capture.configured import class_and_config, model_of_config
from hwprof.measure.capture.inputs import value_of
from hwprof.measure.capture.unsaid import remarks_of
from hwprof.specs.huggingface.own_code import in_words_of_transformers
from hwprof.specs.model.captured import Piece
from hwprof.specs.record.captured import Facts

_NAMES: dict[str, tuple[tuple[str, ...], int]] = {
    "d_model": (("hidden_size", "d_model", "n_embd", "dim", "embed_dim", "hidden_dim"), 1),
    "d_ff": (("intermediate_size", "ffn_dim", "d_ff", "decoder_ffn_dim", "n_inner"), 1),
    "heads": (("num_attention_heads", "n_head", "num_heads", "decoder_attention_heads"), 1),
    "kv_heads": (("num_key_value_heads", "num_kv_heads"), 0),
    "head_dim": (("head_dim", "d_kv"), 0),
    "vocab_size": (("vocab_size",), 0),
    "max_seq_len": (("max_position_embeddings", "n_positions", "max_target_positions"), 2048),
}
"""Field of a model -> what configurations call it, and what stands where they do not say: these serve estimates."""

_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
_CHOSEN = ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_top_k", "top_k")

_PIECES: dict[str, tuple[str, ...]] = {
    "heads of state spaces": ("mamba_num_heads", "mamba_n_heads", "n_mamba_heads"),
    "groups of state spaces": ("mamba_n_groups", "mamba_ngroups", "n_groups"),
    "key heads of linear attention": ("linear_num_key_heads",),
    "value heads of linear attention": ("linear_num_value_heads",),
}
"""What of a recurrence is one piece -> what configurations call how many there are."""

_REPEATED = "groups of state spaces"
"""B and C of a group, which ranks beyond their number all have (vLLM, ``extra_groups_for_head_shards``)."""


def weights_of_config(path: Path, keys: Collection[str]) -> tuple[bool, int]:
    """Whether the configuration's class has none of the keys, and how many parameters its module has.

    Raises:
        InputError: as ``model_of_config``.
    """
    _, _, config = class_and_config(path)
    fields = {*vars(type(config)()), *getattr(config, "attribute_map", {}), *dir(type(config))}
    module = model_of_config(path)
    return not fields & set(keys), sum(each.numel() for each in module.parameters())


def facts_of(path: Path) -> Facts:
    """What the file says.

    Raises:
        InputError: transformers is not there, or refuses the file.
    """
    package, found, config = class_and_config(path)
    text = config.get_text_config(decoder=True) if hasattr(config, "get_text_config") else config
    widths = {field: _first((text, config), names, default) for field, (names, default) in _NAMES.items()}
    if not widths["head_dim"]:  # as in pyramids of images, whose stages have widths of their own
        widths["heads"] = math.gcd(widths["heads"], widths["d_model"])
    widths["kv_heads"] = widths["kv_heads"] or widths["heads"]
    if widths["heads"] % widths["kv_heads"]:
        widths["kv_heads"] = widths["heads"]
    widths["head_dim"] = widths["head_dim"] or max(widths["d_model"] // widths["heads"], 1)
    kind, values = str(config.model_type), json.loads(path.read_bytes())
    said = in_words_of_transformers(values) | {"architectures": values.get("architectures")}
    return Facts(
        by=f"{found.__name__} of transformers {package.__version__}",
        family=kind,
        widths=widths,
        experts=(_first((text,), _EXPERTS, 1), _first((text,), _CHOSEN, 1)),
        causal=found.__name__.endswith(("CausalLM", "LMHeadModel", "ConditionalGeneration")),
        classifies=found.__name__.endswith(("SequenceClassification", "ImageClassification")),
        encoder_decoder=bool(getattr(config, "is_encoder_decoder", False)),
        remarks=tuple(remarks_of(said, found, config)),
        pieces=tuple(
            Piece(what=what, count=count, repeated=what == _REPEATED)
            for what, names in _PIECES.items()
            if (count := _first((text,), names, 0))
        ),
    )


def _first(configs: tuple[Any, ...], names: tuple[str, ...], default: int) -> int:
    return next(_numbers(configs, names), default)


def _numbers(configs: tuple[Any, ...], names: tuple[str, ...]) -> Iterator[int]:
    for config in configs:
        for name in names:
            value = value_of(config, name)
            if isinstance(value, int) and not isinstance(value, bool) and value > 0:
                yield value
