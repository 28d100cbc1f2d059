"""Import of ``config.json``: released files give released counts, and what is not understood is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from hwprof.cli.count.command import command
from hwprof.count.blocks.parameters import parameters
from hwprof.errors import SpecError
from hwprof.specs.catalogue.lookup import load_model
from hwprof.specs.catalogue.shelves import files_of
from hwprof.specs.huggingface import KNOWN_TYPES, model_from_config
from hwprof.specs.huggingface.families import TEXT_WITHIN, WITH_IMAGES
from hwprof.specs.huggingface.own_code import READERS_OF_OWN_CODE

RELEASED: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name("released_configs.json").read_text())
"""Configurations as they were released, with the keys that models have gathered."""

COUNTED_ELSEWHERE = {
    "gemma-3-4b-multimodal": 3_880_263_168,  # 64 rows of the table more than the text model's
    "phi-2": 2_779_683_840,
    "falcon-7b-tied": 6_921_720_704,
    "dbrx": 131_596_523_520,
    "deepseek-v3": 671_026_404_352,  # transformers keeps the routers' biases as buffers: 58 · 256 fewer
    "kimi-k2": 1_026_408_209_408,
    "glm-4.5": 352_797_814_784,
    "bert-base-uncased-masked-lm": 109_514_298,
    "bart-large": 406_291_456,
    "whisper-large-v2": 1_543_304_960,  # transformers counts the encoder's fixed positions
    "vit-base-224": 85_806_346,
    "t5-v1.1-base": 222_903_552,  # transformers 5 ties the head to the table; the released weights hold both
}
"""Parameters of the transformers class that the file names; of the others the catalogue has the same count."""

TINY = {
    "model_type": "llama",
    "vocab_size": 61,
    "hidden_size": 32,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}


def write(folder: Path, config: Any) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(config))
    return path


@pytest.mark.parametrize("name", RELEASED)
def test_a_released_configuration_has_the_released_parameters(tmp_path: Path, name: str) -> None:
    spec = load_model(write(tmp_path, RELEASED[name]))
    expected = COUNTED_ELSEWHERE.get(name) or parameters(load_model(name)).total
    assert parameters(spec).total == expected


def test_every_known_type_but_new_ones_is_tried_on_a_released_file() -> None:
    tried = {config["model_type"] for config in RELEASED.values()}
    tried |= {json.loads(path.read_text()).get("model_type") for path in files_of("model") if path.suffix == ".json"}
    untried = {"arcee", "blenderbot", "camembert", "codegen", "cohere", "cohere2", "distilbert", "dots1", "exaone4"}
    untried |= {"glm", "glm4", "gpt_bigcode", "gptj", "granite", "granitemoe", "llama4_text", "m2m_100", "marian"}
    untried |= {"mbart", "ministral", "mt5", "nemotron", "olmo", "olmoe", "pegasus", "phimoe", "qwen2_moe", "roberta"}
    untried |= {"seed_oss", "stablelm", "starcoder2", "xlm-roberta"}
    assert (
        set(KNOWN_TYPES) - set(READERS_OF_OWN_CODE) - set(TEXT_WITHIN) - tried == untried
    )  # these are tried against transformers' own modules


@pytest.mark.parametrize("name", ["llama-3.1-8b", "mixtral-8x7b", "gpt-oss-20b", "gemma-2-9b", "t5-base", "smollm3-3b"])
def test_an_imported_model_is_that_of_the_catalogue_in_all_that_costs(tmp_path: Path, name: str) -> None:
    told_apart = {"name", "family", "aliases", "notes", "source", "stated_parameters", "stated_active_parameters"}
    told_apart |= {"max_seq_len", "dropout"}
    imported, own = (
        spec.model_dump(exclude=told_apart) for spec in (load_model(write(tmp_path, RELEASED[name])), load_model(name))
    )
    assert imported == own


@pytest.mark.parametrize(
    "keys",
    [
        {"full_attn_mod": 1, "interpolate_factor": 1, "is_llama_config": True, "rope_interleaved": True},
        {"predict_special_tokens": True, "ff_factor": 4, "quantization": {"group_size": 64, "bits": 4}},
    ],
)
def test_keys_without_a_cost_are_passed_over(keys: dict[str, Any], tmp_path: Path) -> None:
    assert (
        parameters(load_model(write(tmp_path, TINY | keys))).total
        == parameters(load_model(write(tmp_path, TINY))).total
    )


@pytest.mark.parametrize("name", ["bart-large", "bert-base-uncased-masked-lm"])
def test_untied_tables_of_these_are_not_guessed(name: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="key 'tie_word_embeddings' is False"):
        load_model(write(tmp_path, RELEASED[name] | {"tie_word_embeddings": False}))


@pytest.mark.parametrize(
    ("name", "architecture"),
    [
        ("bart-large", "BartForCausalLM"),  # the decoder alone
        ("t5-base", "T5EncoderModel"),
        ("bert-base-uncased-masked-lm", "BertLMHeadModel"),
        ("bert-base-uncased-masked-lm", "BertForNextSentencePrediction"),
    ],
)
def test_another_class_of_a_family_is_not_taken_for_a_known_one(name: str, architecture: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=f"architecture '{architecture}'"):
        load_model(write(tmp_path, RELEASED[name] | {"architectures": [architecture]}))


def test_the_folder_names_the_model(tmp_path: Path) -> None:
    folder = tmp_path / "my-llama"
    folder.mkdir()
    write(folder, TINY)
    assert load_model(folder).name == load_model(folder / "config.json").name == "my-llama"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": -32}, "key 'hidden_size' is -32; expected a whole number from 1 to"),
        ({"num_hidden_layers": 0}, "key 'num_hidden_layers' is 0; expected a whole number from 1 to"),
        ({"vocab_size": "61"}, "key 'vocab_size' is '61'; expected a whole number"),
        ({"intermediate_size": 80.5}, "key 'intermediate_size' is 80.5; expected a whole number"),
        ({"num_attention_heads": True}, "key 'num_attention_heads' is True; expected a whole number"),
        ({"attention_bias": "yes"}, "key 'attention_bias' is 'yes'; expected true or false"),
        ({"num_key_value_heads": 3}, "heads = 4 must be a multiple of kv_heads = 3"),
        ({"hidden_act": "mish"}, "activation 'mish' is unknown; known: silu"),
        ({"hidden_size": None}, "key 'hidden_size' is missing"),
        ({"rope_parameters": 3}, "key 'rope_parameters' is not a table"),
        ({"rope_theta": float("nan")}, "key 'rope_theta' is nan; expected a number"),
        ({"architectures": ["LlamaForMultipleChoice"]}, "has a head that is not known"),
    ],
)
def test_a_wrong_value_is_one_line_with_file_key_and_expectation(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    path = write(tmp_path, TINY | changes)
    with pytest.raises(SpecError) as caught:
        load_model(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("model_type", "changes", "key"),
    [
        ("llama", {"num_local_experts": 8}, "num_local_experts"),
        ("llama", {"some_new_width": 64}, "some_new_width"),
        ("llama", {"use_gating": True}, "use_gating"),
        ("mistral", {"mamba_d_state": 16}, "mamba_d_state"),
        ("bert", {"add_cross_attention": True}, "add_cross_attention"),
        ("bert", {"position_embedding_type": "relative_key"}, "position_embedding_type"),
        ("qwen3", {"layer_types": ["full_attention", "linear_attention"]}, "layer_types"),
        ("qwen3", {"layer_types": ["full_attention"]}, "layer_types"),
    ],
)
def test_a_key_that_may_change_cost_and_is_not_understood_is_refused(
    tmp_path: Path, model_type: str, changes: dict[str, Any], key: str
) -> None:
    with pytest.raises(SpecError, match=key):
        load_model(write(tmp_path, TINY | {"model_type": model_type} | changes))


def test_a_key_of_text_is_noted_and_one_that_is_off_is_passed_over(tmp_path: Path) -> None:
    spec = load_model(write(tmp_path, TINY | {"tokenizer_name": "mine", "use_novelty": False, "novelties": []}))
    assert "Key 'tokenizer_name' is not known: 'mine'" in spec.notes
    assert "novelt" not in spec.notes


def test_an_unknown_type_lists_the_known_ones_and_the_file_to_write(tmp_path: Path) -> None:
    with pytest.raises(
        SpecError, match=r"known: .*bart, .*whisper, xlm-roberta, xverse; .*TOML file with the keys name, kind, layers"
    ) as caught:
        load_model(write(tmp_path, TINY | {"model_type": "llamma"}))
    assert "did you mean llama?" in str(caught.value)


def test_a_file_without_a_type_is_no_configuration_of_transformers(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"key 'model_type' is missing, so it is no config.json of transformers"):
        load_model(write(tmp_path, TINY | {"model_type": None}))


@pytest.mark.parametrize("content", ["[1]", "7", "null"])
def test_a_file_without_a_table_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(content)
    with pytest.raises(SpecError, match="holds no table"):
        load_model(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rope_parameters": "linear"}, "rope_parameters"),
        ({"hidden_act": 7}, "expected a text"),
        ({"rope_theta": -1.0}, "a number, not negative"),
        ({"attention_bias": "yes"}, "true or false"),
        ({"architectures": "LlamaModel"}, "a list"),
        ({"hidden_size": True}, "a whole number"),
    ],
)
def test_a_value_of_another_kind_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        load_model(write(tmp_path, TINY | changes))


def test_a_model_with_images_says_where_its_text_model_is(tmp_path: Path) -> None:
    kind = next(iter(WITH_IMAGES))
    with pytest.raises(SpecError, match="key 'text_config' is missing"):
        load_model(write(tmp_path, {"model_type": kind}))


def test_a_file_that_is_none_or_no_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="does not exist"):
        model_from_config(tmp_path / "config.json")
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    with pytest.raises(SpecError, match="is no JSON"):
        model_from_config(broken)


def test_experts_in_no_regular_pattern_are_refused(tmp_path: Path) -> None:
    config = RELEASED["qwen3-30b-a3b"] | {"mlp_only_layers": [3, 7]}
    with pytest.raises(SpecError, match="follow no known pattern"):
        load_model(write(tmp_path, config))
    first_dense = load_model(write(tmp_path, config | {"mlp_only_layers": [0, 1]}))
    assert first_dense.moe is not None
    assert (first_dense.moe.dense_layers, first_dense.moe_layers) == (2, 46)


def test_the_old_and_the_new_words_for_rotary_positions_mean_the_same(tmp_path: Path) -> None:
    old = TINY | {"rope_theta": 5e5, "rope_scaling": None}
    new = TINY | {"rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}}
    old_spec, new_spec = (load_model(write(tmp_path, config)) for config in (old, new))
    assert old_spec == new_spec
    assert new_spec.rope_theta == 5e5


def test_the_base_model_has_no_head(tmp_path: Path) -> None:
    whole = load_model(write(tmp_path, TINY))
    base = load_model(write(tmp_path, TINY | {"architectures": ["LlamaModel"]}))
    assert parameters(whole).total - parameters(base).total == 61 * 32
    assert parameters(base).head == 0


def test_count_prints_the_notes_of_an_imported_file_on_stderr(tmp_path: Path) -> None:
    path = write(tmp_path, RELEASED["deepseek-v3"])
    arguments = ["--model", str(path), "--batch-size", "1", "--seq-len", "16", "--format", "json"]
    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert "hwprof: note: The 1 layer(s) for multi-token prediction are not counted" in result.stderr
    assert json.loads(result.stdout)["active_parameters"] == 37_552_282_624
