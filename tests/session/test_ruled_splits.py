"""Layers that no plan of a class shares: a rank has what a module of half the inner widths has, and does its work."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from captured_types import saved, work_share
from click.testing import CliRunner
from other_types import OTHER_TYPES
from small_transformers import DECODER, NARROW_MOE, transformers

from hwprof.cli.simulate import command as simulate
from hwprof.count.blocks.captured import captured_parts, summed_streams, tokens_split
from hwprof.count.blocks.parameters import parameter_tensors
from hwprof.count.blocks.transformer import model_ops
from hwprof.count.job.device_work import device_rows
from hwprof.count.job.rows import Unit
from hwprof.count.job.tensor_split import TensorSplit
from hwprof.count.memory.job import job_memory
from hwprof.count.ops.operation import Op
from hwprof.count.ops.precision import Precision
from hwprof.errors import InputError
from hwprof.predict.stacks import stack_named
from hwprof.session.captured import Shapes, counted_model
from hwprof.specs.job.step import TrainingJob
from hwprof.specs.model.spec import ModelSpec

pytestmark = pytest.mark.filterwarnings("ignore")  # what transformers warns of is its own affair

BATCH, LENGTH = 2, 16
_HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "intermediate_size": 80, "vocab_size": 64}
_HALF_HEADS = {
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "intermediate_size": 40,
    "vocab_size": 32,
}
_TWO_GROUPS, _ONE_GROUP = {"mamba_n_groups": 2}, {"mamba_n_groups": 1}

HALVES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "state space beside attention": (
        "state space beside attention",
        _HEADS | _TWO_GROUPS,
        _HALF_HEADS | _ONE_GROUP | {"mamba_d_ssm": 32, "mamba_n_heads": 4},
    ),
    "one group, which ranks repeat": (
        "state space beside attention",
        _HEADS | _ONE_GROUP,
        _HALF_HEADS | _ONE_GROUP | {"mamba_d_ssm": 32, "mamba_n_heads": 4},
    ),
    "state space 2": (
        "state space 2",
        {"n_groups": 2, "expand": 2, "vocab_size": 64},
        {"n_groups": 1, "expand": 1, "num_heads": 4, "vocab_size": 32},
    ),
    "lightning attention": ("lightning attention", _HEADS, _HALF_HEADS),
    "state space 1": (
        "state space 1",
        {"expand": 2, "vocab_size": 64},
        {"expand": 1, "vocab_size": 32},
    ),
    "gated delta, gathered by its class": (
        "gated delta",
        _HEADS | {"shared_expert_intermediate_size": 24},
        _HALF_HEADS
        | {"linear_num_key_heads": 1, "linear_num_value_heads": 2, "moe_intermediate_size": 12}
        | {"shared_expert_intermediate_size": 12},
    ),
    "layers of one kind each": (
        "layers of one kind each",
        _HEADS
        | {"mamba_num_heads": 8, "n_groups": 2, "moe_intermediate_size": 24, "moe_shared_expert_intermediate_size": 48},
        _HALF_HEADS
        | {"mamba_num_heads": 4, "n_groups": 1, "moe_intermediate_size": 12, "moe_shared_expert_intermediate_size": 24},
    ),
}
"""Kind of layers -> type, its keys, and what a rank of two has of them: widths between the layers stay."""

_OF_EXPERTS = (1e-9, 0.12)
_ROUGH = {
    "one group, which ranks repeat": (0.12, 0.05),
    "lightning attention": _OF_EXPERTS,
    "gated delta, gathered by its class": _OF_EXPERTS,
}
"""FLOP and kept bytes: of what is repeated the work is not; of experts inputs are in one row with what lies between."""

_TYPES = OTHER_TYPES | {
    "state space 1": (
        "mamba",
        "MambaForCausalLM",
        {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 4, "time_step_rank": 2, "tie_word_embeddings": False},
    ),
    "gated delta, not planned": (
        "olmo_hybrid",
        "OlmoHybridForCausalLM",
        DECODER
        | {
            "linear_num_key_heads": 4,
            "linear_num_value_heads": 4,
            "linear_key_head_dim": 8,
            "linear_value_head_dim": 16,
        }
        | {"layer_types": ["linear_attention", "full_attention"], "num_hidden_layers": 2, "vocab_size": 64},
    ),
    "layers of one kind each": (
        "nemotron_h",
        "NemotronHForCausalLM",
        NARROW_MOE
        | {"layers_block_type": ["mamba", "moe", "attention"], "n_routed_experts": 4, "n_shared_experts": 1}
        | {"mamba_head_dim": 8, "ssm_state_size": 16, "chunk_size": 8, "tie_word_embeddings": False},
    ),
}


def captured(folder: Path, kind: str, keys: dict[str, Any], **how: Any) -> ModelSpec:
    name, made, own = _TYPES[kind]
    path = saved(folder, name, made, own | keys)
    return counted_model(str(path), Shapes(**{"batch_sizes": (BATCH,), "seq_len": LENGTH, "dtype": "bf16"} | how))


def elements(kind: str, keys: dict[str, Any]) -> int:
    name, _, own = _TYPES[kind]
    config = transformers.CONFIG_MAPPING[name](**own | keys)
    module = transformers.AutoModelForCausalLM.from_config(config)
    return sum(each.numel() for each in module.parameters())


def split_of(ranks: int, model: ModelSpec, **how: Any) -> TensorSplit:
    plain: dict[str, Any] = {"sequence_parallel": False, "expert_parallel": 1, "expert_tensor": ranks, "latent": False}
    parts = captured_parts(model)
    return TensorSplit(**plain | {"tensor_parallel": ranks, "keeps_gathered": True, "captured": parts} | how)


def held(ranks: int, model: ModelSpec) -> float:
    """Elements of all weights that one of so many ranks has."""
    split = split_of(ranks, model)
    return sum(split.elements_of(tensor) * tensor.repeats for tensor in parameter_tensors(model))


def flop_of(model: ModelSpec, ranks: int) -> dict[str, float]:
    """FLOP of one rank's micro-batch, by where and what."""
    share = work_share(model, micro_batch=BATCH, seq_len=LENGTH, fused=False, tensor=ranks, expert_tensor=ranks)
    found: defaultdict[str, float] = defaultdict(float)
    for row in device_rows(share):
        if row.unit is not Unit.TRAFFIC:
            found[f"{row.part.name} {row.unit.name}"] += row.flop * row.times
    return dict(found)


def activations(model: ModelSpec, ranks: int, **layout: Any) -> float:
    job = TrainingJob(model=model, seq_len=LENGTH, micro_batch=BATCH, global_batch=BATCH, dtype="bf16")
    parts = job_memory(job.changed(layout=job.layout.changed(tensor_parallel=ranks, **layout))).parts
    return sum(part.predicted_bytes for part in parts if part.name.startswith("activations"))


@pytest.mark.parametrize("name", HALVES)
def test_a_rank_of_two_is_a_module_of_half_the_widths(name: str, tmp_path: Path) -> None:
    kind, keys, half_keys = HALVES[name]
    whole = stack_named("megatron-core").trained(captured(tmp_path, kind, keys))
    half = captured(tmp_path, kind, half_keys)
    assert held(1, whole) == elements(kind, keys)
    assert held(2, whole) == pytest.approx(elements(kind, half_keys), rel=1e-12)
    assert whole.captured
    assert whole.captured.ruled_share > 0
    flop, kept = _ROUGH.get(name, (1e-9, 0.03))
    assert flop_of(whole, 2) == pytest.approx(flop_of(half, 1), rel=flop)
    assert activations(whole, 2, sequence_parallel=False) == pytest.approx(activations(half, 1), rel=kept)


def rank_elements(model: ModelSpec, ranks: int, part: str) -> float:
    split = split_of(ranks, model)
    own = [tensor for tensor in parameter_tensors(model) if tensor.label.startswith(part)]
    return sum(split.elements_of(tensor) for tensor in own for _ in range(tensor.repeats))


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_gated_delta_is_split_as_megatron_core_splits_it(ranks: int, tmp_path: Path) -> None:
    """``gated_delta_net.py``: queries, keys, values, gates, two numbers a head; kernels of 4; a norm of one head."""
    model = captured(tmp_path, "gated delta, not planned", {})
    keys, values, heads, width = 4 * 8, 4 * 16, 4, 32
    split = width * (2 * keys + 2 * values + 2 * heads) + 4 * (2 * keys + values) + 2 * heads + values * width
    assert rank_elements(model, ranks, "layers.*.linear_attn") == split / ranks + 16


@pytest.mark.parametrize(("ranks", "in_each"), [(1, 38_742_208), (2, 19_371_104), (8, 4_842_776)])
def test_mixers_of_nemotron_3_nano_are_split_as_megatron_core_splits_them(ranks: int, in_each: int) -> None:
    """``mamba_mixer.py``: 64 heads of 64, 8 groups of states of 128, kernels of 4 with biases; width 2,688.

    One rank: 2,688 x (2 x 4,096 + 2 x 1,024 + 64) + 5 x (4,096 + 2 x 1,024) + 3 x 64 + 4,096 + 4,096 x 2,688.
    """
    model = counted_model("nemotron-3-nano-30b-a3b", Shapes(batch_sizes=(1,), seq_len=LENGTH, dtype="bf16"))
    mixers = ("layers.*.mixer.in_proj", "layers.*.mixer.norm", "layers.*.mixer.out_proj")
    split, here = split_of(ranks, model), 0.0
    for tensor in parameter_tensors(model):
        if tensor.label in {*mixers, "layers.*.mixer"}:
            here += split.elements_of(tensor) * tensor.repeats
    assert here == 23 * in_each


def test_short_convolutions_are_split_by_channels(tmp_path: Path) -> None:
    """LFM2: three channels of 32 from the stream, kernels of 3, and back; its network 3 x 32 x 256."""
    model = captured(tmp_path, "short convolution", {"vocab_size": 64})
    assert rank_elements(model, 2, "layers.*.conv") == 2 * (3 * 32 * 32 + 32 * 3 + 32 * 32) / 2
    assert rank_elements(model, 2, "layers.*.feed_forward") == 3 * 3 * 32 * 256 / 2
    assert rank_elements(model, 2, "layers.*.self_attn") == (32 * 32 * 2 + 2 * 16 * 32) / 2 + 2 * 8
    assert summed_streams(model) == 2


def test_a_narrow_result_within_a_mixer_is_summed_and_whole(tmp_path: Path) -> None:
    """Mamba: 34 numbers for steps and states come from channels that are split, and feed channels that are split."""
    model = captured(tmp_path, "state space, attention, experts", {"vocab_size": 64})
    mixer = 32 * 128 + 64 * 34 + 64 * 2 + 64 * 32 + 64 * (4 + 1 + 1 + 1 + 16)
    assert rank_elements(model, 2, "layers.*.mamba") == 2 * (mixer / 2 + 2 + 2 * 16)
    assert summed_streams(model) == (2 * (1 + 34 / 32) + 2 + 2 + 2) / 4  # mixers, attention, networks, experts
    parts = captured_parts(model)
    assert {parts.part_of(f"layers.*.mamba.{norm}_layernorm") for norm in ("dt", "b", "c")} == {"whole"}


def test_tokens_between_the_parts_are_split_where_nothing_is_gathered(tmp_path: Path) -> None:
    """Sequence parallelism: norms and residuals keep a share; a plan of a class that gathers leaves tokens whole."""
    model = captured(tmp_path, "state space beside attention", _HEADS)
    assert tokens_split(model)
    assert not tokens_split(captured(tmp_path, "gated delta", {}))
    norms = [op for op in _ops(model) if op.label == "layers.*.input_layernorm" and op.saved_bytes]
    for apart, share in ((True, 0.5), (False, 1.0)):
        split = split_of(2, model, sequence_parallel=apart)
        assert [split.of_op(op).saved_bytes for op in norms] == [round(op.saved_bytes * share) for op in norms]
    assert activations(model, 2) < activations(model, 2, sequence_parallel=False)


def _ops(model: ModelSpec) -> tuple[Op, ...]:
    how: dict[str, Any] = {"batch_size": BATCH, "seq_len": LENGTH, "precision": Precision.of("bf16")}
    return model_ops(model, **how)


def test_what_does_not_divide_is_refused_with_the_nearest_degree(tmp_path: Path) -> None:
    kind, made, own = _TYPES["state space beside attention"]
    path = saved(tmp_path, kind, made, own | {"num_attention_heads": 6, "num_key_value_heads": 6, "head_dim": 8})
    asked = ("--model", str(path), "--seq-len", "16", "--format", "json")
    refused = CliRunner().invoke(simulate, (*asked, "--hardware", "3xh100-sxm", "--tp", "3"))
    assert isinstance(refused.exception, InputError)
    assert "8 heads of state spaces do not divide by tensor parallel 3 (nearest: 2 and 4)" in str(refused.exception)
    taken = CliRunner().invoke(simulate, (*asked, "--hardware", "2xh100-sxm", "--tp", "2"), catch_exceptions=False)
    basis = " ".join(json.loads(taken.stdout)["basis"])
    assert "of the layers' weights, as Megatron-Core would; between them tokens are split" in basis
    assert "tensor ranks beyond 1 repeat the groups of its state spaces" in basis
