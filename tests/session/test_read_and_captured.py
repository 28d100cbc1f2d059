"""Models that both a reader describes and capture can see: two ways to one model agree in all that is answered."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from captured_types import saved, work_share
from click.testing import CliRunner
from other_types import OTHER_TYPES
from small_transformers import DECODER, MLA, NARROW_MOE

import hwprof.session.captured as session
from hwprof.cli.count.command import command as count
from hwprof.cli.simulate import command as simulate
from hwprof.count.job.device_work import device_rows
from hwprof.count.job.rows import Part, Unit
from hwprof.count.memory.job import job_memory
from hwprof.deploy.config import read_config
from hwprof.errors import SpecError
from hwprof.session.captured import Shapes, counted_model, counted_server
from hwprof.specs.job.step import TrainingJob
from hwprof.specs.model.spec import ModelSpec

pytestmark = pytest.mark.filterwarnings("ignore")  # what transformers warns of is its own affair

BATCH, LENGTH = 2, 64
WIDE = {"hidden_size": 128, "intermediate_size": 256, "vocab_size": 512, "num_hidden_layers": 4}

BOTH: dict[str, tuple[str, str, dict[str, Any]]] = {
    "decoder": ("llama", "LlamaForCausalLM", DECODER | WIDE),
    "experts": ("qwen3_moe", "Qwen3MoeForCausalLM", NARROW_MOE | WIDE | {"num_experts": 8, "head_dim": 32}),
    "latent attention": (
        "deepseek_v3",
        "DeepseekV3ForCausalLM",
        MLA | WIDE | {"q_lora_rank": 48, "n_shared_experts": 1, "n_routed_experts": 8},
    ),
    "learned positions": (
        "gpt2",
        "GPT2LMHeadModel",
        {"n_embd": 128, "n_layer": 4, "n_head": 4, "n_positions": 64, "vocab_size": 512},
    ),
    "encoder": (
        "bert",
        "BertForMaskedLM",
        WIDE | {"num_attention_heads": 4, "max_position_embeddings": 64},
    ),
}
CAUSAL = [name for name in BOTH if name != "encoder"]

Pair = Callable[[str], tuple[ModelSpec, ModelSpec, Path]]


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From then on no reader takes a file."""

    def refuse(path: object) -> ModelSpec:
        raise SpecError(f"{path}: no reader takes it")

    def hide() -> None:
        monkeypatch.setattr(session, "load_model", refuse)
        monkeypatch.setattr(session, "KNOWN_TYPES", ())

    return hide


@pytest.fixture
def pair(tmp_path: Path, unread: Callable[[], None]) -> Pair:
    """The model of a reader, and the one that was captured."""

    def both(name: str) -> tuple[ModelSpec, ModelSpec, Path]:
        path = saved(tmp_path, *BOTH[name])
        shapes = Shapes(batch_sizes=(BATCH, BATCH + 1), seq_len=LENGTH, dtype="bf16", narrow=True)
        read = counted_model(str(path), shapes)
        unread()
        return read, counted_model(str(path), shapes), path

    return both


def work_of(model: ModelSpec, **changes: Any) -> tuple[dict[str, float], float]:
    """FLOP by what does them, and the bytes of elementwise kernels in the layers, of one device's micro-batch."""
    share = work_share(model, micro_batch=BATCH, seq_len=LENGTH, fused=True, **changes)
    flop: defaultdict[str, float] = defaultdict(float)
    moved_bytes = 0.0
    for row in device_rows(share):
        times = row.times * (model.layers if row.part is Part.LAYER else 1)
        if row.unit is Unit.TRAFFIC:
            moved_bytes += row.moved_bytes * times if row.part is Part.LAYER else 0
        else:
            flop[f"{row.part.name} {row.unit.name}"] += row.flop * times
    return dict(flop), moved_bytes


@pytest.mark.parametrize("name", BOTH)
def test_a_device_does_the_same_work(name: str, pair: Pair) -> None:
    """Products by what does them to the last one; elementwise kernels, of other modules' cut, within a factor."""
    read, captured, _ = pair(name)
    assert (read.captured is None, captured.captured is None) == (True, False)
    (flop, moved_bytes), (seen, seen_bytes) = work_of(read), work_of(captured)
    assert seen == pytest.approx(flop)
    assert 0.9 < seen_bytes / moved_bytes < 1.8


def test_ranks_of_experts_and_of_tensors_do_the_same_work(pair: Pair) -> None:
    read, captured, _ = pair("experts")
    for degrees in ({"expert": 2}, {"tensor": 2, "expert_tensor": 2}):
        (flop, _), (seen, _) = work_of(read, **degrees), work_of(captured, **degrees)
        assert seen["LAYER GROUPED"] == pytest.approx(flop["LAYER GROUPED"])
        assert seen["LAYER ATTENTION"] == pytest.approx(flop["LAYER ATTENTION"])


@pytest.mark.parametrize("name", BOTH)
def test_weights_and_what_belongs_to_them_take_the_same_memory(name: str, pair: Pair) -> None:
    read, captured, _ = pair(name)
    parts = []
    for model in (read, captured):
        job = TrainingJob(model=model, seq_len=LENGTH, micro_batch=BATCH, global_batch=2 * BATCH)
        job = job.changed(layout=job.layout.changed(data_parallel=2, zero_stage=1))
        parts.append({part.name: part.predicted_bytes for part in job_memory(job).parts})
    for name_of_part in ("weights", "gradients", "optimizer state"):
        assert parts[1][name_of_part] == pytest.approx(parts[0][name_of_part], abs=200)  # numbers of steps
    kept = [sum(size for part, size in each.items() if part.startswith("activations")) for each in parts]
    assert 0.7 < kept[1] / kept[0] < 1.7


@pytest.mark.parametrize("name", BOTH)
def test_fused_kernels_keep_the_same(name: str, pair: Pair) -> None:
    """Norms what goes in, gated activations both products; experts of the class weigh rows that the reader keeps."""
    read, captured, _ = pair(name)
    kept = []
    for model in (read, captured):
        job = TrainingJob(model=model, seq_len=LENGTH, micro_batch=BATCH, global_batch=BATCH)
        job = job.changed(storage="mixed", framework="megatron-core", fused=True)
        parts = {part.name: part.predicted_bytes for part in job_memory(job).parts}
        kept.append({part: size for part, size in parts.items() if part.startswith("activations")})
    ratio = sum(kept[1].values()) / sum(kept[0].values())
    assert (0.99 < ratio < 1.01) if name == "decoder" else (0.7 < ratio < 1.15)


@pytest.mark.parametrize("name", [name for name in CAUSAL if name != "latent attention"])
def test_generation_reads_the_same_weights_and_keeps_the_same_cache(
    name: str, tmp_path: Path, unread: Callable[[], None]
) -> None:
    """But for latent attention, of which classes of transformers cache every head's keys."""
    path = saved(tmp_path, *BOTH[name])
    asked = ("--model", str(path), "--inference", "--batch-size", "2", "--prompt-len", "32", "--new-tokens", "8")

    def answer() -> dict[str, Any]:
        done = CliRunner().invoke(count, (*asked, "--hardware", "h100-sxm", "--format", "json"), catch_exceptions=False)
        found: dict[str, Any] = json.loads(done.stdout)["inference"]
        return found

    read = answer()
    unread()
    seen = answer()
    for phase in ("prefill", "decode"):
        for key in ("passes", "flop", "causal_flop", "least_bytes"):
            assert seen[phase][key] == pytest.approx(read[phase][key], rel=2e-3), (phase, key)
    assert seen["kv_cache_bytes"] == read["kv_cache_bytes"]
    assert seen["memory"]["weights_bytes"] == read["memory"]["weights_bytes"]


@pytest.mark.parametrize("name", CAUSAL)
def test_a_server_holds_the_same(name: str, tmp_path: Path, unread: Callable[[], None]) -> None:
    path = saved(tmp_path, *BOTH[name])
    read = read_config(path)
    unread()
    seen = counted_server(str(path))
    assert seen.tied == read.tied
    assert seen.parameters == pytest.approx(read.parameters, rel=0.03)  # norms, biases and positions of such small ones
    assert (seen.layers, seen.expert_weights) == (read.layers, read.expert_weights)
    cached = [sum(one.layers * one.cached_numbers for one in model.mixing) for model in (read, seen)]
    assert cached[0] == cached[1] > 0


def test_a_step_takes_as_long(tmp_path: Path, unread: Callable[[], None]) -> None:
    """As wide as Llama 3.1 8B and Qwen3 30B A3B, with few layers, in fused kernels and in transformers' own."""
    shape = DECODER | {"num_hidden_layers": 4, "num_attention_heads": 32, "vocab_size": 32000, "head_dim": 128}
    dense = shape | {"hidden_size": 4096, "intermediate_size": 14336, "num_key_value_heads": 8}
    sparse = shape | {"hidden_size": 2048, "num_key_value_heads": 4, "num_experts": 128, "num_experts_per_tok": 8}
    files = {}
    for kind, made, keys in (
        ("llama", "LlamaForCausalLM", dense),
        ("qwen3_moe", "Qwen3MoeForCausalLM", sparse | {"moe_intermediate_size": 768, "decoder_sparse_step": 1}),
    ):
        (tmp_path / kind).mkdir()
        files[kind] = str(saved(tmp_path / kind, kind, made, keys | {"max_position_embeddings": 2048}))
    asked = ("--hardware", "8xh100-sxm", "--seq-len", "2048", "--zero", "3", "--format", "json")
    cases = [(kind, stack) for kind in files for stack in ("megatron-core", "huggingface")]

    def steps() -> list[float]:
        typed = [("--model", files[kind], "--stack", stack, *asked) for kind, stack in cases]
        done = [CliRunner().invoke(simulate, each, catch_exceptions=False).stdout for each in typed]
        return [json.loads(each)["breakdown_s"]["compute"] for each in done]

    read = steps()
    unread()
    assert steps() == pytest.approx(read, rel=0.15)


@pytest.mark.parametrize("kind", ["gated delta", "state space 2"])
def test_recurrences_run_as_their_kernels_in_eager_stacks_too(kind: str, tmp_path: Path) -> None:
    """A job's recurrences are not loops of torch's operators, which would move ten times as much; the rest is eager."""
    path = saved(tmp_path, *OTHER_TYPES[kind])
    asked = ("--hardware", "1xh100-sxm", "--seq-len", "2048", "--global-batch", "4", "--format", "json")
    answers = []
    for stack in ("megatron-core", "huggingface"):
        typed = ("--model", str(path), "--stack", stack, *asked)
        answers.append(json.loads(CliRunner().invoke(simulate, typed, catch_exceptions=False).stdout))
    for answer in answers:
        assert any("kernels of flash-linear-attention and mamba-ssm" in line for line in answer["basis"])
    kept = [
        sum(size for part, size in answer["memory"]["breakdown"].items() if part.startswith("activations"))
        for answer in answers
    ]
    assert 1 < kept[1] / kept[0] < 3
