"""How does a Hugging Face ``config.json`` become a model?"""

from __future__ import annotations

from hwprof.specs.huggingface.families import KNOWN_TYPES, model_from_config

__all__ = ["KNOWN_TYPES", "model_from_config"]
