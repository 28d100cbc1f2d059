"""The model files hold the published dimensions: their parameter counts are those of the released weights."""

import pytest

from hwprof.specs.catalogue import list_models, load_model

COUNTED = {
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
    "smollm2-135m": 134_515_008,
    "smollm2-360m": 361_821_120,
    "smollm2-1.7b": 1_711_376_384,
    "qwen2.5-0.5b": 494_032_768,
    "qwen2.5-1.5b": 1_543_714_304,
    "qwen2.5-3b": 3_085_938_688,
    "qwen2.5-7b": 7_615_616_512,
    "qwen2.5-14b": 14_770_033_664,
    "qwen2.5-32b": 32_763_876_352,
    "qwen2.5-72b": 72_706_203_648,
    "tiny": 3_279_104,
    "encoder-base": 51_714_304,
}

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


def parameters_by_hand(m):
    """Every weight matrix and bias, written out here apart from the package's own count."""
    attention = 2 * m.d_model * m.q_dim + 2 * m.d_model * m.kv_dim
    attention += (m.q_dim + 2 * m.kv_dim) * (m.attention_bias != "none") + m.d_model * (m.attention_bias == "all")
    mlp = (3 if m.gated else 2) * m.d_model * m.d_ff + (m.d_ff * (2 if m.gated else 1) + m.d_model) * m.mlp_bias
    norm = m.d_model * (2 if m.norm == "layernorm" else 1)
    embedding = m.vocab_size * m.d_model + m.max_seq_len * m.d_model * (m.positions == "learned")
    head = 0 if m.tied_embeddings else m.vocab_size * m.d_model + m.vocab_size * m.head_bias
    return embedding + m.layers * (attention + mlp + 2 * norm) + norm * m.final_norm + head


@pytest.mark.parametrize(("name", "parameters"), COUNTED.items())
def test_the_dimensions_give_the_known_parameter_count(name, parameters):
    assert parameters_by_hand(load_model(name)) == parameters


def test_every_model_file_has_a_known_count():
    assert {model.name for model in list_models()} == set(COUNTED)


def test_stated_counts_are_within_two_percent_of_the_dimensions():
    stated = [model for model in list_models() if model.stated_parameters]
    assert len(stated) == 36
    for model in stated:
        assert COUNTED[model.name] / model.stated_parameters == pytest.approx(1, abs=0.02), model.name


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
    ],
)
def test_rope_theta_is_that_of_the_family(name, theta):
    assert load_model(name).rope_theta == theta


def test_swiglu_models_are_gated_silu_and_gpt_models_are_plain_gelu():
    for model in list_models():
        if model.family.startswith("GPT"):
            assert (model.activation, model.gated, model.norm, model.tied_embeddings) == (
                "gelu",
                False,
                "layernorm",
                True,
            )
        elif model.kind == "decoder":
            assert (model.activation, model.gated, model.norm, model.mlp_bias) == ("silu", True, "rmsnorm", False)


def test_qwen_alone_has_biases_on_query_key_and_value():
    biased = {model.family for model in list_models() if model.attention_bias == "qkv"}
    assert biased == {"Qwen2.5"}


def test_the_encoder_is_a_stock_torch_stack():
    model = load_model("encoder-base")
    assert (model.kind, model.causal, model.d_ff, model.activation, model.dropout) == (
        "encoder",
        False,
        2048,
        "relu",
        0.1,
    )
