"""What does a ``config.json`` leave to its class, or say in vain? What a reader of the count should know of it."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from typing import Any

from hwprof.specs.huggingface.bookkeeping import BOOKKEEPING

IMAGES_ALONE = "it reads images alone: --images says how large they are, and --seq-len changes nothing of what runs"
"""What is said of a model without a length."""


def remarks_of(values: dict[str, Any], found: Any, config: Any) -> Iterator[str]:
    """What to say of the file.

    Args:
        values: its keys.
        found: the class that it is counted as.
        config: the configuration that the class takes.
    """
    named = (values.get("architectures") or [found.__name__])[0]
    if "text_config" in values and str(named).endswith("ConditionalGeneration") and found.__name__.endswith("CausalLM"):
        yield f"towers of {named} need timm (pip install timm): its text model alone is counted"
    elif str(named).replace("_", "").lower() != found.__name__.replace("_", "").lower():
        yield f"transformers has {named} as {found.__name__}"
    main = str(getattr(found, "main_input_name", ""))
    if main.startswith("pixel_values") and not {"input_ids", "decoder_input_ids"} & set(
        inspect.signature(found.forward).parameters
    ):
        yield IMAGES_ALONE
    if values.get("quantization_config"):
        yield "stored quantized: counted as trained, with whole weights"
    unread = sorted(_unread(values, found, config))
    if unread:
        yield f"{found.__name__} does not know {', '.join(map(repr, unread))}: passed over"
    text: Any = config.get_text_config(decoder=True) if hasattr(config, "get_text_config") else config
    chosen = getattr(text, "index_topk", None)
    if chosen:
        yield (
            f"attention of {found.__name__} multiplies all pairs of tokens and hides all but the {chosen:,} that its "
            "indexer chooses: kernels that gather these alone, as servers have them, multiply fewer"
        )
    idle = getattr(text, "zero_expert_num", 0)
    if idle:
        yield f"{found.__name__} has matrices for {idle} experts a layer that do nothing: authors do not count them"
    said = [each.get("tie_word_embeddings") for each in (values, values.get("text_config") or {})]
    if (
        text is not config
        and getattr(config, "tie_word_embeddings", False)
        and not getattr(text, "tie_word_embeddings", True)
        and said == [None] * 2
    ):
        rows, width = getattr(text, "vocab_size", 0), getattr(text, "hidden_size", 0)
        yield (
            f"the head is taken to be the table of tokens, as {found.__name__} has it where tie_word_embeddings is not "
            f"said; false adds {rows * width:,} parameters"
        )


def _unread(values: dict[str, Any], found: Any, config: Any) -> Iterator[str]:
    """Keys of the file and its parts of which the source of the class and of its configurations says nothing."""
    kinds = [found, *(type(part) for part in (config, *vars(config).values()) if hasattr(part, "model_type"))]
    modules = {each.__module__ for kind in kinds for each in kind.__mro__ if ".models." in each.__module__}
    from transformers import PreTrainedConfig

    words = {*vars(PreTrainedConfig()), *dir(PreTrainedConfig), "quantization_config"} | BOOKKEEPING
    for name in modules:
        words |= set(re.findall(r"\w+", inspect.getsource(sys.modules[name])))
    parts = {f"{name}.": values.get(name) for name in getattr(config, "sub_configs", {})} | {"": values}
    for path, part in parts.items():
        for key, value in (part if isinstance(part, dict) else {}).items():
            if value and key not in words and not key.startswith("_") and not key.endswith(("token_id", "_index")):
                yield f"{path}{key}"
