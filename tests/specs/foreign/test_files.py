"""Files of other tools: those that hold an architecture count as published, the others say what to give instead."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from hwprof.count.blocks.parameters import parameters
from hwprof.errors import InputError, SpecError
from hwprof.specs.catalogue.lookup import load_model

LLAMA_31_8B, LLAMA_2_7B, MISTRAL_7B_03, MIXTRAL_8X7B = 8_030_261_248, 6_738_415_616, 7_248_023_552, 46_702_792_704
"""Parameters as the weights' files on Hugging Face hold them."""

_META = {"dim": 4096, "n_layers": 32, "n_heads": 32, "norm_eps": 1e-5}
_MISTRAL = _META | {"head_dim": 128, "hidden_dim": 14336, "n_kv_heads": 8}
_LITGPT = {
    "block_size": 131072,
    "n_layer": 32,
    "n_embd": 4096,
    "n_head": 32,
    "n_query_groups": 8,
    "intermediate_size": 14336,
    "mlp_class_name": "LLaMAMLP",
    "norm_class_name": "RMSNorm",
    "padded_vocab_size": 128256,
    "bias": False,
}


def written(folder: Path, name: str, content: Any) -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("params.json", _META | {"vocab_size": -1, "multiple_of": 256}, LLAMA_2_7B),
        (
            "params.json",
            _META
            | {"n_kv_heads": 8, "vocab_size": 128256, "ffn_dim_multiplier": 1.3, "multiple_of": 1024}
            | {"rope_theta": 5e5, "use_scaled_rope": True},
            LLAMA_31_8B,
        ),
        ("params.json", _MISTRAL | {"vocab_size": 32768, "rope_theta": 1e6}, MISTRAL_7B_03),
        (
            "params.json",
            _MISTRAL | {"vocab_size": 32000, "moe": {"num_experts": 8, "num_experts_per_tok": 2}},
            MIXTRAL_8X7B,
        ),
        ("model_config.yaml", "\n".join(f"{key}: {value}" for key, value in _LITGPT.items()), LLAMA_31_8B),
        ("job.toml", '[job]\n[training]\n[model]\nname = "llama3"\nflavor = "8B"\n', LLAMA_31_8B),
    ],
)
def test_a_file_that_holds_an_architecture_counts_as_published(
    name: str, content: Any, expected: int, tmp_path: Path
) -> None:
    path = written(tmp_path, name, content)
    assert parameters(load_model(path)).total == expected
    if name in {"params.json", "model_config.yaml"}:
        assert parameters(load_model(tmp_path)).total == expected  # its folder, too


MEGATRON = {
    "--num-layers": 32,
    "--hidden-size": 4096,
    "--ffn-hidden-size": 14336,
    "--num-attention-heads": 32,
    "--group-query-attention": True,
    "--num-query-groups": 8,
    "--swiglu": True,
    "--disable-bias-linear": True,
    "--untie-embeddings-and-output-weights": True,
    "--normalization": "RMSNorm",
    "--position-embedding-type": "rope",
    "--vocab-size": 128256,
}


def test_arguments_of_megatron_are_read_however_they_are_written(tmp_path: Path) -> None:
    lines = "\n".join(f"  {key}: {str(value).lower() if value is True else value}" for key, value in MEGATRON.items())
    flags = " ".join(key if value is True else f"{key} {value}" for key, value in MEGATRON.items())
    for name, content in {
        "args.yaml": f"MODEL_ARGS:\n{lines}\n",
        "args.json": MEGATRON,
        "train.sh": f"torchrun pretrain_gpt.py {flags} --lr 1e-4 --bf16\n",
    }.items():
        assert parameters(load_model(written(tmp_path, name, content))).total == LLAMA_31_8B


def test_a_script_may_keep_arguments_in_strings_and_variables(tmp_path: Path) -> None:
    script = "LAYERS=24\nexport WIDTH=1024\nARGS=(\n  --num-layers $LAYERS  # deep\n  --hidden-size ${WIDTH} \\\n"
    script += '  --num-attention-heads=16\n)\nMORE="--max-position-embeddings 1024 --squared-relu"\n'
    spec = load_model(written(tmp_path, "train.sh", script))
    assert (spec.layers, spec.d_model, spec.heads, spec.max_seq_len, spec.activation) == (24, 1024, 16, 1024, "relu2")


def test_arguments_of_nemo_are_told_in_its_words(tmp_path: Path) -> None:
    keys = {"num_layers": 32, "hidden_size": 4096, "ffn_hidden_size": 14336, "num_attention_heads": 32}
    keys |= {"num_query_groups": 8, "encoder_seq_length": 8192, "normalization": "rmsnorm", "bias": False}
    keys |= {"activation": "fast-swiglu", "share_embeddings_and_output_weights": False, "vocab_size": 128256}
    keys |= {"position_embedding_type": "rope"}
    assert parameters(load_model(written(tmp_path, "nemo.json", {"model": keys}))).total == LLAMA_31_8B


def test_arguments_of_megatron_without_a_vocabulary_say_so(tmp_path: Path) -> None:
    few = {key: value for key, value in MEGATRON.items() if key != "--vocab-size"}
    spec = load_model(written(tmp_path, "args.json", few))
    assert (spec.vocab_size, "GPT-2, padded" in spec.notes) == (50304, True)


def gguf(folder: Path, architecture: str, numbers: dict[str, int], *, tensors: tuple[str, ...] = ()) -> Path:
    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    body = text("general.architecture") + struct.pack("<I", 8) + text(architecture)
    for name, number in numbers.items():
        body += text(f"{architecture}.{name}") + struct.pack("<II", 4, number)
    body += text("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, 3) + text("a") + text("b") + text("c")
    for name in tensors:
        body += text(name) + struct.pack("<IQIQ", 1, 8, 0, 0)
    path = folder / "model.gguf"
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(numbers) + 2) + body)
    return path


_GGUF = {
    "block_count": 32,
    "embedding_length": 4096,
    "feed_forward_length": 14336,
    "attention.head_count": 32,
    "attention.head_count_kv": 8,
    "context_length": 131072,
    "vocab_size": 128256,
}


def test_the_header_of_a_gguf_file_is_read(tmp_path: Path) -> None:
    spec = load_model(gguf(tmp_path, "llama", _GGUF, tensors=("token_embd.weight", "output.weight")))
    assert parameters(spec).total == LLAMA_31_8B
    tied = load_model(gguf(tmp_path, "llama", _GGUF, tensors=("token_embd.weight",)))
    assert parameters(tied).total == LLAMA_31_8B - 128256 * 4096


def test_a_gguf_file_that_is_cut_short_or_of_another_architecture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="architecture 'rwkv7', which is not read"):
        load_model(gguf(tmp_path, "rwkv7", _GGUF))
    whole = gguf(tmp_path, "llama", _GGUF).read_bytes()
    (tmp_path / "model.gguf").write_bytes(whole[:56])
    with pytest.raises(SpecError, match="header is cut short"):
        load_model(tmp_path / "model.gguf")


@pytest.mark.parametrize(
    ("name", "content", "fact", "remedy"),
    [
        (
            "adapter_config.json",
            {"peft_type": "LORA", "r": 8, "base_model_name_or_path": "meta-llama/Llama-3.1-8B"},
            r"adapter of PEFT \(LORA, rank 8\) for meta-llama/Llama-3.1-8B",
            "--model meta-llama/Llama-3.1-8B --lora-rank 8",
        ),
        (
            "ds.json",
            {"train_batch_size": 32, "zero_optimization": {"stage": 3}},
            "configuration of DeepSpeed",
            "--zero",
        ),
        ("acc.yaml", "distributed_type: FSDP\nnum_processes: 8\n", "configuration of accelerate", "--devices"),
        ("recipe.yaml", "base_model: Qwen/Qwen3-8B\nadapter: lora\n", "recipe of training", "--model Qwen/Qwen3-8B"),
        (
            "config.json",
            {"_class_name": "FluxTransformer2DModel", "_diffusers_version": "0.30.0", "in_channels": 64},
            "configuration of diffusers, FluxTransformer2DModel",
            "pip install 'hwprof[diffusers]'",
        ),
        (
            "config.json",
            {"_class_name": "OtherModel", "_diffusers_version": "0.30.0"},
            "diffusers",
            "of this file), inputs)",
        ),
        ("model_index.json", {"_class_name": "FluxPipeline"}, "index of a pipeline", "transformer/config.json"),
        ("config_registry.py", "import torchtitan\n", "a program of torchtitan", "torchtitan:llama3:8B"),
        ("config.json", {"architecture": "vit_tiny", "pretrained_cfg": {}}, "timm, vit_tiny", "--module"),
        ("model.safetensors.index.json", {"weight_map": {}}, "index of weights", "config.json"),
        ("tokenizer_config.json", {"tokenizer_class": "LlamaTokenizer"}, "of a tokenizer", "config.json"),
        ("generation_config.json", {"do_sample": True, "top_p": 0.9}, "text generation", "config.json"),
        (
            "ds.json",
            {"bf16": {"enabled": True}, "optimizer": {"type": "AdamW"}},
            "configuration of DeepSpeed",
            "--zero",
        ),
        ("acc.yaml", "num_processes: 8\nmixed_precision: bf16\n", "configuration of accelerate", "--devices"),
        ("tune.yaml", "model:\n  _component_: torchtune.models.qwen3.qwen3_8b\n", "recipe of torchtune", "by its name"),
        (
            "verl.yaml",
            "actor_rollout_ref:\n  model:\n    path: Qwen/Qwen2.5-7B\n",
            "recipe of verl",
            "--model Qwen/Qwen2.5-7B",
        ),
        ("fine.yaml", "checkpoint_dir: checkpoints/x\n", "recipe of litgpt", "--model checkpoints/x"),
        ("odd.yaml", "colour: blue\n", "YAML of no kind that is known", "model_config.yaml"),
        ("neox.yml", "num_layers: 2\nhidden_size: 8\nnum_attention_heads: 2\npos_emb: rotary\n", "GPT-NeoX", "pythia"),
        ("adapters.json", {"fine_tune_type": "lora", "model": "org/m"}, "adapter of MLX", "--model org/m"),
        (
            "adapter_config.json",
            {"peft_type": "IA3", "base_model_name_or_path": "org/m"},
            r"adapter of PEFT \(IA3\) for org/m",
            "give the base model: --model org/m",
        ),
        ("generation_config.json", {"bos_token_id": 1, "eos_token_id": 2}, "text generation", "config.json"),
        ("special_tokens_map.json", {"bos_token": "<s>", "eos_token": "</s>"}, "special tokens", "config.json"),
        ("vocab.json", {"a": 0, "b": 1, "c": 2}, "vocabulary of a tokenizer", "config.json"),
        ("chat_template.json", {"chat_template": "{{x}}"}, "template of chats", "config.json"),
        ("preprocessor_config.json", {"image_processor_type": "V", "size": 224}, "of a processor", "config.json"),
        ("trainer_state.json", {"log_history": [], "global_step": 1}, "state of a Trainer", "config.json"),
        ("training_args.json", {"output_dir": "out"}, "arguments of a training", "config.json"),
        ("quantize_config.json", {"bits": 4, "group_size": 128}, "settings of a quantization", "config.json"),
        ("ort_config.json", {"optimum_version": "1.20", "opset": None}, "settings of optimum", "config.json"),
        ("modules.json", [{"idx": 0, "path": "", "type": "x"}], "modules of sentence-transformers", "config.json"),
        ("config.json", {"pooling_mode_mean_tokens": True}, "part of sentence-transformers", "config.json"),
        ("scheduler_config.json", {"num_train_timesteps": 1000}, "scheduler of diffusers", "config.json"),
        ("open_clip_config.json", {"model_cfg": {"embed_dim": 512}}, "open_clip", "clip-vit-l-14"),
        ("config.json", {"module": "keras_hub.x", "class_name": "GemmaBackbone"}, "Keras, GemmaBackbone", "TOML"),
        ("config.json", {"architecture": "LlamaForCausalLM", "mapping": {}}, "TensorRT-LLM", "converted from"),
        ("config.json", {"model": {"d_model": 8}, "train_module": {}}, "OLMo-core", "olmo-3-7b"),
        ("params.json", {"dim": 8, "n_layers": 2, "model_type": "mamba"}, "layers without attention", "config.json"),
        (
            "params.json",
            {"dim": 8, "n_layers": 2, "n_heads": 2, "moe_args": {"num_experts": 4}},
            "moe_args",
            "config.json",
        ),
        ("model.safetensors", "x", "a file of weights", "config.json"),
        ("model.onnx", "x", "graph of ONNX", "config.json"),
        ("train.py", "n_layer = 12", "a program in Python", "--module"),
        ("Modelfile", "FROM llama3.2", "Modelfile of Ollama", "GGUF"),
        (
            "run.sh",
            "python p.py --num-layers $L --hidden-size 8 --num-attention-heads 2",
            "does not set",
            "write the number",
        ),
        (
            "run.sh",
            "--num-layers 2 --hidden-size 8 --num-attention-heads 2 --hybrid-override-pattern M-M*",
            "hybrid-override-pattern is not read",
            "TOML",
        ),
        (
            "job.toml",
            '[job]\n[training]\n[model]\nname = "flux"\nflavor = "dev"\n',
            "job of torchtitan that trains flux dev",
            "catalogue name",
        ),
    ],
)
def test_a_file_that_is_no_model_says_what_it_is_and_what_to_give(
    name: str, content: Any, fact: str, remedy: str, tmp_path: Path
) -> None:
    with pytest.raises(SpecError, match=fact) as refusal:
        load_model(written(tmp_path, name, content))
    assert remedy in refusal.value.remedy


def test_a_configuration_of_transformers_is_none_of_these_whatever_its_keys_are_called(tmp_path: Path) -> None:
    for more in (_META, _LITGPT, {"pretrained_cfg": {}}, {"base_model": "x"}):  # DistilBERT has dim, n_layers, n_heads
        with pytest.raises(SpecError, match="model_type 'deberta' is unknown"):
            load_model(written(tmp_path, "config.json", more | {"model_type": "deberta"}))


def test_a_layer_of_litgpt_that_is_not_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="GemmaMLP and RMSNorm are not read"):
        load_model(written(tmp_path, "c.json", _LITGPT | {"mlp_class_name": "GemmaMLP"}))


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("torchtitan:llama3:8B", "llama-3.1-8b"),
        ("torchtitan:llama3_405b", "llama-3.1-405b"),
        ("torchtitan:llama3:llama3_70b", "llama-3.1-70b"),
        ("torchtitan:qwen3:30B-A3B", "qwen3-30b-a3b"),
        ("torchtitan:qwen3_0_6b", "qwen3-0.6b"),
        ("torchtitan:deepseek_v3_671b", "deepseek-v3"),
    ],
)
def test_a_flavor_of_torchtitan_is_a_name(name: str, model: str) -> None:
    assert load_model(name) == load_model(model)


def test_a_flavor_that_is_not_known_says_which_are() -> None:
    with pytest.raises(InputError, match=r"torchtitan's 'flux:dev' is not known; known are torchtitan:llama3:8B"):
        load_model("torchtitan:flux:dev")
