"""What is an operation called? The naming contract between the training model, the op table and the recorder.

A label is the path of the module that runs the operation, with layer numbers replaced by ``*``
(``layers.*.attention.query``); work outside any module is called by its phase (``loss``, ``clip``, ``optimizer``).
"""

from __future__ import annotations

import re
from collections.abc import Collection

from hwprof.specs.job.settings import LayerKind, PhaseName

MODEL_LABEL = "model"
"""Work inside the model but outside every named module; of a compiled model, what can't be told apart."""

COMMUNICATION_LABEL = "communication"
"""Collectives, and what packs and unpacks their buffers."""

PHASE_LABELS: dict[PhaseName, str] = {
    "data": "data",
    "host_to_device": "data",
    "prefill": MODEL_LABEL,
    "decode": MODEL_LABEL,
    "forward": MODEL_LABEL,
    "loss": "loss",
    "backward": MODEL_LABEL,
    "pipeline": COMMUNICATION_LABEL,
    "clip": "clip",
    "optimizer": "optimizer",
    "evaluation": "evaluation",
    "checkpoint": "checkpoint",
}

_KIND_PATTERNS: tuple[tuple[str, LayerKind], ...] = (
    (r"(^|\.)(\w*norm\d?)$", "norm"),
    (r"^((encoder|mtp)\.)?embedding(\.|$)", "embedding"),
    (r"^(mtp\.)?head(\.|$)", "head"),
    (r"(^|\.)(attention|cross_attention|self_attn)(\.|$)", "attention"),
    (r"(^|\.)(ffn|moe|linear[12]|activation)(\.|$)", "ffn"),
    (r"^loss$", "loss"),
    (r"^optimizer$", "optimizer"),
    (r"^clip$", "clip"),
    (r"^data$", "data"),
    (r"^communication$", "communication"),
    (r"(^|\.)layers\.\*(\.residual|\.dropout\d?)?$", "residual"),
)
_KIND_OF_WORD: tuple[tuple[str, LayerKind], ...] = (
    (r"(^|[._])(layer|rms|batch|group)?_?norm(\d|_|\.|$)|(^|\.)ln_?(\d|f|\.|$)|LayerNorm", "norm"),
    (r"attn|attention|_sdpa", "attention"),
    (r"mlp|ffn|feed_?forward|expert|moe|(^|\.)fc\d?(\.|$)|DenseReluDense|intermediate", "ffn"),
    (r"embed|(^|\.)(wte|wpe|shared)(\.|$)", "embedding"),
    (r"(^|\.)(lm_head|head|classifier|score|cls|heads|fc)(\.|$)", "head"),
)
_KINDS = tuple((re.compile(pattern), kind) for pattern, kind in _KIND_PATTERNS)
_WRAPPED = frozenset(("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"))
"""Attributes in which compiled, sharded and checkpointed modules hold what they wrap."""
_LAYER_NUMBER = re.compile(r"\.\d+(?=\.|$)")


def plain_path(module_path: str) -> str:
    """A module's path without the attributes of wrappers: ``layers.3._orig_mod.ffn`` -> ``layers.3.ffn``."""
    return ".".join(part for part in module_path.split(".") if part not in _WRAPPED)


def label_of(module_path: str) -> str:
    """The label of a module path: ``layers.3.ffn.up`` -> ``layers.*.ffn.up``."""
    return _LAYER_NUMBER.sub(".*", module_path)


def own_kind(label: str) -> LayerKind:
    """The kind of layer that a label of hwprof's own models belongs to; ``other`` where no rule names it."""
    return next((kind for pattern, kind in _KINDS if pattern.search(label)), "other")


def kind_of_words(label: str) -> LayerKind:
    """The kind of layer by the words that people name modules with; ``other`` where none is in the label."""
    return next((kind for pattern, kind in _KIND_OF_WORD if re.search(pattern, label)), "other")


def layer_kind(label: str) -> LayerKind:
    """The kind of layer of any label: by hwprof's own names, else by people's words."""
    own = own_kind(label)
    return kind_of_words(label) if own == "other" else own


def owner_of(op_label: str, measured: Collection[str]) -> str | None:
    """The measured label that an op's time was booked under: itself, or its longest dotted prefix, or the model."""
    parts = op_label.split(".")
    prefixes = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((prefix for prefix in prefixes if prefix in measured), MODEL_LABEL if MODEL_LABEL in measured else None)
