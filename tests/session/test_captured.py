"""Models without a reader, as they are counted from their files, against transformers' own modules: equal."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from captured_types import kept_bytes, saved
from click.testing import CliRunner
from other_types import OTHER_TYPES
from small_transformers import DECODER, MLA, multiplied, transformers
from torch.utils._pytree import tree_leaves

from hwprof.cli.count.command import command as count
from hwprof.cli.plan.command import command as plan
from hwprof.cli.simulate import command as simulate
from hwprof.count.blocks.parameters import parameters
from hwprof.count.blocks.transformer import Precision, model_ops
from hwprof.count.job.totals import flop_of, total_cost
from hwprof.errors import InputError, SpecError
from hwprof.measure.capture.inputs import Asked, inputs_of
from hwprof.session.captured import Shapes, counted_model
from hwprof.specs.model.spec import ModelSpec

pytestmark = pytest.mark.filterwarnings("ignore")  # what transformers warns of is its own affair

BATCH, LENGTH = 2, 16


def captured(path: Path, *batch_sizes: int, dtype: Any = "fp32", seq_len: int = LENGTH) -> ModelSpec:
    shapes = Shapes(batch_sizes=batch_sizes or (BATCH,), seq_len=seq_len, dtype=dtype)
    return counted_model(str(path), shapes)


def ops_of(spec: ModelSpec, *, batch_size: int = BATCH, **how: Any) -> Any:
    return model_ops(spec, batch_size=batch_size, seq_len=LENGTH, precision=Precision.of("fp32"), **how)


def real(kind: str, name: str, keys: dict[str, Any]) -> Any:
    """The module with weights; experts run one by one, since torch's counter leaves grouped products out."""
    config = transformers.CONFIG_MAPPING[kind](**keys)
    made = getattr(transformers, name)
    if made._can_set_experts_implementation():
        config._experts_implementation = "eager"
    config._attn_implementation = "eager"
    return made._from_config(config).eval()


def as_it_runs(kind: str, name: str, keys: dict[str, Any]) -> Any:
    """The module with weights, its attention and experts as transformers runs them where nothing is said."""
    return getattr(transformers, name)._from_config(transformers.CONFIG_MAPPING[kind](**keys)).eval()


def roots_of(output: Any) -> list[torch.Tensor]:
    logits = output.get("logits")
    found = [logits] if logits is not None else tree_leaves(output)
    return [leaf for leaf in found if isinstance(leaf, torch.Tensor) and leaf.requires_grad]


def trained(module: Any, inputs: dict[str, Any]) -> None:
    roots = roots_of(module(**inputs))
    torch.autograd.backward(roots, [torch.ones_like(root) for root in roots])


@pytest.mark.parametrize("layer", OTHER_TYPES)
def test_parameters_and_flop_equal_those_of_the_module(layer: str, tmp_path: Path) -> None:
    kind, name, keys = OTHER_TYPES[layer]
    spec = captured(saved(tmp_path, kind, name, keys))
    module = real(kind, name, keys)
    inputs = inputs_of(module, Asked(batch_size=BATCH, seq_len=LENGTH), name)
    forward = multiplied(lambda: module(**inputs))[0]
    train = multiplied(lambda: trained(module, inputs))[0]
    ops = ops_of(spec)
    assert parameters(spec).total == sum(weight.numel() for weight in module.parameters())
    assert total_cost(ops, "forward").matmul_flop == forward > 0
    assert total_cost(ops, "forward", "backward").matmul_flop == train


KEPT = (
    *("state space 2", "state space, attention, experts", "gated delta", "lightning attention", "short convolution"),
    *("disentangled attention", "shared layers", "bias in every layer", "experts in an encoder", "windows of images"),
    *("convolutions", "pair of towers", "sparse attention", "embeddings in every layer"),
)
"""Kinds of layers whose kept bytes are compared; the last ones have configurations of their own."""

_OWN: dict[str, tuple[str, str, dict[str, Any]]] = {
    "sparse attention": (
        "deepseek_v32",
        "DeepseekV32ForCausalLM",
        {**MLA, "num_hidden_layers": 2, "q_lora_rank": 16, "index_topk": 4, "index_n_heads": 2, "index_head_dim": 8}
        | {"v_head_dim": 12},  # as wide as keys: others a CPU attends to in its own way
    ),
    "embeddings in every layer": (
        "gemma3n_text",
        "Gemma3nForCausalLM",
        DECODER
        | {"num_hidden_layers": 4, "head_dim": 8, "vocab_size_per_layer_input": 61, "hidden_size_per_layer_input": 8}
        | {"num_kv_shared_layers": 2, "laurel_rank": 4, "altup_num_inputs": 2, "activation_sparsity_pattern": [0.0] * 4}
        | {"layer_types": ["sliding_attention", "full_attention"] * 2, "intermediate_size": 48},
    ),
}


@pytest.mark.parametrize("layer", KEPT)
def test_kept_bytes_equal_what_autograd_packs(layer: str, tmp_path: Path) -> None:
    kind, name, keys = (OTHER_TYPES | _OWN)[layer]
    dropout = ("hidden_dropout_prob", "attention_probs_dropout_prob", "dropout_rate", "drop_path_rate")
    keys = keys | dict.fromkeys(dropout, 0.0)
    spec = captured(saved(tmp_path, kind, name, keys))
    module = as_it_runs(kind, name, keys)
    expected, beside = kept_bytes(module, inputs_of(module, Asked(batch_size=BATCH, seq_len=LENGTH), name))
    kept = sum(op.saved_bytes * op.repeats for op in ops_of(spec))
    assert expected - beside <= kept <= expected


def test_a_file_that_a_reader_refuses_counts_by_capture_as_it_would_be_read(tmp_path: Path) -> None:
    path = saved(tmp_path, "llama", "LlamaForCausalLM", DECODER)
    read = counted_model(str(path), Shapes(batch_sizes=(BATCH,), seq_len=LENGTH))
    odd = captured(saved(tmp_path, "llama", "LlamaForCausalLM", DECODER | {"hidden_act": "mish"}))
    assert read.captured is None
    assert odd.captured is not None
    assert "activation 'mish' is unknown: counted by capture of LlamaForCausalLM" in odd.notes
    mine, seen = (flop_of(ops_of(spec), ops_of(spec, attention="causal")) for spec in (read, odd))
    assert (mine.forward_full, mine.train_full) == (seen.forward_full, seen.train_full)
    assert mine.train_causal == seen.train_causal
    assert parameters(read).total == parameters(odd).total


def test_a_number_of_experts_that_the_class_does_not_look_at_is_captured(tmp_path: Path) -> None:
    """The router of Phi 3.5 takes the best and the second of its experts, whatever its file says."""
    keys = DECODER | {"num_local_experts": 4, "num_experts_per_tok": 4}
    spec = captured(saved(tmp_path, "phimoe", "PhimoeForCausalLM", keys))
    usual = captured(saved(tmp_path, "phimoe", "PhimoeForCausalLM", keys | {"num_experts_per_tok": 2}))
    assert (spec.captured is None, usual.captured is None) == (False, True)
    assert total_cost(ops_of(spec), "forward").matmul_flop == total_cost(ops_of(usual), "forward").matmul_flop


def test_a_key_that_transformers_ignores_too_changes_no_count(tmp_path: Path) -> None:
    spec = captured(saved(tmp_path, "llama", "LlamaForCausalLM", DECODER | {"a_key_of_nobody": [1]}))
    assert spec.captured is None
    assert "Transformers has no key 'a_key_of_nobody' for this type: it changes no count." in spec.notes


def test_a_model_that_reads_images_has_its_tower(tmp_path: Path) -> None:
    tower = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    keys = {
        "text_config": DECODER | {"head_dim": 8, "sliding_window": 8},
        "vision_config": tower | {"image_size": 32, "patch_size": 8},
        "mm_tokens_per_image": 4,
    }
    spec = captured(saved(tmp_path, "gemma3", "Gemma3ForConditionalGeneration", keys))
    module = real("gemma3", "Gemma3ForConditionalGeneration", keys)
    assert parameters(spec).total == sum(weight.numel() for weight in module.parameters())


def test_costs_between_two_captured_batches_lie_on_the_line_through_them(tmp_path: Path) -> None:
    kind, name, keys = OTHER_TYPES["gated delta"]
    path = saved(tmp_path, kind, name, keys)
    line, seen = captured(path, 1, 2), captured(path, 5)
    for cost in ("matmul_flop", "read_bytes", "write_bytes"):
        between = getattr(total_cost(ops_of(line, batch_size=5)), cost)
        assert between == pytest.approx(getattr(total_cost(ops_of(seen, batch_size=5)), cost), rel=1e-3)


def test_experts_that_a_token_does_not_meet_are_not_active(tmp_path: Path) -> None:
    kind, name, keys = OTHER_TYPES["gated delta"]
    spec = captured(saved(tmp_path, kind, name, keys))
    idle = 4 * 2 * (3 * 24 * 32)  # layers x (experts - top_k) x (gate, up and down of one)
    assert parameters(spec).total - parameters(spec).active == idle


def test_a_length_that_was_not_captured_is_refused(tmp_path: Path) -> None:
    kind, name, keys = OTHER_TYPES["short convolution"]
    spec = captured(saved(tmp_path, kind, name, keys))
    with pytest.raises(InputError, match="was captured at 2 x 16 tokens, not at 2 x 8"):
        model_ops(spec, batch_size=2, seq_len=8, precision=Precision.of("fp32"))


def test_a_size_for_each_layer_is_no_number_of_layers(tmp_path: Path) -> None:
    kind, name, keys = _OWN["embeddings in every layer"]
    sizes = {"hidden_size": 8, "vocab_size": 5000, "vocab_size_per_layer_input": 5000}
    spec = captured(saved(tmp_path, kind, name, keys | sizes))
    assert parameters(spec).total > 5000 * (8 + 4 * 8)  # tokens; and for each of 4 layers again
    with pytest.raises(InputError, match="num_hidden_layers is 5,000, more than the 4,096 layers"):
        captured(saved(tmp_path, kind, name, keys | {"num_hidden_layers": 5000}))


def test_what_transformers_does_not_know_either_says_what_to_do(tmp_path: Path) -> None:
    path = saved(tmp_path, "mymodel", "MyForCausalLM", DECODER | {"auto_map": {"AutoConfig": "configuration_my.My"}})
    with pytest.raises(InputError, match=r"neither hwprof nor transformers .* knows model_type 'mymodel'.*--module"):
        captured(path)
    with pytest.raises(InputError, match="has no class 'MyForCausalLM'"):
        captured(saved(tmp_path, "lfm2", "MyForCausalLM", DECODER))
    with pytest.raises(SpecError, match="key 'model_type' is missing"):
        captured(saved(tmp_path, "", "", {}))


_FLAT = DECODER | {
    "partial_rotary_factor": 0.5,
    "rope_scaling": {"type": "default", "mrope_section": [1, 1, 0]},
    "vision_config": {"depth": 1, "hidden_size": 32, "num_heads": 4, "intermediate_size": 48, "out_hidden_size": 32}
    | {"image_size": 28},
}


def test_keys_of_the_text_model_beside_its_parts_are_not_passed_over(tmp_path: Path) -> None:
    flat = captured(saved(tmp_path, "glm4v", "Glm4vForConditionalGeneration", _FLAT))
    text = {key: value for key, value in _FLAT.items() if key != "vision_config"}
    nested = {"vision_config": _FLAT["vision_config"], "text_config": text}
    spec = captured(saved(tmp_path, "glm4v", "Glm4vForConditionalGeneration", nested))
    assert (flat.layers, flat.d_model) == (3, 32)
    assert parameters(flat) == parameters(spec)
    assert total_cost(ops_of(flat)) == total_cost(ops_of(spec))


def test_what_a_file_says_in_vain_or_leaves_to_its_class_is_told(tmp_path: Path) -> None:
    keys = DECODER | {"layer_types": ["conv", "conv", "full_attention"], "num_hidden_layer": 9, "use_cachee": False}
    stored = {"quantization_config": {"quant_method": "fp8"}}
    notes = captured(saved(tmp_path, "lfm2", "Lfm2ForCausalLM", keys | stored)).notes
    assert "Lfm2ForCausalLM does not know 'num_hidden_layer': passed over" in notes
    assert "stored quantized: counted as trained, with whole weights" in notes
    tower = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4}
    seeing = {"text_config": DECODER | {"model_type": "mistral"}, "vision_config": tower | {"model_type": "pixtral"}}
    for said, told in (({}, True), ({"tie_word_embeddings": False}, False)):
        spec = captured(saved(tmp_path, "mistral3", "Mistral3ForConditionalGeneration", seeing | said))
        assert ("false adds 1,952 parameters" in spec.notes) is told  # 61 x 32


def test_a_class_of_the_models_own_code_is_that_of_transformers_which_does_the_same(tmp_path: Path) -> None:
    keys = {key: value for key, value in DECODER.items() if key != "num_hidden_layers"} | {"num_layers": 2}
    spec = captured(saved(tmp_path, "exaone", "ExaoneForCausalLM", keys))
    module = real("exaone", "LlamaForCausalLM", keys)
    assert parameters(spec).total == sum(weight.numel() for weight in module.parameters())
    assert "transformers has ExaoneForCausalLM as LlamaForCausalLM" in spec.notes
    assert "model_type 'exaone' is unknown: counted by capture" in spec.notes  # not "did you mean exaone4?"


@pytest.mark.skipif(find_spec("timm") is not None, reason="timm is installed: towers are counted, too")
def test_a_file_from_before_transformers_had_its_class_is_counted_as_that_class(tmp_path: Path) -> None:
    kind, name, keys = OTHER_TYPES["lightning attention"]
    old = keys | {"attn_type_list": [1, 0, 0], "num_hidden_layers": 3, "postnorm": True}
    new = {"model_type": kind, "architectures": [name]} | keys | {"num_hidden_layers": 3}
    new |= {"layer_types": ["full_attention", "linear_attention", "linear_attention"]}
    old |= {"model_type": "minimax_text_01", "architectures": ["MiniMaxText01ForCausalLM"]}
    found = []
    for values in (old, new):
        path = tmp_path / f"{values['model_type']}.json"
        path.write_text(json.dumps(values))
        found.append(counted_model(str(path), Shapes(batch_sizes=(2,), seq_len=24)))
    assert parameters(found[0]) == parameters(found[1])
    assert found[0].captured == found[1].captured
    assert "transformers has MiniMaxText01ForCausalLM as MiniMaxForCausalLM" in found[0].notes


def test_a_text_model_is_counted_alone_where_its_tower_needs_timm(tmp_path: Path) -> None:
    text = DECODER | {"head_dim": 8, "vocab_size_per_layer_input": 61, "hidden_size_per_layer_input": 8}
    text |= {"num_kv_shared_layers": 1, "laurel_rank": 4, "activation_sparsity_pattern": [0.0] * 3}
    spec = captured(saved(tmp_path, "gemma3n", "Gemma3nForConditionalGeneration", {"text_config": text}))
    module = real("gemma3n_text", "Gemma3nForCausalLM", text)
    assert parameters(spec).total == sum(weight.numel() for weight in module.parameters())
    assert "need timm (pip install timm): its text model alone is counted" in spec.notes


def test_a_class_that_only_joins_others_names_them(tmp_path: Path) -> None:
    for name in ("Qwen2_5OmniForConditionalGeneration", "Qwen2_5OmniModel"):
        with pytest.raises(InputError, match=r"it has .*Qwen2_5OmniThinkerForConditionalGeneration"):
            captured(saved(tmp_path, "qwen2_5_omni", name, {}))


def _typed(command: Any, *arguments: str) -> Any:
    result = CliRunner().invoke(command, [*arguments, "--format", "json"], catch_exceptions=False)
    assert result.exit_code in {0, 1}, result.output
    return json.loads(result.stdout)


def test_count_simulate_and_plan_take_a_captured_model(tmp_path: Path) -> None:
    kind, name, keys = OTHER_TYPES["gated delta"]
    path = str(saved(tmp_path, kind, name, keys))
    counted = _typed(count, "--model", path, "--batch-size", "2", "--seq-len", "16")
    assert "counted by capture of Qwen3NextForCausalLM" in counted["notes"]
    assert counted["parameters"] == 73_008
    machine = ("--hardware", "h100-sxm", "--devices", "4", "--seq-len", "16")
    stages = _typed(simulate, "--model", path, *machine, "--pp", "2", "--global-batch", "8")
    alone = _typed(simulate, "--model", path, *machine, "--global-batch", "8")
    assert 0 < stages["memory"]["breakdown"]["weights"] < alone["memory"]["breakdown"]["weights"]
    found = _typed(plan, "--model", path, *machine, "--global-batch", "8")
    assert found["plans"]
    assert {each["cp"] for each in found["plans"]} == {1}
    sides = str(saved(tmp_path, *OTHER_TYPES["experts in an encoder"]))
    refused = CliRunner().invoke(simulate, ["--model", sides, *machine, "--cp", "2"])
    assert isinstance(refused.exception, InputError)
    assert "(context parallel 2) is not known" in str(refused.exception)


_TOWER = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
_SEEING: dict[str, tuple[str, dict[str, Any]]] = {
    "gemma3": (
        "Gemma3ForConditionalGeneration",
        {
            "text_config": DECODER | {"head_dim": 8, "sliding_window": 8, "vocab_size": 300},
            "vision_config": _TOWER | {"image_size": 32, "patch_size": 8},
            "mm_tokens_per_image": 4,
            "image_token_index": 200,
        },
    ),
    "qwen3_vl": (
        "Qwen3VLForConditionalGeneration",
        {
            "text_config": DECODER
            | {"head_dim": 16, "vocab_size": 300}
            | {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}},
            "vision_config": {"depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 4, "patch_size": 8}
            | {"out_hidden_size": 32, "deepstack_visual_indexes": [1]},
            "image_token_id": 200,
        },
    ),
    "smolvlm": (
        "SmolVLMForConditionalGeneration",
        {
            "text_config": DECODER | {"model_type": "llama", "vocab_size": 300},
            "vision_config": _TOWER | {"image_size": 32, "patch_size": 8},
            "image_token_id": 200,
        },
    ),
}


@pytest.mark.parametrize("kind", _SEEING)
def test_images_go_through_their_tower(kind: str, tmp_path: Path) -> None:
    name, keys = _SEEING[kind]
    images, length = (2, 32, 32), 48
    shapes = Shapes(batch_sizes=(BATCH,), seq_len=length, dtype="fp32", images=images)
    spec = counted_model(str(saved(tmp_path, kind, name, keys)), shapes)
    module = real(kind, name, keys)
    inputs = inputs_of(module, Asked(batch_size=BATCH, seq_len=length, images=images), name)
    train = multiplied(lambda: trained(module, inputs))[0]
    blind = multiplied(lambda: trained(module, {"input_ids": inputs["input_ids"] * 0 + 5}))[0]
    ops = model_ops(spec, batch_size=BATCH, seq_len=length, precision=Precision.of("fp32"))
    assert total_cost(ops, "forward", "backward").matmul_flop == train > blind
    module = as_it_runs(kind, name, keys)
    expected, beside = kept_bytes(module, inputs)
    assert abs(sum(op.saved_bytes * op.repeats for op in ops) - expected) <= 0.01 * expected + beside
    with pytest.raises(InputError, match="images of a sequence are"):
        captured_with(tmp_path / "config.json", images=(64, 32, 32))


def test_layers_that_look_at_images_do_so_where_there_are_some(tmp_path: Path) -> None:
    tower = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "attention_heads": 4, "image_size": 16}
    tower |= {"patch_size": 8, "max_num_tiles": 4, "num_global_layers": 1, "vision_output_dim": 64}
    tower |= {"intermediate_layers_indices": [0], "supported_aspect_ratios": [[1, 1], [2, 2]]}
    keys = {"text_config": DECODER | {"cross_attention_layers": [1], "pad_token_id": 0}, "vision_config": tower}
    path = saved(tmp_path, "mllama", "MllamaForConditionalGeneration", keys)
    spec = captured_with(path, images=(2, 16, 16))
    module = real("mllama", "MllamaForConditionalGeneration", keys)
    seen = {"pixel_values": torch.ones(BATCH, 2, 4, 3, 16, 16), "aspect_ratio_ids": torch.ones(BATCH, 2).long()}
    seen |= {"aspect_ratio_mask": torch.ones(BATCH, 2, 4).long(), "input_ids": torch.full((BATCH, LENGTH), 5)}
    seen |= {"cross_attention_mask": torch.ones(BATCH, LENGTH, 2, 4).long()}
    train = multiplied(lambda: trained(module, seen))[0]
    assert total_cost(ops_of(spec), "forward", "backward").matmul_flop == train
    assert train > total_cost(ops_of(captured(path)), "forward", "backward").matmul_flop


def captured_with(path: Path, **more: Any) -> ModelSpec:
    return counted_model(str(path), Shapes(batch_sizes=(BATCH,), seq_len=LENGTH, dtype="fp32", **more))


def test_seconds_and_arguments_say_how_much_sound_goes_in(tmp_path: Path) -> None:
    keys = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    keys |= {"conv_dim": [8, 8], "conv_kernel": [10, 3], "conv_stride": [5, 2], "vocab_size": 32}
    keys |= {"num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2, "num_feat_extract_layers": 2}
    path = saved(tmp_path, "wav2vec2", "Wav2Vec2ForCTC", keys)
    module = real("wav2vec2", "Wav2Vec2ForCTC", keys)
    sound = {"input_values": torch.ones(BATCH, 1600)}
    train = multiplied(lambda: trained(module, sound))[0]
    for more in ({"seconds": 0.1}, {"inputs": ("input_values=2x1600:float32",)}):
        spec = captured_with(path, **more)
        assert total_cost(ops_of(spec), "forward", "backward").matmul_flop == train
    with pytest.raises(InputError, match="--seconds does not go with gpt2-124m"):
        counted_model("gpt2-124m", Shapes(batch_sizes=(1,), seq_len=8, seconds=1.0))


def test_a_torch_that_transformers_does_not_work_with_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind, name, keys = OTHER_TYPES["state space 2"]
    path = saved(tmp_path, kind, name, keys | {"num_hidden_layers": 1})  # seen by no test before
    monkeypatch.setattr("transformers.is_torch_available", lambda: False)
    with pytest.raises(InputError, match=r"transformers 5\S* does not work with torch 2\S*; install a newer torch"):
        captured(path)
