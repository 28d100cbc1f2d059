"""Words of published tables: what each means, and that none is replaced in silence."""

from __future__ import annotations

import pytest

from hwprof.simulate.published.case import RefusedError, case_of
from hwprof.simulate.published.words import MODULES, VOCABULARIES, Vocabulary
from hwprof.specs.catalogue.published import PublishedRun, read_published

STATED = {
    "id": "a",
    "model_name": "llama3-8b",
    "accelerator": "H100 SXM",
    "accel_mem_gb": 80,
    "n_devices": 8,
    "seq_len": 4096,
    "global_batch_seqs": 64,
    "framework": "torchtitan",
    "zero_stage_or_fsdp": "FSDP2",
    "precision": "bf16",
    "micro_batch_seqs": 2,
    "recompute": "none",
    "attention_impl": "flash",
    "compile": "yes",
}


def case(**changes):
    return case_of(PublishedRun.model_validate(STATED | changes))


MEANINGS = [
    ("precision", "float8", {"dtype": "fp8"}),
    ("precision", "float8 rowwise", {"dtype": "fp8", "fp8_recipe": "rowwise"}),
    ("precision", "float8 tensorwise (fp8 all-gather)", {"dtype": "fp8", "fp8_all_gather": True}),
    ("precision", "fp8 (rowwise, bf16 all-gather)", {"fp8_recipe": "rowwise", "fp8_all_gather": False}),
    ("precision", "e4m3", {"dtype": "fp8"}),
    ("precision", "FP8 (delayed scaling)", {"dtype": "fp8", "fp8_recipe": "delayed"}),
    ("precision", "mxfp8 (cublas)", {"dtype": "fp8", "fp8_recipe": "mxfp8"}),
    ("precision", "nvfp4", {"dtype": "fp4"}),
    ("precision", "bf16 pure", {"dtype": "bf16", "storage": "pure"}),
    ("precision", "16-mixed", {"dtype": "fp16"}),
    ("precision", "TF32", {"dtype": "tf32"}),
    ("recompute", "full", {"recompute": "full"}),
    ("recompute", "gradient checkpointing", {"recompute": "full"}),
    ("recompute", "none", {"recompute": "none"}),
    ("recompute", "selective (op)", {"recompute": "selective", "selective": ("op-list",)}),
    ("recompute", "selective (per-op SAC)", {"selective": ("op-list",)}),
    ("recompute", "selective (every 2nd layer)", {"recompute": "full", "recompute_layers": 16}),
    ("recompute", "selective (minimal)", {"selective": ("products-without-attention",)}),
    ("recompute", "selective (mlp, moe_act)", {"recompute": "selective", "selective": ("mlp", "moe_act")}),
    ("attention_impl", "unfused (fused softmax kernel)", {"attention": "materialised"}),
    ("attention_kernel", "FlashAttention-3", {"attention": "flash-3"}),
    ("attention_kernel", "cuDNN", {"attention": "cudnn"}),
    ("attention_kernel", "torch SDPA", {"attention": "torch-sdpa"}),
    ("offload", "optimizer (cpu)", {"offload": "optimizer"}),
    ("offload", "optimizer and weights (cpu)", {"offload": "optimizer+weights"}),
    ("offload", "activation CPU offload (HEAD recipe: 20 layers)", {"offload": "activations", "offload_layers": 20}),
    ("compile", "no", {"compiled": False, "fused": False}),
    ("compile", "torch.compile", {"compiled": True, "fused": True}),
    ("optimizer", "8-bit paged AdamW", {"optimizer": "adamw-8bit", "optimizer_paged": True}),
    ("optimizer", "AdamW (optimizer in backward)", {"optimizer": "adamw", "update_in_backward": True}),
    ("optimizer", "Muon", {"optimizer": "muon"}),
    ("optimizer", "adamw foreach", {"optimizer_implementation": "foreach"}),
    ("fused_loss", "Liger", {"loss": "fused-linear"}),
    ("fused_loss", "chunked CE", {"loss": "chunked"}),
    ("fused_loss", "yes", {"loss": "fused"}),
    ("fused_loss", "no", {"loss": "plain"}),
]


@pytest.mark.parametrize(
    ("column", "text", "meaning"), MEANINGS, ids=[f"{column}: {text}" for column, text, _ in MEANINGS]
)
def test_what_a_cell_means(column, text, meaning):
    found = case(**{column: text})
    assert {name: getattr(found.job, name) for name in meaning} == meaning
    assert not any("not known" in line for line in found.assumptions), found.assumptions


def test_adapters_have_columns():
    found = case(framework="litgpt", lora_rank=16, qlora="yes", zero_stage_or_fsdp="", dp=8)
    assert found.job.lora is not None
    assert (found.job.lora.rank, found.job.lora.quantized) == (16, True)


@pytest.mark.parametrize("vocabulary", VOCABULARIES, ids=lambda each: each.column)
def test_an_unknown_word_of_any_column_is_refused_or_named(vocabulary: Vocabulary):
    if vocabulary.column == "precision":
        with pytest.raises(RefusedError, match="precision 'xyzzy' is not known"):
            case(precision="xyzzy")
        return
    found = case(**{vocabulary.column: "xyzzy"})
    assert any(line.startswith(f"{vocabulary.column}: xyzzy in 'xyzzy' not known") for line in found.assumptions)


def test_every_word_of_the_shipped_table_is_known_but_those_that_name_nothing():
    """``custom`` recompute says only that there is a policy."""
    runs = [run for run in read_published() if isinstance(run, PublishedRun)]
    for vocabulary in VOCABULARIES:
        texts = {getattr(run, vocabulary.column) for run in runs} - {""}
        unknown = {word for text in texts for word in vocabulary.read(text).unknown if not MODULES.fullmatch(word)}
        assert unknown <= {"custom", "remat", "run_recipe.sh"}, vocabulary.column


@pytest.mark.parametrize("name", ["pytorch lightning", "my torch loop", "JAXformer"])
def test_a_part_of_a_name_is_no_framework(name):
    assert any(line.startswith(f"framework {name} not known") for line in case(framework=name).assumptions) == (
        "jax" not in name.lower()
    )
