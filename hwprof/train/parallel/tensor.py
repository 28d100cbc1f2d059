"""How are a decoder's matrices shared between tensor-parallel ranks? Megatron's division, as torch's DTensor does it.

Columns of what makes heads or features, rows of what brings them together again (Shoeybi et al. 2019, section 3), the
vocabulary of embedding, head and loss in parts. With sequence parallelism norms and residuals are split over the tokens
(Korthikanti et al. 2022, section 4.2.2).
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn

from hwprof.errors import InputError
from hwprof.specs.model.spec import ModelSpec
from hwprof.train.parallel.mesh import TENSOR, RankMesh


def check_divisible(spec: ModelSpec, ranks: int, *, seq_len: int, sequence_parallel: bool) -> None:
    """Refuse a model whose sizes do not divide.

    Raises:
        InputError: says which sizes.
    """
    if ranks == 1:
        return
    if spec.kind != "decoder":
        raise InputError(
            f"{spec.name} has stock encoder layers, whose packed attention matrices can't be divided by heads",
            remedy="use --parallel fsdp or ddp",
        )
    sizes = {"heads": spec.heads, "kv_heads": spec.kv_heads, "d_ff": spec.d_ff, "vocab_size": spec.vocab_size}
    if sequence_parallel:
        sizes["seq_len"] = seq_len
    wrong = [f"{name} = {size}" for name, size in sizes.items() if size % ranks]
    if wrong:
        raise InputError(
            f"{spec.name} can't be divided over {ranks} tensor ranks: {', '.join(wrong)}",
            expectation=f"expected multiples of {ranks}",
            remedy="choose another tp<N>, or fsdp",
        )


def divide(model: nn.Module, mesh: Any, *, sequence_parallel: bool) -> None:
    """Turn the weights of a decoder, or of a part of one, into DTensors on the tensor axis.

    Activations stay plain tensors, whole on each rank or, with sequence parallelism, split over the sequence.
    """
    from torch.distributed.tensor.parallel import parallelize_module

    names = {name for name, _ in model.named_modules()}
    styles = {
        name: style for name, style in _styles(names, sequence_parallel=sequence_parallel).items() if name in names
    }
    parallelize_module(model, mesh, styles)


def _styles(names: set[str], *, sequence_parallel: bool) -> dict[str, Any]:
    from torch.distributed.tensor import Replicate, Shard
    from torch.distributed.tensor.parallel import (
        ColwiseParallel,
        PrepareModuleInput,
        RowwiseParallel,
        SequenceParallel,
    )

    between = Shard(1) if sequence_parallel else Replicate()
    styles: dict[str, Any] = {
        "embedding.tokens": RowwiseParallel(input_layouts=Replicate(), output_layouts=between),
        "head": ColwiseParallel(input_layouts=between, output_layouts=Shard(-1), use_local_output=False),
    }
    whole = PrepareModuleInput(input_layouts=(between,), desired_input_layouts=(Replicate(),))
    for name in names:
        owner, _, last = name.rpartition(".")
        in_layer = owner.startswith("layers.")
        if in_layer and last in {"query", "key", "value", "up", "gate"}:
            styles[name] = ColwiseParallel()
        elif in_layer and last in {"output", "down"}:
            styles[name] = RowwiseParallel(output_layouts=between)
        elif sequence_parallel and last in {"attention", "ffn"}:
            styles[name] = whole
        elif sequence_parallel and last.endswith("norm"):
            styles[name] = SequenceParallel(use_local_output=True)
    return styles


def divided_loss(mesh: RankMesh) -> AbstractContextManager[object]:
    """The context for cross-entropy of logits whose vocabulary is divided over the tensor ranks, and its backward."""
    if mesh.degree(TENSOR) == 1:
        return nullcontext()
    from torch.distributed.tensor.parallel import loss_parallel

    context: AbstractContextManager[object] = loss_parallel()
    return context


def whole_loss(loss: torch.Tensor) -> torch.Tensor:
    """A loss that is the same on all tensor ranks, as a plain tensor."""
    plain: torch.Tensor = loss.to_local() if hasattr(loss, "to_local") else loss
    return plain
