"""What tests of captured types share: a file of one, what autograd keeps of its module, one device's work."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from hwprof.count.job.rows import WorkShare
from hwprof.specs.model.spec import ModelSpec


def saved(folder: Path, kind: str, name: str, keys: dict[str, Any]) -> Path:
    """A ``config.json`` of a type, with its class and keys."""
    path = folder / "config.json"
    path.write_text(json.dumps({"model_type": kind, "architectures": [name], **keys}))
    return path


def kept_bytes(module: Any, inputs: dict[str, Any]) -> tuple[int, int]:
    """What autograd packs that is no weight, and what of it is the result itself, which is kept anyway."""
    own = {each.untyped_storage().data_ptr() for each in (*module.parameters(), *module.buffers())}
    packed: dict[int, int] = {}
    alive: list[torch.Tensor] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        alive.append(tensor)  # memory that is given back could be taken for another tensor's
        packed[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = module(**inputs)
    results = {leaf.untyped_storage().data_ptr() for leaf in tree_leaves(output) if isinstance(leaf, torch.Tensor)}
    total = sum(size for pointer, size in packed.items() if pointer not in own)
    return total, sum(packed[pointer] for pointer in results & packed.keys() - own)


def work_share(model: ModelSpec, **changes: Any) -> WorkShare:
    """What decides the work of one device that shares nothing, trains all and runs nothing again, but for changes."""
    alone: dict[str, Any] = {"tensor": 1, "context": 1, "expert": 1, "expert_tensor": 1, "expert_skew": 1.0}
    plain: dict[str, Any] = {"dtype": "bf16", "flash": True, "sequence_parallel": False, "adapter_library": "peft"}
    whole: dict[str, Any] = {"recompute": "none", "selective": (), "lora": None}
    return WorkShare(model=model, **alone | plain | whole | changes)
