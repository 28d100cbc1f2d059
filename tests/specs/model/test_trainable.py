"""Models that the training loop cannot build are refused by name; the others are not."""

from __future__ import annotations

import pytest

from hwprof.errors import InputError
from hwprof.specs.catalogue.lookup import list_models, load_model
from hwprof.specs.model.trainable import check_trainable

TRAINABLE = {
    "GPT-2", "GPT-3", "LLaMA-1", "LLaMA-2", "LLaMA-3", "Qwen2.5", "SmolLM2", "Megatron", "hwprof", "Gemma-1", "Yi",
}  # fmt: skip
DENSE_OF_MIXED_FAMILIES = {
    "phi-4", "encoder-base", "qwen2-0.5b", "qwen2-1.5b", "qwen2-7b", "qwen2-72b", "mistral-7b-v0.3",
    "mistral-nemo-12b", "codestral-22b", "mistral-small-24b", "mistral-large-123b",
    "ernie-4.5-0.3b",
}  # fmt: skip
"""Without windows, experts or blocks side by side, which others of their families have."""


def test_families_of_dense_decoders_are_trainable_and_others_are_not() -> None:
    refused = set()
    for model in list_models():
        try:
            check_trainable(model)
        except InputError:
            refused.add(model.name)
    assert refused == {m.name for m in list_models() if m.family not in TRAINABLE} - DENSE_OF_MIXED_FAMILIES


@pytest.mark.parametrize(
    ("name", "obstacle"),
    [
        ("t5-small", "it is of kind encoder_decoder"),
        ("vit-b-16", "it is of kind vit"),
        ("bert-base", "its layers are not stock ones"),
        ("mixtral-8x7b", "it has a mixture of experts"),
        ("deepseek-v3", "it has a mixture of experts"),
        ("pythia-70m", "side by side"),
    ],
)
def test_a_refusal_says_what_stands_in_the_way_and_what_can_be_trained(name: str, obstacle: str) -> None:
    with pytest.raises(InputError, match=obstacle) as caught:
        check_trainable(load_model(name))
    assert "it trains decoders of dense layers" in str(caught.value)
    assert "hwprof count" in str(caught.value)
