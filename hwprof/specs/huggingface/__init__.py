"""How does a Hugging Face ``config.json`` become a model?"""

from __future__ import annotations

from hwprof.specs.huggingface.config import UnreadKeysError
from hwprof.specs.huggingface.families import (
    KNOWN_TYPES,
    READ_WHOLE,
    WITH_IMAGES,
    model_from_config,
    model_from_values,
    model_type_of,
)

__all__ = [
    "KNOWN_TYPES",
    "READ_WHOLE",
    "WITH_IMAGES",
    "UnreadKeysError",
    "model_from_config",
    "model_from_values",
    "model_type_of",
]
