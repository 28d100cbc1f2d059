"""Names as people write them lead to one spec, and never to another size."""

import pytest

from hwprof.errors import UnknownNameError
from hwprof.specs.catalogue.lookup import load_cluster, load_device, load_model


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("meta-llama/Llama-3.1-8B", "llama-3.1-8b"),
        ("meta-llama/Meta-Llama-3-8B-Instruct", "llama-3-8b"),
        ("meta-llama/Llama-2-7b-hf", "llama-2-7b"),
        ("Qwen/Qwen3-8B", "qwen3-8b"),
        ("Llama 3.1 8B", "llama-3.1-8b"),
        ("google/gemma-2-9b-it", "gemma-2-9b"),
        ("openai-community/gpt2-xl", "gpt2-xl-1.5b"),
        ("llama3", "llama-3-8b"),
        ("gpt-3", "gpt3-175b"),
    ],
)
def test_a_model_is_found_as_people_write_it(name, model):
    assert load_model(name).name == model


@pytest.mark.parametrize(
    ("name", "device"),
    [
        ("RTX 4090", "rtx-4090"),
        ("NVIDIA GeForce RTX 4090", "rtx-4090"),
        ("NVIDIA GeForce RTX 4090 D", "rtx-4090-d"),
        ("NVIDIA H100 80GB HBM3", "h100-sxm5-80gb"),
        ("AMD Instinct MI300X", "mi300x"),
        ("H100 SXM", "h100-sxm5-80gb"),
        ("tpu v5p", "tpu-v5p"),
    ],
)
def test_a_device_is_found_as_people_write_it(name, device):
    assert load_device(name).id == device
    assert load_cluster(f"8x{name}").devices == 8


@pytest.mark.parametrize("name", ["meta-llama/Llama-3.1-9B", "nosuch/thing", "llama 4"])
def test_another_size_is_never_taken_for_it(name):
    with pytest.raises(UnknownNameError):
        load_model(name)
