"""Models that the catalogue keeps as their released configuration: found by name, and as large as was published."""

from __future__ import annotations

import json

import pytest

from hwprof.count.blocks.parameters import parameters
from hwprof.errors import SpecError, UnknownNameError
from hwprof.specs.catalogue.check import check_file
from hwprof.specs.catalogue.lookup import config_file, list_captured, list_models, load_model
from hwprof.specs.catalogue.released import released
from hwprof.specs.catalogue.shelves import files_of

SHOWN = {
    "clip-vit-b-16": 149_620_737,  # 149.62 M in the table
    "clip-vit-b-32": 151_277_313,  # 151.28 M in the table
    "clip-vit-l-14-336": 427_944_193,  # 427.94 M in the table
    "clip-vit-l-14": 427_616_513,  # 427.62 M in the table
    "gemma-3-12b-it": 12_187_325_040,
    "gemma-3-27b-it": 27_432_406_640,
    "gemma-3-4b-it": 4_300_079_472,
    "granite-4.0-h-micro": 3_191_396_096,
    "granite-4.0-h-small": 32_207_337_984,
    "granite-4.0-micro": 3_402_836_480,
    "llava-1.5-7b": 7_063_427_072,
    "nemotron-3-nano-30b-a3b": 31_577_937_344,
    "olmo-3-32b": 32_233_522_176,
    "olmo-3-7b": 7_298_011_136,
    "paligemma-3b": 2_923_466_480,
    "qwen3-next-80b-a3b": 79_674_391_296,
    "qwen3-vl-235b-a22b": 235_670_022_896,
    "qwen3-vl-2b": 2_127_532_032,
    "qwen3-vl-30b-a3b": 31_070_754_032,
    "qwen3-vl-32b": 33_357_390_064,
    "qwen3-vl-4b": 4_437_815_808,
    "qwen3-vl-8b": 8_767_123_696,
    "qwen3.5-27b": 27_356_728_560,
    "qwen3.5-35b-a3b": 35_107_181_936,
    "siglip-base-patch16-224": 203_155_970,  # 203.16 M in the table
    "siglip-so400m-patch14-384": 877_960_498,  # 877.96 M in the table
    "whisper-large-v3-turbo": 808_878_080,
    "whisper-large-v3": 1_543_490_560,
}
"""Parameters that the model hub shows for the released weights, or that open_clip's table of profiles holds."""

STATED = {
    "deepseek-v3.2": (671_000_000_000, 671_877_929_216),
    "ernie-4.5-0.3b": (360_000_000, 360_748_032),
    "ernie-4.5-21b-a3b": (21_000_000_000, 21_825_437_888),
    "flux.1-dev": (12_000_000_000, 11_901_408_320),
    "gemma-4-26b-a4b": (26_000_000_000, 25_805_933_872),
    "glm-5": (744_000_000_000, 743_911_199_232),
    "granite-4.0-h-tiny": (7_000_000_000, 6_939_037_248),
    "hunyuan-7b": (7_000_000_000, 7_504_568_320),
    "hunyuan-a13b": (80_000_000_000, 80_393_183_232),
    "kimi-k2.5": (1_000_000_000_000, 1_026_879_353_328),
    "minimax-m2.5": (230_000_000_000, 228_689_748_992),
    "nemotron-3-super-120b-a12b": (120_000_000_000, 120_668_687_360),
    "nemotron-h-56b": (56_000_000_000, 56_324_350_464),
    "qwen3.5-122b-a10b": (122_000_000_000, 122_562_817_776),
    "qwen3.5-397b-a17b": (397_000_000_000, 396_802_360_816),
    "sd3-medium": (2_000_000_000, 2_028_328_000),
    "sd3.5-large": (8_100_000_000, 8_056_627_520),
    "whisper-base": (74_000_000, 72_593_920),
    "whisper-medium": (769_000_000, 763_857_920),
    "whisper-small": (244_000_000, 241_734_912),
    "whisper-tiny": (39_000_000, 37_760_640),
}
"""Sizes as names and cards round them, and how many parameters transformers' class has."""

OTHERWISE = {"dit-xl-2-256": 749_826_464, "gemma-3n-e2b-text": 4_435_182_688, "gemma-3n-e4b-text": 6_835_235_568}
"""Not 675 M as in DiT's paper: in diffusers each layer has a table of classes and a network of the time of its own.
Gemma 3n is published with its towers, its text models as "4.5B" (LM Studio) and under the names of effective sizes."""

CONFIGURATIONS = {path.stem: path for path in files_of("model") if path.suffix == ".json"}


def test_each_has_the_parameters_that_were_published() -> None:
    assert {name: released(path).parameters for name, path in CONFIGURATIONS.items()} == {
        **SHOWN,
        **OTHERWISE,
        **{name: counted for name, (_, counted) in STATED.items()},
    }
    for name, (stated, counted) in STATED.items():
        assert released(CONFIGURATIONS[name]).stated_parameters == stated
        assert counted == pytest.approx(stated, rel=0.08), name


def test_those_with_a_reader_are_counted_without_transformers() -> None:
    known = {model.name: parameters(model).total for model in list_models() if model.name in CONFIGURATIONS}
    assert known == {name: released(CONFIGURATIONS[name]).parameters for name in known}
    assert {"minimax-m2.5", "hunyuan-a13b", "ernie-4.5-21b-a3b", "olmo-3-32b", "whisper-large-v3"} <= known.keys()
    assert known.keys().isdisjoint(list_captured())
    assert known.keys() | list_captured().keys() == CONFIGURATIONS.keys()


@pytest.mark.parametrize(
    "name", ["gemma-3n-e4b-text", "qwen3-vl-2b", "granite-4.0-h-tiny", "glm-5", "kimi-k2.5", "siglip-base-patch16-224"]
)
def test_the_others_are_what_transformers_makes_of_them(name: str) -> None:
    pytest.importorskip("transformers")
    from hwprof.measure.capture.configured import model_of_config

    module = model_of_config(CONFIGURATIONS[name])
    assert sum(weight.numel() for weight in module.parameters()) == released(CONFIGURATIONS[name]).parameters


@pytest.mark.parametrize("name", ["dit-xl-2-256", "flux.1-dev", "sd3-medium", "sd3.5-large"])
def test_diffusion_transformers_are_what_diffusers_makes_of_them(name: str) -> None:
    pytest.importorskip("diffusers")
    from hwprof.measure.capture.diffusion import diffusion_module

    module = diffusion_module(CONFIGURATIONS[name])
    assert sum(weight.numel() for weight in module.parameters()) == released(CONFIGURATIONS[name]).parameters


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("black-forest-labs/FLUX.1-dev", "flux.1-dev"),
        ("google/gemma-3n-E4B-it", "gemma-3n-e4b-text"),
        ("facebook/DiT-XL-2-256", "dit-xl-2-256"),
        ("Qwen/Qwen3-Next-80B-A3B-Instruct", "qwen3-next-80b-a3b"),
        ("Qwen/Qwen3.5-397B-A17B", "qwen3.5-397b-a17b"),
        ("Qwen/Qwen3-VL-8B-Thinking", "qwen3-vl-8b"),
        ("google/gemma-3-27b-it", "gemma-3-27b-it"),
        ("google/gemma-3-27b-pt", "gemma-3-27b-it"),
        ("nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", "nemotron-3-nano-30b-a3b"),
        ("zai-org/GLM-5-FP8", "glm-5"),
        ("openai/clip-vit-large-patch14", "clip-vit-l-14"),
        ("allenai/Olmo-3-1125-32B", "olmo-3-32b"),
        ("baidu/ERNIE-4.5-21B-A3B-PT", "ernie-4.5-21b-a3b"),
        ("granite-4.0-h-small", "granite-4.0-h-small"),
    ],
)
def test_a_name_leads_to_the_configuration(typed: str, name: str) -> None:
    found = config_file(typed)
    assert found is not None
    assert found.stem == name


@pytest.mark.parametrize(("typed", "model"), [("qwen3-8b", "qwen3-8b"), ("google/gemma-3-1b-it", "gemma-3-1b")])
def test_what_is_described_in_toml_has_no_configuration(typed: str, model: str) -> None:
    assert config_file(typed) is None
    assert load_model(typed).name == model


def test_without_a_file_the_answer_says_how_to_get_one() -> None:
    with pytest.raises(UnknownNameError, match=r"hf download nobody/thing-7b config.json --local-dir mine"):
        load_model("nobody/thing-7b")


def test_a_configuration_without_its_source_is_refused(tmp_path, monkeypatch) -> None:
    (tmp_path / "models").mkdir()
    path = tmp_path / "models" / "mine.json"
    path.write_text(json.dumps({"model_type": "llama"}))
    monkeypatch.setenv("HWPROF_PATH", str(tmp_path))
    assert "key '_hwprof' is missing" in str(check_file(path)[0])
    with pytest.raises(SpecError, match="key '_hwprof' is missing"):
        load_model("mine")
