"""Models of transformers, made from their configurations, against torch's own counter and what autograd packs."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
import torch
from small_transformers import transformers
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from hwprof.count.aten.captured import captured_ops, operators_unpriced
from hwprof.count.job.totals import total_cost
from hwprof.count.ops.operation import Op
from hwprof.measure.capture.module import capture
from hwprof.measure.capture.subject import Subject, subject_of

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

IDS = (2, 12)
_DIMENSIONS = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 101,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_GROUPED = _DIMENSIONS | {"num_key_value_heads": 2}


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    before = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    yield
    transformers.logging.set_verbosity(before)


def ids() -> torch.Tensor:
    return torch.ones(IDS, dtype=torch.int64)


def labelled() -> dict[str, torch.Tensor]:
    return {"input_ids": ids(), "labels": ids()}


def _made(model: str, config: str, inputs: Callable[[], dict[str, torch.Tensor]], **dimensions: Any) -> Any:
    return lambda: (getattr(transformers, model)(getattr(transformers, config)(**dimensions)), inputs())


FAMILIES: dict[str, Callable[[], tuple[torch.nn.Module, dict[str, torch.Tensor]]]] = {
    "gpt2": _made("GPT2LMHeadModel", "GPT2Config", labelled, **_DIMENSIONS | {"pad_token_id": None}),
    "llama": _made("LlamaForCausalLM", "LlamaConfig", labelled, **_GROUPED),
    "t5": _made(
        "T5ForConditionalGeneration",
        "T5Config",
        labelled,
        d_model=32,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_heads=4,
        vocab_size=101,
        decoder_start_token_id=0,
    ),
    "bert": _made("BertForMaskedLM", "BertConfig", labelled, **_DIMENSIONS),
    "vit": _made(
        "ViTForImageClassification",
        "ViTConfig",
        lambda: {"pixel_values": torch.zeros(2, 3, 32, 32)},
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=32,
        patch_size=8,
    ),
}


@pytest.fixture(params=list(FAMILIES))
def target(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The maker of each family in turn, as a user's module would have it."""
    module = ModuleType("family_under_test")
    module.build = FAMILIES[request.param]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "family_under_test", module)
    return "family_under_test:build"


def rows_of(subject: Subject) -> tuple[Op, ...]:
    torch.manual_seed(0)
    seen = capture(subject)
    assert operators_unpriced(seen) == ()
    assert sum(use.elements for use in seen.parameters) == sum(each.numel() for each in subject.module.parameters())
    return captured_ops(seen)


def result_of(output: Any) -> torch.Tensor:
    found: torch.Tensor = output.loss if output.get("loss") is not None else output.logits
    return found


def test_products_and_kept_bytes_equal_those_of_the_real_model(target: str) -> None:
    real = subject_of(target, fake=False)
    model, inputs = real.module, real.keywords
    own = {each.untyped_storage().data_ptr() for each in itertools.chain(model.parameters(), model.buffers())}
    packed: dict[int, int] = {}
    alive: list[torch.Tensor] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        alive.append(tensor)  # memory that is given back could be taken for another tensor's
        packed[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    torch.manual_seed(0)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        result = result_of(model(**inputs))
        result.backward(torch.ones_like(result))
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = model(**inputs)
    expected = sum(size_bytes for pointer, size_bytes in packed.items() if pointer not in own)

    rows = rows_of(subject_of(target))
    assert total_cost(rows).matmul_flop == counter.get_total_flops() > 0
    kept = sum((row.saved_bytes + row.weight_copy_bytes) * row.repeats for row in rows)
    assert 0 <= kept - expected <= sum(each.untyped_storage().nbytes() for each in _others(output))


def _others(output: Any) -> list[torch.Tensor]:
    return [value for value in output.values() if isinstance(value, torch.Tensor)]


def test_fake_and_real_tensors_give_the_same_rows(target: str) -> None:
    assert rows_of(subject_of(target)) == rows_of(subject_of(target, fake=False))


def test_layers_are_merged_and_told_apart_by_their_names() -> None:
    model, inputs = FAMILIES["llama"]()
    rows = rows_of(Subject(name="llama", module=model, keywords=inputs))
    (query,) = [row for row in rows if row.label == "model.layers.*.self_attn.q_proj" and row.parameters]
    assert (query.repeats, query.layer_kind, query.parameters) == (2, "attention", 32 * 32)
    assert query.forward.matmul_flop == 2 * 24 * 32 * 32
    assert {row.layer_kind for row in rows} >= {"attention", "ffn", "norm", "embedding", "head", "loss"}


def test_grouped_products_of_experts_count_each_token_top_k_times() -> None:
    mixture = _made("MixtralForCausalLM", "MixtralConfig", labelled, num_local_experts=4, **_GROUPED)
    model, inputs = mixture()
    rows = rows_of(Subject(name="mixtral", module=model, keywords=inputs))
    experts = [row for row in rows if row.kind == "aten::_grouped_mm"]
    if not experts:
        pytest.skip("this version of transformers runs experts one by one")
    flop = sum(row.forward.matmul_flop * row.repeats for row in experts)
    assert flop == 2 * (24 * 2) * (2 * 3 * 32 * 64)  # layers x (tokens x top_k) x (gate, up, down)
