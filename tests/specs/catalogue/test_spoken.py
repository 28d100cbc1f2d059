"""Names as people write them lead to one spec, and never to another size."""

import pytest

from hwprof.errors import UnknownNameError
from hwprof.specs.catalogue.lookup import cluster_of, counted, find_any, load_cluster, load_device, load_model


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
        ("a100 80G", "a100-sxm4-80gb"),
        ("RTX 3060", "rtx-3060"),
        ("rtx 3060 8g", "rtx-3060-8gb"),
        ("5060 8gb", "rtx-5060"),
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
    ],
)
def test_words_that_fit_several_devices_or_another_one_are_suggestions(name, meant):
    with pytest.raises(UnknownNameError) as refused:
        load_device(name)
    assert all(each in refused.value.expectation for each in meant)


@pytest.mark.parametrize(
    ("text", "count", "device"),
    [
        ("8xh100", 8, "h100-sxm5-80gb"),
        ("8 × h100", 8, "h100-sxm5-80gb"),
        ("8 H100", 8, "h100-sxm5-80gb"),
        ("two 3090", 2, "rtx-3090"),
        ("4x dgx h100", 32, "h100-sxm5-80gb"),
        ("2xgb200-rack", 144, "gb200-nvl72"),
        ("2x aws p5", 16, "h100-sxm5-80gb"),
    ],
)
def test_a_number_of_clusters_is_that_of_all_their_devices(text, count, device):
    """A DGX H100 has 8 GPUs, a p5.48xlarge 8, a rack of GB200 72 (NVIDIA, AWS)."""
    found = load_cluster(text)
    assert (found.devices, found.device.id) == (count, device)


def test_a_cluster_alone_is_a_number_only_where_none_is_given():
    assert counted("dgx h100") == (None, "dgx h100")
    assert counted("dgx h100", alone=True) == (8, "dgx-h100")
    assert counted("3090 ti", alone=True) == (None, "3090 ti")
    assert counted("h100") == (None, "h100")


def test_devices_of_a_cluster_have_its_network():
    """GCP's A3 Mega has 8 x 200 Gb/s where a DGX H100 has 8 x 400 (GCP)."""
    assert cluster_of(64, "gcp-a3-mega").inter_node_byte_per_s == 25e9
    assert cluster_of(64, "gcp-a3-mega").devices_per_node == 8
    assert cluster_of(64, "h100").inter_node_byte_per_s == 50e9


@pytest.mark.parametrize(
    ("name", "sort"), [("dgx h100", "cluster"), ("RTX 4090", "device"), ("Llama 3.1 8B", "model"), ("nvlink4", "link")]
)
def test_any_name_is_found_as_it_is_spoken(name, sort):
    assert find_any(name)[0] == sort


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("v5p-256", "tpu-v5p"),
        ("a3 mega", "gcp-a3-mega"),
        ("tpu", "tpu-v4"),
        ("intel core i7", "--device cpu` measures"),
        ("cpu", "cpu-epyc-7763"),
    ],
)
def test_an_unknown_device_is_told_what_is_near_and_what_to_do(name, words):
    with pytest.raises(UnknownNameError, match=words):
        load_device(name)


@pytest.mark.parametrize("name", ["5090 laptop", "rtx 4090 laptop", "1080 ti", "l2", "b20", "gtx 1660", "m9 max"])
def test_a_device_that_is_not_there_is_none_that_is(name):
    with pytest.raises(UnknownNameError):
        load_device(name)


@pytest.mark.parametrize(("name", "meant"), [("0.5b", ["qwen2.5-0.5b"]), ("llama 4", ["llama-4-scout"])])
def test_models_that_have_all_the_words_are_suggested(name, meant):
    with pytest.raises(UnknownNameError) as refused:
        load_model(name)
    assert all(each in refused.value.expectation for each in meant)
    assert "405b" not in refused.value.expectation
