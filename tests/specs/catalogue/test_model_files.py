"""The model files hold the published dimensions: their parameter counts are those of the released weights."""

import pytest

from hwprof.count.blocks.parameters import parameters
from hwprof.specs.catalogue.lookup import list_models, load_model
from hwprof.specs.catalogue.shelves import files_of

COUNTED = {
    "transformer-base": 63_045_632,
    "transformer-big": 214_171_648,
    "bert-base-uncased": 109_482_240,
    "bert-large-uncased": 335_141_888,
    "gpt2-124m": 124_439_808,
    "gpt2-medium-355m": 354_823_168,
    "gpt2-large-774m": 774_030_080,
    "gpt2-xl-1.5b": 1_557_611_200,
    "gpt3-125m": 125_226_240,
    "gpt3-350m": 355_871_744,
    "gpt3-760m": 760_300_032,
    "gpt3-1.3b": 1_315_723_264,
    "gpt3-2.7b": 2_651_553_280,
    "gpt3-6.7b": 6_658_404_352,
    "gpt3-13b": 12_853_386_240,
    "gpt3-175b": 174_604_259_328,
    "t5-small": 60_506_624,
    "t5-base": 222_903_552,
    "t5-large": 737_668_096,
    "t5-3b": 2_851_598_336,
    "t5-11b": 11_307_321_344,
    "t5-v1.1-small": 76_961_152,
    "t5-v1.1-base": 247_577_856,
    "t5-v1.1-large": 783_150_080,
    "t5-v1.1-xl": 2_849_757_184,
    "t5-v1.1-xxl": 11_135_332_352,
    "palm-8b": 8_632_012_800,
    "palm-62b": 62_495_662_080,
    "palm-540b": 540_356_474_880,
    "opt-125m": 125_239_296,
    "opt-350m": 331_196_416,
    "opt-1.3b": 1_315_758_080,
    "opt-2.7b": 2_651_596_800,
    "opt-6.7b": 6_658_473_984,
    "opt-13b": 12_853_473_280,
    "opt-30b": 29_974_540_288,
    "opt-66b": 65_719_701_504,
    "opt-175b": 174_604_468_224,
    "bloom-176b": 176_247_271_424,
    "gpt-neox-20b": 20_554_567_680,
    "pythia-14m": 14_067_712,
    "pythia-31m": 30_494_720,
    "pythia-70m": 70_426_624,
    "pythia-160m": 162_322_944,
    "pythia-410m": 405_334_016,
    "pythia-1b": 1_011_781_632,
    "pythia-1.4b": 1_414_647_808,
    "pythia-2.8b": 2_775_208_960,
    "pythia-6.9b": 6_857_302_016,
    "pythia-12b": 11_846_072_320,
    "llama-1-7b": 6_738_415_616,
    "llama-1-13b": 13_015_864_320,
    "llama-1-33b": 32_528_943_616,
    "llama-1-65b": 65_285_660_672,
    "llama-2-7b": 6_738_415_616,
    "llama-2-13b": 13_015_864_320,
    "llama-2-70b": 68_976_648_192,
    "llama-3-8b": 8_030_261_248,
    "llama-3-70b": 70_553_706_496,
    "llama-3.1-8b": 8_030_261_248,
    "llama-3.1-70b": 70_553_706_496,
    "llama-3.1-405b": 405_853_388_800,
    "llama-3.2-1b": 1_235_814_400,
    "llama-3.2-3b": 3_212_749_824,
    "mistral-7b-v0.1": 7_241_732_096,
    "mixtral-8x7b": 46_702_792_704,
    "mixtral-8x22b": 140_620_634_112,
    "qwen2.5-0.5b": 494_032_768,
    "qwen2.5-1.5b": 1_543_714_304,
    "qwen2.5-3b": 3_085_938_688,
    "qwen2.5-7b": 7_615_616_512,
    "qwen2.5-14b": 14_770_033_664,
    "qwen2.5-32b": 32_763_876_352,
    "qwen2.5-72b": 72_706_203_648,
    "qwen3-0.6b": 596_049_920,
    "qwen3-1.7b": 1_720_574_976,
    "qwen3-4b": 4_022_468_096,
    "qwen3-8b": 8_190_735_360,
    "qwen3-14b": 14_768_307_200,
    "qwen3-32b": 32_762_123_264,
    "qwen3-30b-a3b": 30_532_122_624,
    "qwen3-235b-a22b": 235_093_634_560,
    "gemma-2b": 2_506_172_416,
    "gemma-7b": 8_537_680_896,
    "gemma-2-2b": 2_614_341_888,
    "gemma-2-9b": 9_241_705_984,
    "gemma-2-27b": 27_227_128_320,
    "gemma-3-1b": 999_885_952,
    "gemma-3-4b-text": 3_880_099_328,
    "gemma-3-12b-text": 11_765_788_416,
    "gemma-3-27b-text": 27_009_002_240,
    "phi-3-mini": 3_821_079_552,
    "phi-3-medium": 13_960_238_080,
    "phi-4": 14_659_507_200,
    "phi-4-mini": 3_836_021_760,
    "deepseek-v2-lite": 15_706_484_224,
    "deepseek-v2": 235_741_434_880,
    "deepseek-v3": 671_026_419_200,
    "deepseek-r1": 671_026_419_200,
    "kimi-k2": 1_026_408_232_448,
    "glm-4.5": 352_797_829_024,
    "glm-4.5-air": 106_852_251_264,
    "falcon-7b": 6_921_720_704,
    "falcon-40b": 41_303_293_952,
    "falcon-180b": 178_557_088_768,
    "mpt-7b": 6_649_286_656,
    "mpt-30b": 29_957_200_896,
    "olmo-2-1b": 1_484_916_736,
    "olmo-2-7b": 7_298_617_344,
    "olmo-2-13b": 13_716_198_400,
    "olmo-2-32b": 32_234_279_936,
    "smollm2-135m": 134_515_008,
    "smollm2-360m": 361_821_120,
    "smollm2-1.7b": 1_711_376_384,
    "smollm3-3b": 3_075_098_624,
    "llama-4-scout": 107_769_861_120,
    "llama-4-maverick": 400_711_848_960,
    "gpt-oss-20b": 20_914_757_184,
    "gpt-oss-120b": 116_829_156_672,
    "vit-b-16": 85_798_656,
    "vit-l-16": 303_301_632,
    "vit-h-14": 630_764_800,
    "whisper-large-v2": 1_541_384_960,
    "megatron-22b": 22_074_273_792,
    "megatron-175b": 174_615_846_912,
    "megatron-530b": 529_600_819_200,
    "megatron-1t": 1_008_038_758_400,
    "codellama-34b": 33_743_970_304,
    "codestral-22b": 22_247_282_688,
    "command-r-35b": 34_980_831_232,
    "dbrx-132b": 131_596_523_520,
    "distilbert-base": 66_362_880,
    "distilgpt2": 81_912_576,
    "gpt-j-6b": 6_050_882_784,
    "grok-1-314b": 315_684_820_992,
    "llama-3.3-70b": 70_553_706_496,
    "minimax-m2": 228_689_764_864,
    "mistral-7b-v0.3": 7_248_023_552,
    "mistral-large-123b": 122_610_069_504,
    "mistral-nemo-12b": 12_247_782_400,
    "mistral-small-24b": 23_572_403_200,
    "modernbert-base": 149_656_768,
    "modernbert-large": 395_883_712,
    "olmoe-1b-7b": 6_919_161_856,
    "phi-2": 2_779_683_840,
    "qwen1.5-moe-a2.7b": 14_315_784_192,
    "qwen2-0.5b": 494_032_768,
    "qwen2-1.5b": 1_543_714_304,
    "qwen2-57b-a14b": 57_408_658_944,
    "qwen2-72b": 72_706_203_648,
    "qwen2-7b": 7_615_616_512,
    "qwen3-coder-480b-a35b": 480_154_875_392,
    "roberta-base": 124_697_433,
    "roberta-large": 355_412_057,
    "tinyllama-1.1b": 1_100_048_384,
    "xlm-roberta-base": 278_295_186,
    "yi-34b": 34_388_917_248,
    "yi-6b": 6_061_035_520,
    "tiny": 3_279_104,
    "encoder-base": 51_714_304,
}
"""Worked out from the dimensions by a program of its own, and checked against what was published."""

ACTIVE = {
    "mixtral-8x7b": 12_879_925_248,
    "mixtral-8x22b": 39_152_031_744,
    "qwen3-30b-a3b": 3_353_032_704,
    "qwen3-235b-a22b": 22_190_763_520,
    "deepseek-v2-lite": 2_661_150_208,
    "deepseek-v2": 21_375_800_320,
    "deepseek-v3": 37_552_297_472,
    "deepseek-r1": 37_552_297_472,
    "kimi-k2": 32_861_500_928,
    "glm-4.5": 33_632_266_144,
    "glm-4.5-air": 13_424_129_664,
    "llama-4-scout": 17_172_894_720,
    "llama-4-maverick": 17_184_691_200,
    "gpt-oss-20b": 4_187_440_704,
    "gpt-oss-120b": 5_711_982_912,
    "dbrx-132b": 36_469_708_800,
    "grok-1-314b": 83_756_587_008,
    "minimax-m2": 11_030_553_088,
    "olmoe-1b-7b": 1_282_017_280,
    "qwen1.5-moe-a2.7b": 2_689_173_504,
    "qwen2-57b-a14b": 14_249_270_784,
    "qwen3-coder-480b-a35b": 35_474_765_312,
}
"""Parameters that a token meets, embedding and head with them."""


PLAIN_SIZES = {
    "125m": "gpt3-125m",
    "350m": "gpt3-350m",
    "1b": "llama-3.2-1b",
    "3b": "llama-3.2-3b",
    "7b": "llama-2-7b",
    "8b": "llama-3.1-8b",
    "13b": "llama-2-13b",
    "30b": "llama-1-33b",
    "65b": "llama-1-65b",
    "70b": "llama-3.1-70b",
    "175b": "gpt3-175b",
    "405b": "llama-3.1-405b",
}


ROUGHLY_STATED = {
    "transformer-base": 0.031,  # its vocabulary is not known exactly
    "t5-large": 0.043,  # the four sizes of T5 are names, not counts
    "t5-3b": 0.05,
    "t5-11b": 0.028,
    "kimi-k2": 0.027,  # 1026 G, sold as 1 T
}
"""Models that are further than 2 % from what was published, and by how much."""

ACTIVE_WITHOUT_EMBEDDING = {"gpt-oss-20b", "gpt-oss-120b", "glm-4.5", "glm-4.5-air", "minimax-m2"}
"""Models whose published active parameters leave out the input embedding, or embedding and head."""


def parameters_by_hand(m):
    """Every weight matrix and bias of a dense decoder, written out here apart from the package's own count."""
    attention = 2 * m.d_model * m.q_dim + 2 * m.d_model * m.kv_dim
    attention += (m.q_dim + 2 * m.kv_dim) * (m.attention_bias != "none") + m.d_model * (m.attention_bias == "all")
    mlp = (3 if m.gated else 2) * m.d_model * m.d_ff + (m.d_ff * (2 if m.gated else 1) + m.d_model) * m.mlp_bias
    norm = m.d_model * (2 if m.norm == "layernorm" else 1)
    embedding = m.vocab_size * m.d_model + m.max_seq_len * m.d_model * (m.positions == "learned")
    head = 0 if m.tied_embeddings else m.vocab_size * m.d_model + m.vocab_size * m.head_bias
    return embedding + m.layers * (attention + mlp + 2 * norm) + norm * m.final_norm + head


@pytest.mark.parametrize(("name", "total"), COUNTED.items())
def test_the_dimensions_give_the_known_parameter_count(name, total):
    count = parameters(load_model(name))
    assert (count.total, count.active) == (total, ACTIVE.get(name, total))


@pytest.mark.parametrize(
    "family", ["GPT-2", "GPT-3", "LLaMA-1", "LLaMA-2", "LLaMA-3", "Qwen2.5", "SmolLM2", "Megatron"]
)
def test_plain_decoders_counted_by_hand_agree(family):
    models = [model for model in list_models() if model.family == family]
    assert len(models) >= 3
    for model in models:
        assert parameters_by_hand(model) == COUNTED[model.name]


def test_every_model_file_has_a_known_count():
    described = {path.stem for path in files_of("model") if path.suffix == ".toml"}
    assert described == set(COUNTED)  # the others: test_released.py
    assert described <= {model.name for model in list_models()}


def test_stated_counts_are_close_to_the_dimensions():
    for model in list_models():
        if model.stated_parameters and model.name in COUNTED:
            within = ROUGHLY_STATED.get(model.name, 0.02)
            assert COUNTED[model.name] / model.stated_parameters == pytest.approx(1, abs=within), model.name


def test_stated_active_counts_are_close_once_the_same_parts_are_counted():
    for name in ACTIVE:
        model, count = load_model(name), parameters(load_model(name))
        if name == "deepseek-v2-lite":
            assert count.active_non_embedding == pytest.approx(model.stated_active_parameters, rel=0.07)
        elif name in ACTIVE_WITHOUT_EMBEDDING:
            left_out = count.embedding + (count.head if not name.startswith("gpt-oss") else 0)
            assert count.active - left_out == pytest.approx(model.stated_active_parameters, rel=0.025), name
        else:
            assert count.active == pytest.approx(model.stated_active_parameters, rel=0.03), name


@pytest.mark.parametrize(("size", "name"), PLAIN_SIZES.items())
def test_a_plain_size_stands_for_one_model_and_its_notes_say_so(size, name):
    model = load_model(size)
    assert model.name == name
    assert f"The plain size {size} stands for this model" in model.notes


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("gpt2", "gpt2-124m"),
        ("gpt2-medium", "gpt2-medium-355m"),
        ("gpt2-large", "gpt2-large-774m"),
        ("gpt2-xl", "gpt2-xl-1.5b"),
    ],
)
def test_gpt2_goes_by_its_released_names(alias, name):
    assert load_model(alias).name == name


@pytest.mark.parametrize(
    ("name", "theta"),
    [
        ("llama-1-7b", 1e4),
        ("llama-2-70b", 1e4),
        ("llama-3.1-8b", 5e5),
        ("qwen2.5-7b", 1e6),
        ("smollm2-135m", 1e5),
        ("smollm2-1.7b", 1.3e5),
        ("gpt-oss-20b", 1.5e5),
    ],
)
def test_rope_theta_is_that_of_the_family(name, theta):
    assert load_model(name).rope_theta == theta


def test_gpt_models_are_plain_gelu_with_a_tied_head():
    models = [
        model
        for model in list_models()
        if model.family.startswith("GPT-") and model.family not in {"GPT-NeoX", "GPT-J"}
    ]
    assert {(m.activation, m.gated, m.norm, m.tied_embeddings) for m in models} == {("gelu", False, "layernorm", True)}


def test_qwen2_and_glm_alone_have_biases_on_query_key_and_value():
    biased = {model.family for model in list_models() if model.attention_bias == "qkv"}
    assert biased == {"Qwen2", "Qwen2.5", "GLM"}


@pytest.mark.parametrize(
    ("name", "tokens", "layers", "kind"),
    [
        ("mistral-7b-v0.1", 4096, 32, "sliding"),
        ("phi-3-mini", 2047, 32, "sliding"),
        ("phi-3-medium", 2047, 40, "sliding"),
        ("gemma-2-9b", 4096, 21, "sliding"),
        ("gemma-3-27b-text", 1024, 52, "sliding"),
        ("gpt-oss-20b", 128, 12, "sliding"),
        ("llama-4-scout", 8192, 36, "chunked"),
        ("modernbert-base", 64, 14, "sliding"),
    ],
)
def test_windows_stand_in_as_many_layers_as_released(name, tokens, layers, kind):
    window = load_model(name).attention.window
    assert (window.tokens, window.layers, window.kind) == (tokens, layers, kind)


def test_the_encoder_is_a_stock_torch_stack():
    model = load_model("encoder-base")
    assert (model.kind, model.causal, model.d_ff, model.activation, model.dropout) == (
        "encoder",
        False,
        2048,
        "relu",
        0.1,
    )
