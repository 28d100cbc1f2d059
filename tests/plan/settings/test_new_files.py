"""Plain PyTorch's program, Megatron-Bridge's recipe and MaxText's settings: is what they say the plan?"""

from __future__ import annotations

import ast
import shlex

import pytest

from hwprof.plan.settings import fsdp2, maxtext, megatron, megatron_bridge
from hwprof.specs.catalogue.lookup import load_model
from hwprof.specs.job.step import LoraSpec

NARROWED = {"storage": "narrowed"}


def constants(text):
    """What the program says in capitals, as Python reads it."""
    found = {}
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            found[node.targets[0].id] = node.value.value
    return found


def test_a_program_of_plain_torch_has_the_degrees_and_the_batch(launch):
    asked = launch(
        **NARROWED,
        layout={"data_parallel": 16, "zero_stage": 3, "shard_ranks": 8},
        recompute="full",
        recompute_layers=5,
        micro_batch=2,
    )
    found = constants(fsdp2.settings_for(asked).text)
    assert (found["DEVICES"], found["SHARD_RANKS"], found["RESHARD_AFTER_FORWARD"]) == (16, 8, True)
    assert found["MICRO_BATCH"] * found["MICRO_BATCHES"] * 16 == 64
    assert (found["RECOMPUTED_LAYERS"], found["REDUCE_FORMAT"], found["STEPS"]) == (5, "float32", 1000)
    narrow = constants(fsdp2.settings_for(launch(storage="pure")).text)
    assert (narrow["REDUCE_FORMAT"], narrow["RECOMPUTED_LAYERS"]) == ("bfloat16", 0)


def test_a_recipe_of_megatron_bridge_is_told_what_megatron_is(launch):
    layout = {"tensor_parallel": 4, "pipeline_parallel": 4, "schedule": "interleaved", "virtual_stages": 2}
    asked = launch(storage="mixed", layout=layout, recompute="full", recompute_layers=8, dtype="fp8")
    text = megatron_bridge.settings_for(asked).text
    said = {ast.unparse(node.targets[0]): ast.unparse(node.value) for node in ast.parse(text).body if is_field(node)}
    assert said["config.model.tensor_model_parallel_size"] == "4"
    assert said["config.model.virtual_pipeline_model_parallel_size"] == "2"
    assert said["config.model.recompute_method"] == "'block'"
    assert said["config.model.recompute_num_layers"] == "1"  # 8 layers over 8 chunks
    assert said["config.train.global_batch_size"] == "64"
    assert "fp8_current_scaling" in said["config.mixed_precision"]  # scales of whole tensors
    assert said["config.ddp.use_distributed_optimizer"] == "False"
    assert "import llama31_8b_pretrain_config" in text


def is_field(node):
    return isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute)


def test_its_fields_are_those_of_megatron_core(launch):
    reason = "Megatron-Core is not installed"
    model = pytest.importorskip("megatron.core.transformer.transformer_config", reason=reason).TransformerConfig
    ddp = pytest.importorskip("megatron.core.distributed", reason=reason).DistributedDataParallelConfig
    optimizer = pytest.importorskip("megatron.core.optimizer", reason=reason).OptimizerConfig
    kinds = {"model": model, "ddp": ddp, "optimizer": optimizer}
    layouts = (
        {"tensor_parallel": 4, "pipeline_parallel": 4, "schedule": "interleaved", "virtual_stages": 2},
        {"data_parallel": 16, "zero_stage": 3},
        {"data_parallel": 2, "context_parallel": 2, "tensor_parallel": 4, "zero_stage": 1, "shard_ranks": 2},
    )
    own = {"model.seq_length", "model.pipeline_model_parallel_layout"}  # fields of the bridge's provider
    for layout in layouts:
        asked = launch(storage="mixed", layout=layout, recompute="full")
        for place in megatron_bridge.fields_of(asked):
            part, _, name = place.partition(".")
            if part in kinds and place not in own:
                assert hasattr(kinds[part], name) or name in kinds[part].__dataclass_fields__, place


def test_maxtext_s_axes_multiply_to_the_devices_and_batches_to_the_step(launch):
    tpu = {"backend": "other", "device": "tpu-v5p", "recompute": "full", "micro_batch": 2}
    layout = {"data_parallel": 8, "tensor_parallel": 2, "zero_stage": 3, "shard_ranks": 4}
    text = maxtext.settings_for(launch(**NARROWED, **tpu, layout=layout)).text
    words = shlex.split(text.replace("\\\n", ""), comments=True)
    found = dict(word.split("=", 1) for word in words if "=" in word)
    axes = ["data", "fsdp", "tensor", "context", "expert"]
    assert [int(found[f"ici_{axis}_parallelism"]) for axis in axes] == [2, 4, 2, 1, 1]
    # 64 sequences a step on 16 devices in 4 micro-batches
    assert (found["per_device_batch_size"], found["gradient_accumulation_steps"]) == ("1", "4")
    assert (found["remat_policy"], found["weight_dtype"], found["steps"]) == ("full", "float32", "1000")
    assert (found["attention"], found["override_model_config"]) == ("flash", "true")


@pytest.mark.parametrize(
    ("model", "kept"),
    [
        ("llama-3.1-8b", set()),
        ("mixtral-8x7b", {"moe_mlpwi_0", "moe_mlpwi_1", "moe_mlpwo"}),
        ("deepseek-v3", {"moe_mlpwi_0", "moe_mlpwi_1", "moe_mlpwo", "query_wa_proj", "kv_wa_proj"}),
    ],
)
def test_maxtext_keeps_what_is_not_computed_again(launch, model, kept):
    """Its ``custom`` policy computes again whatever has no place (``RematAndOffload``)."""
    asked = launch(model, **NARROWED, backend="other", device="tpu-v5p", seq_len=2048)
    words = shlex.split(maxtext.settings_for(asked).text.replace("\\\n", ""), comments=True)
    said = {word.partition("=")[0] for word in words if word.endswith("=device")}
    assert said - {"context", "mlpwi", "mlpwi_0", "mlpwi_1", "mlpwo", "out_proj"} - PROJECTIONS == kept


PROJECTIONS = {"query_proj", "key_proj", "value_proj"}


def test_what_a_recipe_of_megatron_bridge_has_switched_on_is_undone_or_said(launch):
    """DeepSeek's recipe keeps states in 16 bits, Qwen's loss is Megatron's own (Megatron-Bridge 0.3.1)."""
    layout = {"data_parallel": 16, "expert_parallel": 8, "zero_stage": 1}
    found = megatron_bridge.fields_of(launch("deepseek-v3", storage="mixed", layout=layout, expert_overlap=True))
    assert found["optimizer.use_precision_aware_optimizer"] == "False"
    assert found["optimizer.exp_avg_dtype"] == "torch.float32"
    assert found["model.mtp_num_layers"] == "None"  # the recipe predicts two tokens, this model one
    assert found["model.cross_entropy_fusion_impl"] == "'te'"
    assert "overlap_moe_expert_parallel_comm=True" in found["comm_overlap"]
    chunks = {"tensor_parallel": 4, "pipeline_parallel": 4, "schedule": "interleaved", "virtual_stages": 3}
    uneven = megatron_bridge.fields_of(launch("llama-3.1-70b", storage="mixed", layout=chunks))
    assert uneven["model.virtual_pipeline_model_parallel_size"] == "3"
    plain = megatron_bridge.fields_of(launch(storage="mixed", loss="plain"))
    assert plain["model.cross_entropy_loss_fusion"] == "False"
    offloaded = megatron_bridge.fields_of(
        launch(storage="mixed", layout={"data_parallel": 16, "zero_stage": 1}, offload="optimizer")
    )
    assert offloaded["optimizer.use_precision_aware_optimizer"] == "True"


def test_recipes_and_files_are_of_models_that_the_catalogue_has():
    for name in [*megatron_bridge.RECIPES, *maxtext.MODELS]:
        assert load_model(name).name == name


@pytest.mark.parametrize(
    ("framework", "changes", "lack"),
    [
        (fsdp2, {"layout": {"data_parallel": 2, "tensor_parallel": 8, "zero_stage": 3}}, "tensor, pipeline"),
        (fsdp2, {"storage": "mixed"}, "fp32 masters"),
        (fsdp2, {"offload": "optimizer"}, "offload of optimizer"),
        (fsdp2, {"layout": {"data_parallel": 16, "zero_stage": 1}}, "ZeRO stage 1"),
        (megatron, {"lora": LoraSpec(rank=8)}, "adapters"),
        (megatron, {"recompute": "selective", "selective": ("op-list",)}, "recompute of op-list"),
        (megatron_bridge, {"model": "bloom-176b", "seq_len": 2048}, "none of its recipes"),
        (maxtext, {}, "device h100"),
        (
            maxtext,
            {"model": "mixtral-8x7b", "layout": {"data_parallel": 8, "tensor_parallel": 2, "expert_tensor": 1}},
            "experts that tensor ranks do not share",
        ),
        (maxtext, {"backend": "other", "device": "tpu-v5p", "dtype": "fp8"}, "fp8"),
    ],
)
def test_what_they_lack_is_said_and_no_file_made(launch, framework, changes, lack):
    found = framework.settings_for(launch(**(NARROWED | changes)))
    assert found.text == ""
    assert any(lack in words for words in found.lacks), found.lacks


def test_modules_of_selective_recompute_are_told_to_megatron(launch):
    asked = launch(storage="mixed", recompute="selective", selective=("core_attn", "mlp"))
    assert "--recompute-modules core_attn mlp" in megatron.settings_for(asked).text
    assert megatron_bridge.fields_of(asked)["model.recompute_modules"] == "['core_attn', 'mlp']"


def test_a_program_of_gloo_leaves_without_taking_its_group_apart(launch):
    lines = [line.strip() for line in fsdp2.settings_for(launch(**NARROWED)).text.splitlines()]
    assert lines[-5:-1] == [
        'if dist.get_backend() == "nccl":',
        "dist.destroy_process_group()",
        "else:",
        "dist.barrier()",
    ]
    assert lines[-1].startswith("os._exit(0)  # ")
