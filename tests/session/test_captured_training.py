"""What of a captured model is trained: adapters beside a frozen one, frozen towers, against modules like that."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from captured_types import kept_bytes, saved
from click.testing import CliRunner
from other_types import OTHER_TYPES
from small_transformers import multiplied, transformers
from torch import nn

from hwprof.cli.plan.fit import command as fit
from hwprof.count.blocks.parameters import parameter_tensors, parameters
from hwprof.count.blocks.transformer import Precision, model_ops
from hwprof.count.job.totals import total_cost
from hwprof.count.memory.job import job_memory
from hwprof.count.ops.lora import Frozen, adapters
from hwprof.errors import InputError
from hwprof.measure.capture.inputs import Asked, inputs_of
from hwprof.session.captured import Shapes, counted_model
from hwprof.specs.job.step import LoraSpec, TrainingJob
from hwprof.specs.model.spec import ModelSpec

pytestmark = pytest.mark.filterwarnings("ignore")  # what transformers warns of is its own affair

BATCH, LENGTH, RANK = 2, 16, 4
KINDS = [
    "state space 2",
    "state space, attention, experts",
    "gated delta",
    "short convolution",
    "disentangled attention",
]


class Adapted(nn.Module):
    """A linear layer with a pair beside it, as PEFT's ``lora.Linear`` without dropout."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base
        self.down = nn.Linear(base.in_features, RANK, bias=False)
        self.up = nn.Linear(RANK, base.out_features, bias=False)

    @property
    def weight(self) -> torch.Tensor:
        return self.base.weight

    @property
    def bias(self) -> torch.Tensor | None:
        return self.base.bias

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        return self.base(given) + self.up(self.down(given)) * 2.0


def config_of(layer: str) -> tuple[str, str, dict[str, Any]]:
    kind, name, keys = OTHER_TYPES[layer]
    return kind, name, keys | dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), 0.0)


def file_of(folder: Path, layer: str) -> Path:
    return saved(folder, *config_of(layer))


def captured(path: Path, **more: Any) -> ModelSpec:
    return counted_model(str(path), Shapes(batch_sizes=(BATCH,), seq_len=LENGTH, dtype="fp32", **more))


def made(layer: str, *, attention: str | None = "eager", experts: str = "eager") -> Any:
    kind, name, keys = config_of(layer)
    config = transformers.CONFIG_MAPPING[kind](**keys)
    config.use_cache, config._attn_implementation = False, attention
    found = getattr(transformers, name)
    if found._can_set_experts_implementation():
        config._experts_implementation = experts
    return found._from_config(config).eval()


def adapt(module: Any) -> Any:
    """All linear layers but the head, beside frozen weights; the vectors of tokens have gradients."""
    module.requires_grad_(requires_grad=False)
    head = module.get_output_embeddings()
    for part in list(module.modules()):
        for name, child in list(part.named_children()):
            if isinstance(child, nn.Linear) and child is not head:
                setattr(part, name, Adapted(child))
    module.get_input_embeddings().register_forward_hook(lambda _m, _i, out: out.requires_grad_(requires_grad=True))
    return module


def trained(module: Any, inputs: dict[str, Any]) -> None:
    logits = module(**inputs).logits
    torch.autograd.backward(logits, torch.ones_like(logits))


@pytest.mark.parametrize("layer", KINDS)
def test_adapters_cost_what_they_do_beside_the_linear_layers_of_the_module(layer: str, tmp_path: Path) -> None:
    spec = captured(file_of(tmp_path, layer), adapted=True)
    lora, tensors = LoraSpec(rank=RANK), parameter_tensors(spec)
    ops = model_ops(spec, batch_size=BATCH, seq_len=LENGTH, precision=Precision.of("fp32"))
    found = [*Frozen(lora=lora, library="peft", tensors=tensors, compute_bytes=4).adapted(ops)]
    module = adapt(made(layer))
    inputs = inputs_of(module, Asked(batch_size=BATCH, seq_len=LENGTH), layer)
    pairs = sum(each.numel() for each in module.parameters() if each.requires_grad)
    assert sum(tensor.total for tensor in adapters(tensors, lora, "peft")) == pairs
    forward = multiplied(lambda: module(**inputs))[0]
    train = multiplied(lambda: trained(module, inputs))[0]
    assert total_cost(found, "forward").matmul_flop == forward > 0
    beyond = total_cost(found, "forward", "backward").matmul_flop - train
    table = 0.06 if layer == "disentangled attention" else 0  # its frozen table of positions would need no gradient
    assert 0 <= beyond <= table * train
    logits = module(**inputs).logits.nbytes
    kept, _ = kept_bytes(adapt(made(layer, attention=None, experts="grouped_mm")), inputs)
    assert abs(sum(op.saved_bytes * op.repeats for op in found) - kept) <= 0.01 * kept + logits


def test_a_class_that_names_no_embedding_is_adapted_beside_all_of_its_weights(tmp_path: Path) -> None:
    spec = captured(file_of(tmp_path, "convolutions"), adapted=True)
    ops = model_ops(spec, batch_size=BATCH, seq_len=LENGTH, precision=Precision.of("fp32"))
    kept = sum(op.saved_bytes * op.repeats for op in ops)
    assert 0 < sum((op.saved_bytes - op.weight_saved_bytes) * op.repeats for op in ops) < kept


def test_frozen_modules_have_no_gradients_no_state_and_no_products_of_their_weights(tmp_path: Path) -> None:
    layer = "gated delta"
    path = file_of(tmp_path, layer)
    still = captured(path, freeze=("model.layers.0", "mlp.experts"))
    module = made(layer)
    for name, each in module.named_parameters():
        each.requires_grad_(requires_grad=".layers.0." not in name and ".mlp.experts." not in name)
    inputs = inputs_of(module, Asked(batch_size=BATCH, seq_len=LENGTH), layer)
    ops = model_ops(still, batch_size=BATCH, seq_len=LENGTH, precision=Precision.of("fp32"))
    train = multiplied(lambda: trained(module, inputs))[0]
    assert total_cost(ops, "forward", "backward").matmul_flop == train
    tensors = parameter_tensors(still)
    assert parameters(still).total == sum(each.numel() for each in module.parameters())
    assert sum(each.total for each in tensors if each.trained) == sum(
        each.numel() for each in module.parameters() if each.requires_grad
    )
    job = TrainingJob(model=still, seq_len=LENGTH, micro_batch=BATCH, global_batch=BATCH, dtype="fp32")
    whole = job.changed(model=captured(path))
    frozen = sum(each.total for each in tensors if not each.trained)
    parts, before = ({part.name: part.predicted_bytes for part in job_memory(each).parts} for each in (job, whole))
    assert before["optimizer state"] - parts["optimizer state"] == pytest.approx(
        8 * frozen, abs=200
    )  # numbers of steps beside
    assert before["weights"] == parts["weights"]
    with pytest.raises(InputError, match=r"no weights called 'tower' to freeze.*such as lm_head"):
        captured(path, freeze=("tower",))


def test_fit_looks_at_a_captured_model_in_every_way(tmp_path: Path) -> None:
    path = str(file_of(tmp_path, "short convolution"))
    asked = ("--model", path, "--memory", "24GB", "--seq-len", "16", "--batch-size", "1,4", "--format", "json")
    found = json.loads(CliRunner().invoke(fit, asked, catch_exceptions=False).stdout)
    assert "counted by capture of Lfm2ForCausalLM" in found["notes"]
    peaks = {(row["adaptation"], row["batch_size"], row["seq_len"]): row["peak_bytes"] for row in found["rows"]}
    ways = ("full", "full-8bit", "lora", "qlora")
    assert peaks.keys() == {(way, batch, length) for way in ways for batch in (1, 4) for length in (16,)}
    assert peaks["full", 4, 16] > peaks["full-8bit", 4, 16] > peaks["full-8bit", 1, 16]
    assert peaks["full", 4, 16] > peaks["lora", 4, 16] > peaks["lora", 1, 16]
    score = CliRunner().invoke(fit, (*asked, "--task", "reward"))
    assert isinstance(score.exception, InputError)
    assert "gives tokens, no score" in str(score.exception)
