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


@pytest.mark.parametrize(
    ("name", "device"),
    [
        ("orin nano", "jetson-orin-nano-8gb"),
        ("mi355", "mi355x"),
        ("v5e", "tpu-v5e"),
        ("dgx spark", "gb10"),
        ("m4 max", "apple-m4-max"),
        ("910b", "ascend-910b3"),
        ("gaudi 3", "gaudi3"),
        ("h100 nvl", "h100-nvl-94gb"),
        ("h100 80gb", "h100-sxm5-80gb"),
        ("dgx h100", "h100-sxm5-80gb"),
        ("grace hopper", "gh200-96gb"),
        ("ponte vecchio", "max-1550"),
        ("h100 96gb", "h100-sxm5-96gb-hbm2e"),
    ],
)
def test_a_device_is_found_by_words_that_fit_no_other(name, device):
    assert load_device(name).id == device


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        (
            "jetson orin",
            ["jetson-agx-orin-32gb", "jetson-agx-orin-64gb", "jetson-orin-nano-8gb", "jetson-orin-nx-16gb"],
        ),
        ("radeon 7900", ["rx-7900-xt", "rx-7900-xtx"]),
        ("mi300", ["mi300a", "mi300x"]),
        ("rtx 6000", ["quadro-rtx-6000", "rtx-6000-ada"]),
        ("5060 8gb", ["rtx-5060-ti-8gb"]),
    ],
)
def test_words_that_fit_several_devices_or_another_one_are_suggestions(name, meant):
    with pytest.raises(UnknownNameError) as refused:
        load_device(name)
    assert all(each in refused.value.expectation for each in meant)


@pytest.mark.parametrize("name", ["5090 laptop", "rtx 4090 laptop", "1080 ti", "l2", "b20", "gtx 1660", "m9 max"])
def test_a_device_that_is_not_there_is_none_that_is(name):
    with pytest.raises(UnknownNameError):
        load_device(name)
