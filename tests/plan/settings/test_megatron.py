"""Are Megatron-LM's arguments those that its parser knows, and do they mean the plan?

Where Megatron-Core is installed, its own TransformerConfig is made of them, which checks how they go together.
"""

from __future__ import annotations

import importlib.util
import shlex
import warnings
from dataclasses import fields
from pathlib import Path

import pytest
import torch

from hwprof.plan.settings import megatron_bridge
from hwprof.plan.settings.megatron import settings_for

LAYOUTS = {
    "distributed optimizer": {"layout": {"data_parallel": 2, "tensor_parallel": 8, "zero_stage": 1}},
    "partial": {"layout": {"data_parallel": 16, "zero_stage": 1, "shard_ranks": 8}},
    "fsdp": {"layout": {"data_parallel": 16, "zero_stage": 3}},
    "context": {"layout": {"data_parallel": 2, "context_parallel": 2, "tensor_parallel": 4, "zero_stage": 1}},
    "interleaved": {
        "layout": {"tensor_parallel": 4, "pipeline_parallel": 4, "schedule": "interleaved", "virtual_stages": 2}
    },
    "recompute": {
        "layout": {"tensor_parallel": 4, "pipeline_parallel": 4},
        "recompute": "full",
        "recompute_layers": 10,
    },
    "offload": {"layout": {"data_parallel": 16, "zero_stage": 1}, "offload": "optimizer"},
    "fp8": {"dtype": "fp8", "recompute": "full"},
    "learned positions": {"model": "gpt3-13b", "seq_len": 2048},
    "query biases": {"model": "qwen2.5-7b", "seq_len": 4096},
    "experts": {"model": "mixtral-8x7b", "layout": {"data_parallel": 16, "expert_parallel": 8, "zero_stage": 1}},
    "latent": {"model": "deepseek-v3", "layout": {"data_parallel": 16, "expert_parallel": 16, "zero_stage": 1}},
}


def parsed(text):
    spec = importlib.util.spec_from_file_location("megatron_flags", Path(__file__).parent / "megatron_flags.py")
    flags = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(flags)
    words = shlex.split(text.replace("\\\n", ""), comments=True)
    return flags.parser().parse_args(words[words.index("pretrain_gpt.py") + 1 : -1])


def args_of(launch, **changes):
    return parsed(settings_for(launch(**({"storage": "mixed"} | changes))).text)


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_argument_is_one_of_megatron_s(launch, name):
    args = args_of(launch, **LAYOUTS[name])
    asked = launch(**({"storage": "mixed"} | LAYOUTS[name])).job
    held = args.tensor_model_parallel_size * args.pipeline_model_parallel_size * (args.context_parallel_size or 1)
    assert 16 // held == asked.layout.data_parallel
    assert args.global_batch_size % (args.micro_batch_size * asked.layout.data_parallel) == 0
    assert (args.num_layers, args.hidden_size) == (asked.model.layers, asked.model.d_model)


def test_full_recompute_in_some_layers_is_counted_in_each_stage(launch):
    args = args_of(launch, **LAYOUTS["recompute"])
    # 10 layers over 4 stages: 3 in each
    assert (args.recompute_granularity, args.recompute_method, args.recompute_num_layers) == ("full", "block", 3)


def test_hybrid_sharding_is_several_optimizers(launch):
    assert args_of(launch, **LAYOUTS["partial"]).num_distributed_optimizer_instances == 2


def test_layers_that_do_not_divide(launch):
    even = args_of(launch, model="llama-3.1-405b", layout={"data_parallel": 1, "pipeline_parallel": 16})
    assert even.account_for_embedding_in_pipeline_split
    assert even.account_for_loss_in_pipeline_split
    odd = args_of(launch, model="llama-3.1-405b", layout={"pipeline_parallel": 12}).pipeline_model_parallel_layout
    # 126 = 6 x 11 + 6 x 10
    assert odd.strip("EL").split("|") == [*["t*10"] * 3, *["t*11"] * 6, *["t*10"] * 3]


@pytest.mark.parametrize(
    ("changes", "lack"),
    [
        ({"backend": "cpu", "device": "cpu"}, "device cpu"),
        ({"optimizer": "lion"}, "optimizer lion"),
        ({"optimizer": "muon"}, "muon with ZeRO stage 3"),
        ({"offload": "optimizer", "layout": {"data_parallel": 16}}, "offload of the optimizer without ZeRO"),
        ({"layout": {"data_parallel": 2, "pipeline_parallel": 8, "schedule": "zb-v"}}, "schedule zb-v"),
        ({"layout": {"data_parallel": 16, "zero_stage": 3, "shard_ranks": 8}}, "over fewer than all replicas"),
        (
            {"layout": {"data_parallel": 2, "tensor_parallel": 8, "zero_stage": 3}, "architecture": "hopper"},
            "ZeRO stage 3 beside tensor or context parallel before Blackwell",
        ),
        (
            {"model": "mixtral-8x7b", "layout": {"data_parallel": 8, "tensor_parallel": 2, "sequence_parallel": False}},
            "experts beside tensor parallel without sequence parallel",
        ),
        ({"dtype": "fp8", "fp8_recipe": "rowwise"}, "fp8 by rowwise"),
        (
            {"dtype": "fp8", "fp8_all_gather": True, "layout": {"data_parallel": 16}},
            "weights kept in fp8 alone without the distributed optimizer",
        ),
        ({"storage": "pure"}, "weights in 16 bits without fp32 masters"),
        ({"model": "gemma-2-9b"}, "gated gelu activation"),
        ({"model": "falcon-7b", "seq_len": 2048}, "parallel_shared_norm blocks"),
        ({"model": "bloom-176b", "seq_len": 2048}, "alibi positions"),
    ],
)
def test_what_it_lacks_is_said_and_no_file_made(launch, changes, lack):
    found = settings_for(launch(**changes))
    assert found.text == ""
    assert any(lack in words for words in found.lacks)


@pytest.fixture(scope="session")
def config_class():
    """Megatron-Core's own class, with the same checks as in a training."""
    with warnings.catch_warnings(action="ignore"):  # of what Megatron-Core imports
        reason = "Megatron-Core is not installed: arguments are compared with their list alone"
        return pytest.importorskip("megatron.core.transformer.transformer_config", reason=reason)


@pytest.mark.parametrize("name", LAYOUTS)
def test_megatron_core_takes_them_together(launch, config_class, name):
    args = vars(args_of(launch, **LAYOUTS[name]))
    latent = bool(args["multi_latent_attention"])
    kind = config_class.MLATransformerConfig if latent else config_class.TransformerConfig
    names = {field.name for field in fields(kind) if field.init}
    renamed = args | {
        "num_moe_experts": args["num_experts"],
        "add_bias_linear": not args["disable_bias_linear"],
        "gated_linear_unit": args["swiglu"],
        "params_dtype": torch.bfloat16,
        "pipeline_dtype": torch.bfloat16,
    }
    switches = {"attention_backend", "moe_layer_freq", "cp_comm_type"}
    kept = {key: value for key, value in renamed.items() if key in names - switches and value is not None}
    with warnings.catch_warnings(action="ignore"):
        config = kind(**kept)
    assert config.num_layers == args["num_layers"]
    assert config.recompute_num_layers == args["recompute_num_layers"]


@pytest.mark.parametrize(
    ("layout", "architecture", "line"),
    [
        ({"data_parallel": 2, "tensor_parallel": 8}, "hopper", "export CUDA_DEVICE_MAX_CONNECTIONS=1"),
        ({"data_parallel": 8, "context_parallel": 2}, "ampere", "export CUDA_DEVICE_MAX_CONNECTIONS=1"),
        ({"data_parallel": 2, "tensor_parallel": 8}, "blackwell", ""),
        ({"data_parallel": 16, "zero_stage": 3}, "hopper", "unset CUDA_DEVICE_MAX_CONNECTIONS"),
        ({"data_parallel": 16, "zero_stage": 1}, "hopper", ""),
    ],
)
def test_queues_are_as_megatron_asserts(launch, layout, architecture, line):
    """``validate_args``: 1 before Blackwell under tensor or context parallelism, not 1 under its FSDP."""
    text = settings_for(launch(layout=layout, architecture=architecture)).text
    found = [each for each in text.splitlines() if "CUDA_DEVICE_MAX_CONNECTIONS" in each]
    assert found == ([line] if line else [])


@pytest.mark.parametrize(("of_expert", "expected"), [(None, 2), (1, 1)])
def test_it_is_told_how_many_devices_share_an_expert(launch, of_expert, expected):
    layout = {"data_parallel": 8, "tensor_parallel": 2, "expert_parallel": 8, "expert_tensor": of_expert}
    asked = launch(storage="mixed", model="mixtral-8x7b", layout=layout)
    assert parsed(settings_for(asked).text).expert_tensor_parallel_size == expected
    assert megatron_bridge.fields_of(asked)["model.expert_tensor_parallel_size"] == str(expected)


def test_experts_are_balanced_and_latent_attention_has_its_norms(launch):
    mixtral = args_of(launch, **LAYOUTS["experts"])
    assert (mixtral.moe_router_load_balancing_type, mixtral.moe_aux_loss_coeff) == ("aux_loss", 0.01)
    deepseek = args_of(launch, **LAYOUTS["latent"])
    assert (deepseek.moe_router_load_balancing_type, deepseek.moe_aux_loss_coeff) == ("seq_aux_loss", 0.0001)
    assert deepseek.qk_layernorm
    assert deepseek.attention_backend == "auto"  # flash is FlashAttention-3's alone here


def test_what_was_priced_as_hidden_is_told(launch):
    asked = {"layout": {"data_parallel": 2, "tensor_parallel": 8, "zero_stage": 1}}
    assert not args_of(launch, **asked).tp_comm_overlap
    assert args_of(launch, **asked, async_tensor_parallel=True).tp_comm_overlap
    narrow = args_of(launch, **asked, dtype="fp8", fp8_recipe="delayed", fp8_all_gather=True)
    assert (narrow.fp8_recipe, narrow.fp8_param_gather) == ("delayed", True)


def test_padding_and_iterations_that_are_left_are_said(launch):
    found = settings_for(launch("llama-3.1-8b", storage="mixed", steps=None))
    assert "--train-iters ..." in found.text
    assert any("--use-rope-scaling" in words for words in found.besides)
    padded = settings_for(launch("gpt2-124m", storage="mixed", seq_len=1024))
    assert any("vocabulary padded to 50,304" in words for words in padded.besides)


def test_chunks_that_differ_are_counted_by_their_layout_alone(launch):
    """``validate_args`` refuses both: 80 layers in 3 chunks of 4 stages are 4 chunks of 6 and 8 of 7."""
    layout = {"tensor_parallel": 4, "pipeline_parallel": 4, "schedule": "interleaved", "virtual_stages": 3}
    args = args_of(launch, model="llama-3.1-70b", layout=layout)
    assert args.num_virtual_stages_per_pipeline_rank is None
    assert args.pipeline_model_parallel_layout == "Et*6|t*6|t*7|t*7|t*7|t*7|t*7|t*7|t*7|t*7|t*6|t*6L"


def test_widths_that_megatron_does_not_take_by_itself(launch):
    """bf16 accumulates in fp32 unless it is told otherwise, fp16 does not (``validate_args``)."""
    layout = {"data_parallel": 16, "zero_stage": 1}
    assert args_of(launch, layout=layout, dtype="fp16").accumulate_allreduce_grads_in_fp32
    narrow = args_of(launch, layout=layout, dtype="fp16", gradient_bytes=2)
    assert not narrow.accumulate_allreduce_grads_in_fp32
    assert not narrow.grad_reduce_in_bf16
    micro = args_of(launch, layout=layout, dtype="fp8", fp8_recipe="mxfp8", fp8_all_gather=True)
    assert micro.reuse_grad_buf_for_mxfp8_param_ag  # else the weights are there twice


def test_muon_does_not_reduce_beside_backward(launch):
    assert not args_of(launch, layout={"data_parallel": 16}, optimizer="muon").overlap_grad_reduce


def test_a_fused_loss_is_asked_for_and_what_it_lacks_is_said(launch):
    asked = launch(storage="mixed", layout={"data_parallel": 16, "zero_stage": 1}, cuda_graphs=True)
    found = settings_for(asked)
    assert parsed(found.text).cross_entropy_loss_fusion
    assert any("--cross-entropy-fusion-impl te" in words for words in found.besides)
    assert any("--cuda-graph-impl" in words for words in found.besides)
    assert not args_of(launch, loss="plain").cross_entropy_loss_fusion


def test_tokens_travel_to_experts_beside_another_micro_batch_where_megatron_does_so(launch):
    layout = {"data_parallel": 4, "pipeline_parallel": 4, "expert_parallel": 4}
    chunks = {"schedule": "interleaved", "virtual_stages": 2}
    asked = {"model": "mixtral-8x7b", "storage": "mixed", "expert_overlap": True}
    assert args_of(launch, **asked, layout=layout | chunks).overlap_moe_expert_parallel_comm
    for changes in ({"layout": layout}, {"layout": layout | chunks, "recompute": "full"}):
        found = settings_for(launch(**(asked | changes)))
        assert not parsed(found.text).overlap_moe_expert_parallel_comm
        assert any("experts' traffic is priced as hidden" in words for words in found.besides)
