"""What a job's step runs, against torch: adapters and Muon as torch computes them, recompute by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from hwprof.count.job.ops import job_step_ops
from hwprof.count.job.totals import flop_of
from hwprof.specs.job.step import LoraSpec, TrainingJob
from hwprof.specs.model.spec import ModelSpec
from hwprof.train.decoder import Decoder

SEQ_LEN = 16


def job_of(spec: ModelSpec, **changes: object) -> TrainingJob:
    base = {"model": spec, "seq_len": SEQ_LEN, "global_batch": 2, "micro_batch": 2, "dtype": "fp32", "fused": False}
    return TrainingJob.model_validate(base | changes)


class Adapted(nn.Module):
    """A frozen linear layer and the pair beside it."""

    def __init__(self, frozen: nn.Linear, rank: int) -> None:
        super().__init__()
        self.frozen = frozen
        self.down = nn.Linear(frozen.in_features, rank, bias=False)
        self.up = nn.Linear(rank, frozen.out_features, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.frozen(x) + self.up(self.down(x))


@pytest.mark.parametrize("targets", ["all", "attention", "ffn"])
@pytest.mark.parametrize("variant", ["llama", "gpt2"])
def test_flop_of_adapters_are_those_that_torch_counts(
    make_spec: Callable[..., ModelSpec], variant: str, targets: str
) -> None:
    spec = make_spec(variant, layers=2, max_seq_len=SEQ_LEN)
    model = Decoder(spec).requires_grad_(False)
    for layer in model.layers:
        for part, name in ((layer.attention, "attention"), (layer.ffn, "ffn")):
            for key, module in list(part.named_children()):
                if isinstance(module, nn.Linear) and targets in {"all", name}:
                    setattr(part, key, Adapted(module, rank=4))
    # the stream gets a gradient from the start, as with checkpoints
    model.embedding.register_forward_hook(lambda _module, _inputs, output: output.requires_grad_())
    tokens = torch.zeros((2, SEQ_LEN), dtype=torch.int64)
    with FlopCounterMode(display=False) as forward, sdpa_kernel(SDPBackend.MATH):
        loss = model(tokens).sum()
    with FlopCounterMode(display=False) as backward:
        loss.backward()
    job = job_of(spec, lora=LoraSpec(rank=4, targets=targets))
    ops = job_step_ops(job)
    flop = flop_of(ops, ops)
    assert flop.forward_full == forward.get_total_flops()
    assert flop.train_full - flop.forward_full == backward.get_total_flops()


def test_flop_of_muon_are_those_that_torch_counts(make_spec: Callable[..., ModelSpec]) -> None:
    spec = make_spec(layers=2)
    matrices = [weight for weight in Decoder(spec).layers.parameters() if weight.dim() == 2]
    for weight in matrices:
        weight.grad = torch.randn_like(weight)
    optimizer = torch.optim.Muon(matrices)
    with FlopCounterMode(display=False) as counter:
        optimizer.step()
    update = job_step_ops(job_of(spec, optimizer="muon"))[-1].update
    assert update.matmul_flop == counter.get_total_flops() > 0


def test_what_runs_again_is_the_core_or_the_layer_or_a_share_of_the_layers(make_spec: Callable[..., ModelSpec]) -> None:
    spec = make_spec(layers=4)
    cores = 4 * 4 * 2 * spec.q_dim * SEQ_LEN**2  # layers x 4·B·HQ·T²
    found = {
        (recompute, layers): flop_of(ops, ops)
        for recompute, layers in (("none", None), ("selective", None), ("full", None), ("full", 1))
        for ops in [job_step_ops(job_of(spec, recompute=recompute, recompute_layers=layers))]
    }
    head = 2 * 2 * SEQ_LEN * spec.d_model * spec.vocab_size
    assert found["none", None].recompute_full == 0
    assert found["selective", None].recompute_full == cores
    assert found["full", None].recompute_full == found["full", None].forward_full - head
    assert found["full", 1].recompute_full == found["full", None].recompute_full / 4


@pytest.mark.parametrize(("optimizer", "moved"), [("adamw", 28), ("lion", 20), ("sgd", 20), ("adamw-8bit", 16)])
def test_bytes_of_a_fused_update_by_hand(make_spec: Callable[..., ModelSpec], optimizer: str, moved: int) -> None:
    """Weight and gradient of 4 bytes in, weight out, and what is in and out of each moment."""
    spec = make_spec()
    job = job_of(spec, optimizer=optimizer, fused=True, storage="autocast")
    count = sum(weight.numel() for weight in Decoder(spec).parameters())
    assert job_step_ops(job)[-1].update.moved_bytes == moved * count
