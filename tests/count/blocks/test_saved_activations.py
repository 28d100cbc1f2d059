"""Bytes kept for the backward pass, against what autograd really packs on this machine's CPU."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (the name that torch's own documentation uses)

from hwprof.count.blocks.transformer import training_step_ops
from hwprof.specs.model.spec import ModelSpec
from hwprof.specs.record.run import Dtype, RunSettings
from hwprof.train.decoder import Decoder
from hwprof.train.encoder import Encoder

BATCH, SEQ_LEN = 3, 16

pytestmark = pytest.mark.skipif(
    torch.__version__ < (2, 13), reason="older CPU kernels keep other tensors than those that are counted"
)


def packed_bytes(spec: ModelSpec, dtype: Dtype) -> int:
    """Bytes of all storages that autograd keeps, but for those of parameters and buffers."""
    torch.manual_seed(0)
    model = Decoder(spec) if spec.kind == "decoder" else Encoder(spec)
    tokens, targets = (torch.randint(0, spec.vocab_size, (BATCH, SEQ_LEN)) for _ in range(2))
    own = {tensor.untyped_storage().data_ptr() for tensor in itertools.chain(model.parameters(), model.buffers())}
    storages: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bf16"):
            logits = model(tokens)
        F.cross_entropy(logits.float().view(-1, spec.vocab_size), targets.flatten())
    return sum(storage.nbytes() for storage in storages.values())


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_saved_bytes_equal_what_autograd_packs(spec: ModelSpec, dtype: Dtype) -> None:
    settings = RunSettings(model="m", device="cpu", dtype=dtype, micro_batch=BATCH, seq_len=SEQ_LEN)
    ops = training_step_ops(spec, settings)
    counted = sum((op.saved_bytes + op.weight_copy_bytes) * op.repeats for op in ops)
    assert counted == packed_bytes(spec, dtype)
